"""Where does each gate lie in memory?

The pre-activations of one width share a row: those that read x first, those that read a past
state last, so that what came from x and what goes back through each matrix are neighbours. Within
that, the order is the declared one, which is torch's where the cell is torch's.
"""

from dataclasses import dataclass
from functools import cached_property

from throughtime.declare.graph import Width, gate_name, terms, walk
from throughtime.engine.job import Job

__all__ = ["PAD", "Layout", "layout", "padded"]

PAD = 16  # numbers: rows of units begin on a cache line's border in float32


def padded(width: int) -> int:
    """A width rounded up to whole vectors of any machine."""
    return -(-width // PAD) * PAD


@dataclass(frozen=True)
class Layout:
    """The rows of a job's gates.

    Attributes:
        job: What is asked.
        gates: Of each width, the gates of a row in order.
    """

    job: Job
    gates: dict[Width, tuple[str, ...]]

    @cached_property
    def rank(self) -> dict[str, int]:
        """A number for each gate; neighbours of one row differ by one, others by more."""
        rows = enumerate(self.gates.values())
        return {g: 1000 * r + i for r, row in rows for i, g in enumerate(row)}

    @cached_property
    def width(self) -> dict[str, Width]:
        """The width of each gate."""
        return {g: w for w, row in self.gates.items() for g in row}

    def stride(self, width: Width) -> int:
        """How many numbers a row has."""
        apart = self.apart(width) * len(self.gates[width])
        return apart if width == 1 else apart + PAD  # rows of 4 KiB would share few cache lines

    def apart(self, width: Width) -> int:
        """How far apart the gates of a row begin."""
        return 1 if width == 1 else padded(self.job.sizes.of(width))

    def offset(self, gate: str) -> int:
        """Where a gate begins in its row."""
        width = self.width[gate]
        return self.gates[width].index(gate) * self.apart(width)


def layout(job: Job) -> Layout:
    """Lay out the gates of a job's step."""
    found: dict[Width, dict[str, int]] = {}
    inside = {gate_name(n) for n in walk(job.cell.new) if n.op == "affine"}
    for gate, n in job.cell.affines.items():
        if gate in inside:
            kinds = {t.kind == "input" for t in terms(n)}
            place = {frozenset({True}): 0, frozenset({True, False}): 1}.get(frozenset(kinds), 2)
            found.setdefault(n.width, {})[gate] = place
    return Layout(job, {w: tuple(sorted(row, key=row.__getitem__)) for w, row in found.items()})
