"""How is a declared cell compared with a loop written by hand? On one draw of small tensors.

A loop is a generator: from x, the weights and params by name and the first states, at every step
the output and all states.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from graph_loop import Given, draw_given, forward
from throughtime.declare import Cell
from throughtime.declare.slots import Sizes

__all__ = ["BOUND", "SIZES", "H", "Loop", "given_to", "largest_error", "split"]

SIZES = Sizes(input=5, hidden=4, projection=3)
H = SIZES.hidden
BOUND = 1e-14  # a few roundings of values of size 1

Loop = Callable[..., Iterator[tuple[Tensor, tuple[Tensor, ...]]]]


def split(weights: dict[str, Tensor], *names: str, gates: int) -> list[tuple[Tensor, ...]]:
    """The rows of each gate of some tensors."""
    return [weights[name].split(weights[name].shape[0] // gates) for name in names]


def given_to(cell: Cell, seed: int = 0) -> Given:
    """Random inputs for six steps of two rows."""
    return draw_given(cell, SIZES, steps=6, batch=2, seed=seed)


def by_hand(loop: Loop, given: Given) -> tuple[Tensor, list[Tensor]]:
    """The outputs and the states of every step."""
    start = [h[-1] for h in given.histories.values()]
    out, states = zip(*loop(given.x, given.weights, given.params, *start), strict=True)
    return torch.stack(out), [torch.stack(s) for s in zip(*states, strict=True)]


def largest_error(cell: Cell, loop: Loop, given: Given | None = None) -> float:
    """How far the cell's outputs and states are from the loop's."""
    given = given or given_to(cell)
    seen = forward(cell, SIZES, given)
    out, states = by_hand(loop, given)
    pairs = [(seen.out, out), *zip(seen.states.values(), states, strict=True)]
    return max((got - want).abs().max().item() for got, want in pairs)
