"""How do the matrices that read x lie, and in which order do gates share a product?

Edits of a weight through `.data` leave no trace that a cache could notice, so nothing is kept from
call to call; where the gates lie in memory as they stand in the weight, the weight itself is used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Width, terms
from throughtime.engine.job import Job, rows
from throughtime.engine.llvm.layout import Layout

__all__ = ["Inputs", "input_gates"]


def input_gates(job: Job, gates: Sequence[str]) -> tuple[str, ...]:
    """The gates that read x; they come first in a row."""
    found = job.cell.affines
    return tuple(g for g in gates if any(t.kind == "input" for t in terms(found[g])))


@dataclass(frozen=True)
class Inputs:
    """The matrices that read x, for the gates of each width."""

    job: Job
    layout: Layout

    @cached_property
    def _where(self) -> dict[Width, list[list[tuple[int, slice]]]]:
        """Of each gate of each row that reads x, its matrices: slot and rows."""
        found: dict[Width, list[list[tuple[int, slice]]]] = {}
        pieces = [
            ((piece.gate, piece.place), (index, part))
            for index, slot in enumerate(self.job.slots)
            for piece, part in rows(self.job, slot)
        ]
        place_of = dict(pieces)
        for width, row in self.layout.gates.items():
            for gate in input_gates(self.job, row):
                kinds = enumerate(terms(self.job.cell.affines[gate]))
                mine = [place_of[gate, place] for place, t in kinds if t.kind == "input"]
                found.setdefault(width, []).append(mine)
        return found

    @cached_property
    def widths(self) -> tuple[Width, ...]:
        """The widths of gates that read x."""
        return tuple(self._where)

    @cached_property
    def _whole(self) -> dict[Width, tuple[int, slice]]:
        """For each width whose gates stand in one weight as they lie in memory: where."""
        found: dict[Width, tuple[int, slice]] = {}
        for width, gates in self._where.items():
            size = self.job.sizes.of(width)
            first_slot, first = gates[0][0]
            follows = [
                len(mine) == 1
                and mine[0]
                == (first_slot, slice(first.start + i * size, first.start + (i + 1) * size))
                for i, mine in enumerate(gates)
            ]
            if all(follows) and self.layout.apart(width) == size:
                found[width] = (first_slot, slice(first.start, first.start + len(gates) * size))
        return found

    @cached_property
    def gathered(self) -> dict[Width, int]:
        """The widths whose matrices are copied together before a call, and how many rows that is.

        What pads a gate's rows is never set: it makes padding of what the gate gets, which nobody
        reads.
        """
        whole, one = self._whole, self._is_one
        apart = self.layout.apart
        return {w: len(g) * apart(w) for w, g in self._where.items() if w not in whole and one(w)}

    def _is_one(self, width: Width) -> bool:
        """Whether each gate of a width has a single matrix that reads x."""
        return all(len(mine) == 1 for mine in self._where[width])

    def copies(self) -> Iterator[tuple[tuple[object, ...], int, int, int, int]]:
        """What is copied: buffer, its row, how many rows, weight, its row."""
        for width in self.gathered:
            for i, ((index, part),) in enumerate(self._where[width]):
                row = i * self.layout.apart(width)
                yield ("input matrix", width), row, part.stop - part.start, index, part.start

    def matrix(self, width: Width, weights: Sequence[Tensor]) -> Tensor:
        """The matrix that gives all gates of a width what they get from x, if none is gathered.

        Shape:
            [gates that read x, apart], flattened, by I
        """
        whole = self._whole.get(width)
        if whole is not None:
            weight, part = weights[whole[0]], whole[1]
            return weight if part == slice(0, weight.shape[0]) else weight[part]
        apart = self.layout.apart(width)
        found: list[Tensor] = []
        for mine in self._where[width]:
            parts = [weights[index][part] for index, part in mine]
            total = sum(parts[1:], parts[0])
            found.append(functional.pad(total, (0, 0, 0, apart - total.shape[0])))
        return torch.cat(found)
