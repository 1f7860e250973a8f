"""Which rows of which weight's gradient come from which neighbouring gates?"""

from collections.abc import Iterator
from typing import NamedTuple

from throughtime.declare.graph import Width, terms
from throughtime.declare.slots import Piece, Slot
from throughtime.engine.job import Job, rows
from throughtime.engine.llvm.layout import Layout
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.schedule import Schedule

__all__ = ["Rows", "rows_of_slots"]


class Rows(NamedTuple):
    """Some rows of a slot.

    Attributes:
        width: Of the gates they belong to; None if these stand in `emit`, not in the step.
        start: Where the gates begin in their row.
        gates: How many there are.
        size: Rows a gate.
        read: What their matrices read; None for a bias.
        columns: How many numbers that are.
    """

    width: Width | None
    start: int
    gates: int
    size: int
    read: Place | None
    columns: int


def rows_of_slots(
    job: Job, layout: Layout, schedule: Schedule
) -> tuple[tuple[Rows, ...] | None, ...]:
    """For each slot its rows in order; None for one that the step does not use.

    Args:
        job: What is asked.
        layout: Where the gates lie.
        schedule: Of the forward pass, which knows what each matrix reads.
    """
    finder = _Finder(job, layout, schedule)
    return tuple(finder.of(slot) for slot in job.slots)


class _Finder:
    def __init__(self, job: Job, layout: Layout, schedule: Schedule) -> None:
        self.job, self.layout, self.schedule = job, layout, schedule

    def of(self, slot: Slot) -> tuple[Rows, ...] | None:
        """A slot's rows, those together that lie together and read the same."""
        if not any(p.gate in self.layout.rank for p in slot.pieces):
            return None
        found: list[Rows] = []
        for now in self._single(slot):
            before = found[-1] if found else None
            if before is not None and self._follows(before, now):
                found[-1] = before._replace(gates=before.gates + 1)
            else:
                found.append(now)
        return tuple(found)

    def _single(self, slot: Slot) -> Iterator[Rows]:
        for piece, part in rows(self.job, slot):
            size = part.stop - part.start
            columns = 0 if slot.columns is None else self.job.sizes.of(slot.columns)
            if piece.gate not in self.layout.rank:
                yield Rows(None, 0, 1, size, None, columns)
                continue
            width = self.layout.width[piece.gate]
            read = None if piece.place is None else self._read(piece)
            yield Rows(width, self.layout.offset(piece.gate), 1, size, read, columns)

    def _read(self, piece: Piece) -> Place:
        assert piece.place is not None, "a bias reads nothing"
        term = terms(self.job.cell.affines[piece.gate])[piece.place]
        return ("x",) if term.kind == "input" else self.schedule.reads[piece.gate, piece.place]

    def _follows(self, a: Rows, b: Rows) -> bool:
        if a.width is None or a.width != b.width or a.read != b.read:
            return False
        return b.start == a.start + a.gates * self.layout.apart(a.width)
