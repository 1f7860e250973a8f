"""Which tensors does a layer own? Parameters, buffers and their names, for a cell."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from throughtime.declare import Blocks, Cell, Param, Uniform
from throughtime.declare.slots import Biases, Sizes, slots


@dataclass(frozen=True)
class Names:
    """The attribute names of one layer and direction, in the order engines take them."""

    weights: tuple[str, ...]
    params: tuple[str, ...]
    initial: tuple[str, ...]


def names_of(cell: Cell, biases: Biases, suffix: str, *, learned: bool) -> Names:
    """The names of a layer's tensors; suffix is e.g. "_l0_reverse"."""
    return Names(
        weights=tuple(f"{slot.name}{suffix}" for slot in slots(cell, biases)),
        params=tuple(f"{p.name}{suffix}" for p in cell.params),
        initial=tuple(f"initial_{s.name}{suffix}" for s in cell.states if learned and not s.clock),
    )


def register(
    module: nn.Module, cell: Cell, sizes: Sizes, biases: Biases, names: Names, like: Tensor
) -> None:
    """Give a module the tensors of one layer and direction, uninitialised."""
    for name, slot in zip(names.weights, slots(cell, biases), strict=True):
        module.register_parameter(name, nn.Parameter(like.new_empty(slot.shape(sizes))))
    for name, param in zip(names.params, cell.params, strict=True):
        value = like.new_empty(sizes.of(param.width))
        if param.trainable:
            module.register_parameter(stored_name(name, param), nn.Parameter(value))
        else:
            module.register_buffer(name, value)
    moving = [s for s in cell.states if not s.clock]
    for name, state in zip(names.initial, moving if names.initial else [], strict=True):
        module.register_parameter(name, nn.Parameter(like.new_empty(sizes.of(state.width))))


def is_bounded(param: Param) -> bool:
    """Whether a param is kept as a raw tensor that its bounds are computed from."""
    return param.trainable and (param.low is not None or param.high is not None)


def stored_name(name: str, param: Param) -> str:
    """The attribute that holds a param: for a bounded one `{param}_raw_l0`."""
    return name.replace(param.name, f"{param.name}_raw", 1) if is_bounded(param) else name


def bounded(raw: Tensor, param: Param) -> Tensor:
    """A value within the param's bounds.

    low + (high - low) sigmoid(raw); with one bound, low + softplus(raw) or high - softplus(raw)
    """
    if param.low is not None and param.high is not None:
        return param.low + (param.high - param.low) * torch.sigmoid(raw)
    if param.low is not None:
        return param.low + functional.softplus(raw)
    return param.high - functional.softplus(raw) if param.high is not None else raw


def unbounded(value: Tensor, param: Param) -> Tensor:
    """The raw tensor whose bounded value this is."""
    if param.low is not None and param.high is not None:
        return torch.logit((value - param.low) / (param.high - param.low))
    below = param.low is None
    gap = (param.high or 0.0) - value if below else value - (param.low or 0.0)
    return gap + torch.log(-torch.expm1(-gap))  # the inverse of softplus, exact for small gaps


def fill_param(target: Tensor, param: Param) -> None:
    """Give a stored param its initial value."""
    with torch.no_grad():
        if isinstance(param.init, Uniform):
            target.uniform_(param.init.low, param.init.high)
        elif isinstance(param.init, Blocks):
            target.copy_(_in_blocks(param.init, target))
        else:
            target.fill_(param.init)
        if is_bounded(param):
            target.copy_(unbounded(target.double(), param))


def _in_blocks(blocks: Blocks, like: Tensor) -> Tensor:
    size = math.ceil(like.numel() / len(blocks.values))
    return torch.tensor(blocks.values).repeat_interleave(size)[: like.numel()]
