"""How do a layer's weights reach the kernels, and their gradients come back?

The tiles read packed panels; products over all steps read matrices whose rows are in the order of
the gates in memory. Both are made anew at each call: an edit through `.data` leaves no trace that a
cache could notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Width, terms
from throughtime.engine.job import Job, by_gate
from throughtime.engine.llvm.layout import Layout
from throughtime.engine.llvm.schedule import Pass
from throughtime.engine.llvm.skeleton import Tiling
from throughtime.engine.llvm.tiles import Shape

__all__ = ["Weights", "packed"]


def packed(dense: Tensor, tiling: Tiling, shape: Shape, lanes: int) -> Tensor:
    """Panels as the tiles read them.

    Args:
        dense: What is multiplied: for each column and read, a number for each unit and k.
        tiling: How the stage is cut.
        shape: The block of the pass.
        lanes: Numbers a vector.

    Shape:
        dense: [columns, reads, units, K]; result: [panels, reads, tiles, K, numbers a tile]
    """
    columns, reads, units, count = dense.shape
    wide = shape.vectors * lanes
    more_columns = -columns % (wide // tiling.units) if wide > tiling.units else 0
    more_units = -units % tiling.units
    if more_columns or more_units:
        dense = functional.pad(dense, (0, 0, 0, more_units, 0, 0, 0, more_columns))
        columns, units = columns + more_columns, units + more_units
    panels = units // tiling.units
    if tiling.units % wide == 0:
        cut = dense.view(columns, reads, panels, tiling.units // wide, wide, count)
        return cut.permute(2, 1, 0, 3, 5, 4).contiguous()
    each = wide // tiling.units
    cut = dense.view(columns // each, each, reads, panels, tiling.units, count)
    return cut.permute(3, 2, 0, 5, 1, 4).contiguous()


@dataclass(frozen=True)
class Weights:
    """The weights of one call."""

    job: Job
    layout: Layout
    tensors: tuple[Tensor, ...]

    @cached_property
    def _by_gate(self) -> tuple[dict[tuple[str, int], Tensor], dict[str, list[Tensor]]]:
        return by_gate(self.job, self.tensors)

    def dense(self, p: Pass) -> Tensor:
        """What a pass multiplies; several reads are one where their rows follow each other.

        Shape:
            [columns, reads, units, K]
        """
        matrices = self._by_gate[0]
        columns: list[Tensor] = []
        known = next(m for column in p.matrices for m in column if m is not None)
        like = matrices[known[0], known[1]]
        for column in p.matrices:
            parts = [matrices[m[0], m[1]] if m else torch.zeros_like(like) for m in column]
            if known[2]:
                units = parts[0].shape[1]
                joined = torch.stack(parts) if len(parts) > 1 else parts[0].unsqueeze(0)
                whole = joined.shape[1] % 16 == 0
                joined = joined.reshape(1, -1, units) if whole else joined
                columns.append(joined.transpose(1, 2))
            else:
                columns.append(parts[0].unsqueeze(0))
        return torch.stack(columns) if len(columns) > 1 else columns[0].unsqueeze(0)

    def input_matrix(self, width: Width) -> Tensor | None:
        """The sum of each gate's matrices on x, in the order of the row; None without any.

        Shape:
            [gates of the row that read x, apart, I], flattened to two dimensions
        """
        found = [self._on_x(gate) for gate in self.layout.gates[width]]
        rows = [m for m in found if m is not None]
        if not rows:
            return None
        apart = self.layout.apart(width)
        return torch.cat([functional.pad(m, (0, 0, 0, apart - m.shape[0])) for m in rows])

    def _on_x(self, gate: str) -> Tensor | None:
        matrices = self._by_gate[0]
        kinds = enumerate(terms(self.job.cell.affines[gate]))
        found = [matrices[gate, place] for place, t in kinds if t.kind == "input"]
        return sum(found[1:], found[0]) if found else None

    def bias(self, gate: str) -> Tensor | None:
        """A gate's bias, padded to whole vectors."""
        parts = self._by_gate[1].get(gate)
        if not parts:
            return None
        total = sum(parts[1:], parts[0])
        return functional.pad(total, (0, self.layout.apart(self.layout.width[gate]) - len(total)))


def input_gates(job: Job, gates: Sequence[str]) -> tuple[str, ...]:
    """The gates that read x; they come first in a row."""
    reads = job.cell.affines
    return tuple(g for g in gates if any(t.kind == "input" for t in terms(reads[g])))
