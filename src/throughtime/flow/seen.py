"""What values does a node of the step's graph take over a passage? Looked through in parts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.declare.graph import Node
from throughtime.flow.cell_steps import CellSteps

__all__ = ["Seen", "looked_through"]

_MOST_NUMBERS = 2**20  # of one value at a time


@dataclass
class Seen:
    """What was seen of one value at the real steps of all rows, unit by unit, in float64.

    Attributes:
        count: Steps of rows.
        total: The sum over them.
        low, high: The smallest and the largest value.
        size_low, size_high: The same of the absolute value, over units too.
        near: How many values are within a distance of one of two bounds.

    Shape:
        total, low, high: [w]
    """

    total: Tensor
    low: Tensor
    high: Tensor
    count: int = 0
    size_low: float = math.inf
    size_high: float = 0.0
    near: int = 0

    def mean(self) -> Tensor:
        """Of each unit."""
        return self.total / max(self.count, 1)

    def add(self, values: Tensor, bounds: tuple[float, float], distance: float) -> None:
        """See more of it; [N, w]."""
        if not values.shape[0]:
            return
        sizes = values.abs()
        self.count += values.shape[0]
        self.total += values.sum(0)
        self.low, self.high = self.low.minimum(values.amin(0)), self.high.maximum(values.amax(0))
        if values.isfinite().all():
            self.size_low = min(self.size_low, sizes.min().item())
            self.size_high = max(self.size_high, sizes.max().item())
        else:
            self.size_low, self.size_high = 0.0, math.inf
        near = (values <= bounds[0] + distance) | (values >= bounds[1] - distance)
        self.near += int(near.sum())


_BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
_NONE = (-math.inf, math.inf)


def looked_through(
    steps: CellSteps, nodes: Sequence[Node], real: Tensor, *, distance: float = 0.0
) -> dict[Node, Seen]:
    """What values nodes take over the real steps.

    Args:
        steps: The cell's steps.
        nodes: Of the step's graph.
        real: Which steps lie within their row's length.
        distance: How near to a bound of its sigmoid or tanh a value is counted.

    Shape:
        real: [T, B]
    """
    found = {n: _nothing(steps.job.sizes.of(n.width)) for n in nodes}
    for part, values in _parts(steps, list(found)):
        here = real[part]
        for (n, seen), value in zip(found.items(), values, strict=True):
            taken = value.expand(*here.shape, len(seen.total))[here].double().cpu()
            seen.add(taken, _BOUNDS.get(n.op, _NONE), distance)
    return found


def _nothing(width: int) -> Seen:
    zeros = torch.zeros(width, dtype=torch.float64)
    return Seen(zeros, zeros + math.inf, zeros - math.inf)


def _parts(steps: CellSteps, nodes: Sequence[Node]) -> Iterator[tuple[slice, list[Tensor]]]:
    numbers = max(steps.rows * max(steps.widths), 1)
    chunk = max(1, _MOST_NUMBERS // numbers)
    for start in range(0, steps.count, chunk) if nodes else ():
        part = slice(start, start + chunk)
        yield part, steps.values(nodes, part)
