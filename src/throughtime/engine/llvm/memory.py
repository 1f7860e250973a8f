"""How does a kernel find a tensor? Its address at the first step, and how far steps and rows are."""

from array import array
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place

__all__ = ["Arguments", "Span", "rows_of", "span", "wide"]


class Span(NamedTuple):
    """Numbers in memory, as a kernel sees them.

    Attributes:
        address: Of the first number of the first row at the first step.
        step, row: How far apart steps and rows are, in numbers.
    """

    address: int
    step: int
    row: int


def span(a: Tensor, index: int, steps: int, direction: int) -> Span:
    """Some steps of a tensor [*, B, *] in the order in which a kernel takes them.

    Args:
        a: A tensor whose last dimension is contiguous; of two dimensions if it is [*, B].
        index: Where the first step in time lies.
        steps: How many steps there are.
        direction: 1 if the kernel takes them as time goes, -1 if backwards.
    """
    far, row = a.stride(0), a.stride(1)
    first = index if direction > 0 else index + max(steps, 1) - 1
    return Span(a.data_ptr() + first * far * a.element_size(), direction * far, row)


def wide(a: Tensor) -> Tensor:
    """A tensor whose rows can be loaded in whole vectors: itself, or a padded copy."""
    if a.shape[-1] % 16 == 0 and a.stride(-1) == 1:
        return a
    return functional.pad(a, (0, padded(a.shape[-1]) - a.shape[-1]))


def rows_of(a: Tensor, index: int, steps: int, width: int) -> Tensor:
    """Some steps of [*, B, stride] as one matrix [T B, width]."""
    batch = a.shape[1]
    return a.view(-1, a.shape[2])[index * batch : (index + steps) * batch, :width]


class Arguments:
    """The array of a kernel's arguments."""

    def __init__(self, size: int) -> None:
        self.slots = array("q", bytes(8 * size))

    def put(self, slot: int, *values: int) -> None:
        """Set neighbouring slots."""
        for i, value in enumerate(values):
            self.slots[slot + i] = value

    @property
    def address(self) -> int:
        """Of the array."""
        return self.slots.buffer_info()[0]


Finder = Callable[[Place], Span]
