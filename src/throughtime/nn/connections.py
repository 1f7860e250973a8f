"""How does a layer's input reach the layer above? Through the layer alone, or past it, too.

    plain      y = F(x)
    residual   y = F(x) + x
    highway    y = t F(x) + (1 - t) x,  t = sigmoid(W x + b)

F is the layer, both directions of it. Where its input and output differ in width, it is plain;
the state is always F's own.

Source:
    residual: He et al. 2016, arXiv:1512.03385; of recurrent layers Wu et al. 2016,
    arXiv:1609.08144, sec. 3.1. highway: Srivastava et al. 2015, arXiv:1505.00387, eq. 3; b starts
    at -1, so that x passes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from throughtime.errors import ConfigError
from throughtime.nn.runs import Run

__all__ = ["Connections", "check_connections", "initialise", "join", "joined_widths", "register"]

Connections = Literal["plain", "residual", "highway"]
_CARRY_BIAS = -1.0


def check_connections(kind: Any) -> Connections:
    """Return the name of a kind, or refuse it."""
    if kind not in get_args(Connections):
        raise ConfigError(
            f"connections={kind!r}; expected {', '.join(map(repr, get_args(Connections)))}."
        )
    return kind


def joined_widths(kind: Connections, runs: Sequence[Run], directions: int) -> dict[int, int]:
    """Which layers are joined, with their width: none if plain, else those as wide as their input.

    Raises:
        ConfigError: there is none, so that the option would do nothing.
    """
    if kind == "plain":
        return {}
    widths = [
        (run.sizes.input, directions * run.jobs[False, None].output_size)
        for run in runs[::directions]
    ]
    found = {layer: x for layer, (x, y) in enumerate(widths) if x == y}
    if not found:
        pairs = ", ".join(f"{x} -> {y}" for x, y in widths)
        raise ConfigError(
            f"connections={kind!r}, but no layer is as wide as its input (the layers are {pairs}); "
            f"take two or more layers of one width, or connections='plain'."
        )
    return found


def _names(layer: int) -> tuple[str, str]:
    return f"weight_highway_l{layer}", f"bias_highway_l{layer}"


def register(module: nn.Module, widths: Mapping[int, int], like: Tensor) -> None:
    """Give a module the parameters of highways, uninitialised."""
    for layer, width in widths.items():
        weight, bias = _names(layer)
        module.register_parameter(weight, nn.Parameter(like.new_empty(width, width)))
        module.register_parameter(bias, nn.Parameter(like.new_empty(width)))


def initialise(module: nn.Module, layers: Iterable[int]) -> None:
    """W of highways evenly in +-1/sqrt(width), b at -1."""
    for layer in layers:
        weight, bias = (getattr(module, name) for name in _names(layer))
        nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)
        nn.init.constant_(bias, _CARRY_BIAS)


def join(module: nn.Module, layer: int, x: Tensor, y: Tensor, lengths: Tensor | None) -> Tensor:
    """A layer's output with its input past it, as a residual or, if it has one, a highway.

    Shape:
        x; y, zero past the lengths; result, likewise: [T, B, width]; lengths: [B]
    """
    if lengths is not None:  # zeros in place of padding, where a NaN would come back as 0 * NaN
        real = torch.arange(x.shape[0], device=x.device)[:, None] < lengths
        x = torch.where(real.unsqueeze(-1), x, x.new_zeros(()))
    weight, bias = (getattr(module, name, None) for name in _names(layer))
    if weight is None:
        return (y + x).to(y.dtype)  # under autocast y is narrower than x
    t = torch.sigmoid(functional.linear(x, weight, bias))
    return (t * y + (1.0 - t) * x).to(y.dtype)
