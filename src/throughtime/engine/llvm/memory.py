"""How does a kernel find numbers? In a buffer, from a place on, so far from step to step."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Width
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


def aligned(a: Tensor, width: Width) -> Tensor:
    """Contiguous, with rows that can be loaded in whole vectors: itself, or a padded copy.

    Args:
        a: Numbers, those of a row in the last dimension.
        width: The symbolic width of a row. A row of declared width 1 is loaded as one number; one
            of a width that happens to be 1 here is loaded as others are.
    """
    size = a.shape[-1]
    if width == 1 or size == padded(size):
        return a.contiguous()
    return functional.pad(a, (0, padded(size) - size))


def loadable(gradient: Tensor, declared: Width) -> Tensor:
    """A gradient as whole vectors; of a sum's, the same everywhere, one row is enough.

    Args:
        gradient: Of a state after every step, [T, B, w].
        declared: The symbolic width of the state.
    """
    width = gradient.shape[-1]
    if not any(gradient.stride()):
        one = gradient.flatten()[:1] if gradient.numel() else gradient.new_zeros(1)
        return one.expand(padded(width)).contiguous().expand(*gradient.shape[:2], padded(width))
    if gradient.stride(-1) == 1 and width == padded(width):
        return gradient
    return aligned(gradient, declared)


def rows_of(a: Tensor, index: int, steps: int, width: int) -> Tensor:
    """Some steps of [*, B, stride] as one matrix [T B, width]."""
    batch = a.shape[1]
    return a.flatten(0, 1)[index * batch : (index + steps) * batch, :width]
