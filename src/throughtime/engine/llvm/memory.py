"""How does a kernel find numbers? In a buffer, from a place on, so far from step to step."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from throughtime.engine.llvm.layout import padded

__all__ = ["Key", "Span", "aligned", "loadable", "rows_of", "span"]

Key = tuple[object, ...]


class Span(NamedTuple):
    """Numbers in memory, in the order in which a kernel takes steps.

    Attributes:
        buffer: What they lie in.
        start: The place of the first number of the first row at the first step.
        step, row: How far apart steps and rows are, in numbers.
    """

    buffer: Key
    start: int
    step: int = 0
    row: int = 0


def span(buffer: Key, strides: tuple[int, int], index: int, steps: int, direction: int) -> Span:
    """Some steps of a buffer [*, B, *].

    Args:
        buffer: What they lie in.
        strides: How far apart its steps and rows are.
        index: Where the first step in time lies.
        steps: How many steps there are.
        direction: 1 if the kernel takes them as time goes, -1 if backwards.
    """
    far, row = strides
    first = index if direction > 0 else index + max(steps, 1) - 1
    return Span(buffer, first * far, direction * far, row)


def aligned(a: Tensor) -> Tensor:
    """Contiguous, with rows that can be loaded in whole vectors: itself, or a padded copy."""
    width = a.shape[-1]
    if width == 1 or width % 16 == 0:
        return a.contiguous()
    return functional.pad(a, (0, padded(width) - width))


def loadable(gradient: Tensor) -> Tensor:
    """A gradient as whole vectors; of a sum's, the same everywhere, one row is enough."""
    width = gradient.shape[-1]
    if not any(gradient.stride()):
        one = gradient.flatten()[:1] if gradient.numel() else gradient.new_zeros(1)
        return one.expand(padded(width)).contiguous().expand(*gradient.shape[:2], padded(width))
    if gradient.stride(-1) == 1 and width % 16 == 0:
        return gradient
    return aligned(gradient)


def rows_of(a: Tensor, index: int, steps: int, width: int) -> Tensor:
    """Some steps of [*, B, stride] as one matrix [T B, width]."""
    batch = a.shape[1]
    return a.flatten(0, 1)[index * batch : (index + steps) * batch, :width]
