"""Which elements of a matrix are used? Those that the masks of its cell leave.

An idle element is zero in use, whatever is stored; so its gradient is zero, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from throughtime.declare import Cell
from throughtime.declare.graph import terms
from throughtime.declare.slots import Piece, Sizes, Slot
from throughtime.nn.parameters import Names

__all__ = ["Rows", "masks_of", "used"]


class Rows(NamedTuple):
    """Neighbouring rows of a tensor.

    Attributes:
        size: How many.
        pairs: Names of the module's tensors that are compared: of the rows, of the columns.
    """

    size: int
    pairs: tuple[tuple[str, str], ...]


def masks_of(
    cell: Cell, slots: Sequence[Slot], sizes: Sizes, names: Names
) -> dict[str, tuple[Rows, ...]]:
    """The masks of one layer and direction, by the name of the tensor; most cells have none."""
    stored = dict(zip((p.name for p in cell.params), names.params, strict=True))

    def rows(piece: Piece) -> Rows:
        masks = () if piece.place is None else terms(cell.affines[piece.gate])[piece.place].masks
        pairs = tuple((stored[row], stored[column]) for row, column in masks)
        return Rows(sizes.of(piece.width), pairs)

    found = {
        name: tuple(map(rows, slot.pieces)) for name, slot in zip(names.weights, slots, strict=True)
    }
    return {name: parts for name, parts in found.items() if any(part.pairs for part in parts)}


def used(module: nn.Module, weight: Tensor, parts: tuple[Rows, ...]) -> Tensor:
    """A stored matrix with zeros in place of its idle elements.

    Shape:
        weight: [sum of gate widths, read width]
    """
    kept = weight.new_ones(weight.shape, dtype=torch.bool)
    start = 0
    blocks: list[Tensor] = []
    for part in parts:
        block = kept[start : start + part.size]
        for rows, columns in part.pairs:
            block = block & (getattr(module, columns) >= getattr(module, rows).unsqueeze(-1))
        blocks.append(block)
        start += part.size
    return torch.where(torch.cat(blocks), weight, weight.new_zeros(()))
