"""What is the value of a graph's node? Each operation in torch, and instructions that run them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import LEAVES, Node, walk
from throughtime.declare.slots import Sizes
from throughtime.engine.clip_adjoint import clip_adjoint

OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "neg": torch.neg,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "sign": torch.sign,
    "softplus": functional.softplus,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "where": torch.where,
}


def operation(n: Node, sizes: Sizes) -> Callable[..., Tensor]:
    """The torch function that computes a node from its arguments."""
    if n.op == "pow":
        return lambda a: torch.pow(a, n.data[0])
    if n.op == "clamp":
        return lambda a: torch.clamp(a, *n.data)
    if n.op == "row_sum":
        width = sizes.of(n.args[0].width)
        return lambda a: _spread(a, width).sum(-1, keepdim=True)
    if n.op == "expand":
        width = sizes.of(n.width)
        return lambda a: _spread(a, width)
    if n.op == "now":
        return lambda a: a
    if n.op == "clip_adjoint":
        return lambda a: clip_adjoint(a, n.data[0])
    return OPERATIONS[n.op]


def _spread(a: Tensor, width: int) -> Tensor:
    """Broadcast a value of width 1, or a bare number, to all units."""
    return a.expand(*a.shape[:-1], width) if a.dim() else a.expand(width)


@dataclass(frozen=True, slots=True)
class Instruction:
    """Compute `run` of some values and put the results in their places."""

    run: Callable[..., Any]
    args: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass
class Program:
    """Instructions over numbered places; nodes are looked up by `place`."""

    sizes: Sizes
    place: dict[Any, int] = field(default_factory=dict)

    def of(self, key: Any) -> int:
        """The place of a node, or of any other named value; a new one at first mention."""
        return self.place.setdefault(key, len(self.place))

    def pointwise(self, nodes: Iterable[Node]) -> list[Instruction]:
        """One instruction for each operation among the nodes."""
        return [
            Instruction(operation(n, self.sizes), tuple(self.of(a) for a in n.args), (self.of(n),))
            for n in nodes
            if n.op not in LEAVES and n.op != "affine"
        ]


def run(instructions: Sequence[Instruction], values: list[Any]) -> None:
    """Carry out instructions in order."""
    for instruction in instructions:
        result = instruction.run(*[values[a] for a in instruction.args])
        if len(instruction.targets) == 1:
            values[instruction.targets[0]] = result
        else:
            for target, part in zip(instruction.targets, result, strict=True):
                values[target] = part


def evaluate(
    roots: Sequence[Node],
    sizes: Sizes,
    leaf: Callable[[Node], Tensor],
    product: Callable[[Node, list[Tensor]], Tensor],
) -> list[Tensor]:
    """The values of some nodes, one by one and without any cleverness.

    Args:
        roots: The nodes wanted.
        sizes: What the symbolic widths are.
        leaf: Gives the value of a leaf.
        product: Gives the value of an affine or transposed node from its arguments' values.

    Returns:
        One tensor a root.
    """
    values: dict[Node, Tensor] = {}
    for n in walk(roots):
        args = [values[a] for a in n.args]
        if n.op in LEAVES:
            values[n] = leaf(n)
        elif n.op in {"affine", "transposed"}:
            values[n] = product(n, args)
        else:
            values[n] = operation(n, sizes)(*args)
    return [values[root] for root in roots]
