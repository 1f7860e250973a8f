"""What did the contract find, and what is this cell? The report of `check_cell`, as text."""

from collections.abc import Iterator
from dataclasses import dataclass

from throughtime.declare import Cell, Extra, Param, State
from throughtime.declare.graph import Node, has_bias, terms
from throughtime.declare.slots import Sizes, slots
from throughtime.testing.equation import written


@dataclass(frozen=True)
class Line:
    """One line of the contract for one engine.

    Attributes:
        check: Its name.
        what: What it asks.
        engine: Of which engine.
        error: The largest difference seen, over the largest element; None if not examined.
        bound: What it may be.
        where: The tensor in which it was seen, what was raised, or why it was not examined.
    """

    check: str
    what: str
    engine: str
    error: float | None
    bound: float
    where: str = ""

    @property
    def broken(self) -> bool:
        """Whether the contract is broken here."""
        return self.error is not None and not self.error <= self.bound

    def __str__(self) -> str:
        asked = f"{self.check} ({self.engine}): {self.what}"
        if self.error is None:
            return f"{'refused':<25} {asked}. It says: {self.where}"
        seen = (
            f"{self.error:.1e} of {self.bound:.0e}" if self.error or self.bound else "no difference"
        )
        at = f", in {self.where}" if self.broken else ""
        return f"{'BROKEN' if self.broken else 'ok':<6} {seen:<18} {asked}{at}"


@dataclass(frozen=True)
class CellReport:
    """What `check_cell` found; `str()` shows the cell and each line with its worst error.

    Attributes:
        cell: The cell.
        sizes: At which sizes it was checked, besides T and B.
        steps: T.
        rows: B.
        engine: Which engine runs it, and why not a faster one.
        lines: Every line examined.
    """

    cell: Cell
    sizes: Sizes
    steps: int
    rows: int
    engine: str
    lines: tuple[Line, ...]

    @property
    def broken(self) -> tuple[Line, ...]:
        """The lines that are broken."""
        return tuple(line for line in self.lines if line.broken)

    def __str__(self) -> str:
        sizes = self.sizes
        title = f"{self.cell.name}" + (f" ({self.cell.source})" if self.cell.source else "")
        projection = f" P={sizes.projection}" if sizes.projection != sizes.hidden else ""
        numbers = f"T={self.steps} B={self.rows} I={sizes.input} H={sizes.hidden}{projection}"
        numbers += f" D={self.cell.depth}, float64"
        parts = {
            "sizes": [numbers],
            "states": [_state(s, self.cell.lags()[s.name]) for s in self.cell.states],
            "params": [_param(p) for p in self.cell.params],
            "extras": [_extra(e) for e in self.cell.extras],
            "matrices": list(_matrices(self.cell)),
            "phases": [" | ".join(" ".join(group) for group in self.cell.phases()) or "none"],
            "parameters": list(_table(self.cell, sizes)),
            "engine": self.engine.splitlines(),
            "contract": list(map(str, self.lines)),
        }
        body = (line for name, lines in parts.items() for line in _block(name, lines))
        return "\n".join([title, *body])


def _block(name: str, lines: list[str]) -> Iterator[str]:
    for i, line in enumerate(lines or ["none"]):
        yield f"  {name if i == 0 else '':<11} {line}".rstrip()


def _state(s: State, lag: int) -> str:
    clock = ", a clock" if s.clock else ""
    return f"{s.name}: width {s.width}, starts at {s.initial:g}, read up to lag {lag}{clock}"


def _param(p: Param) -> str:
    bounds = f" in ({p.low}, {p.high})" if p.low is not None or p.high is not None else ""
    return f"{p.name}: width {p.width}, init {p.init}{bounds}{'' if p.trainable else ', fixed'}"


def _extra(e: Extra) -> str:
    source = "data of the caller" if e.sample is None else f"{e.sample}, outside training {e.eval}"
    return f"{e.name}: width {e.width}, per {e.per}, {source}"


def _matrices(cell: Cell) -> Iterator[str]:
    """Each pre-activation, and each of its matrices: its kind, its lag and what it reads."""
    for gate, affine in cell.affines.items():
        parts = [_matrix(n, i, affine) for i, n in enumerate(affine.args)]
        yield f"{gate}: {'; '.join(parts)}" + ("; bias" if has_bias(affine) else "")


def _matrix(read: Node, place: int, affine: Node) -> str:
    term = terms(affine)[place]
    lag = f" lag {term.lag}" if term.kind == "recurrent" else ""
    return f"{term.kind}{lag} on {written(read)}"


def _table(cell: Cell, sizes: Sizes) -> Iterator[str]:
    """The parameters of a first layer: name, shape, and whose rows they are."""
    for slot in slots(cell):
        gates = " ".join(piece.gate for piece in slot.pieces)
        yield f"{slot.name}_l0 {list(slot.shape(sizes))}: {gates}"
    for p in cell.params:
        yield f"{p.name}_l0 [{sizes.of(p.width)}]"
