"""Which tensor holds which matrix? The table of a cell's parameters, by name and shape.

Rows of all gates of one slot are stacked in declared order. A layer's number and direction follow
the name: weight_ih_l0, weight_ih_l0_reverse.

    weight_ih                matrices on x                          (sum of gate widths, input)
    weight_hh                recurrent, the shortest lag            (sum of gate widths, read width)
    weight_hh_d{lag}         recurrent, other lags
    weight_hh_{i}[_d{lag}]   a gate's i-th recurrent read, i >= 2
    weight_{gate}[_{i}]      inner matrices, and all of emit        (gate width, read width)
    bias                     one bias a gate                        (sum of gate widths)
    bias_ih, bias_hh         torch's two: gates with x, gates with a recurrent read; added
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from throughtime.declare.graph import Node, Term, Width, gate_name, has_bias, terms
from throughtime.errors import DeclarationError

if TYPE_CHECKING:
    from throughtime.declare.cell import Cell

Biases = Literal["one", "two", "none"]


@dataclass(frozen=True)
class Piece:
    """The rows of one gate in a slot: its matrix before the read at `place`, or a bias (None)."""

    gate: str
    place: int | None
    width: Width


@dataclass(frozen=True)
class Slot:
    """One parameter tensor of a layer.

    Attributes:
        name: Its name without layer and direction.
        pieces: The gates whose rows are stacked in it, in order.
        columns: What it reads, as a symbolic width; None for a bias.
    """

    name: str
    pieces: tuple[Piece, ...]
    columns: Width | None

    def shape(self, sizes: "Sizes") -> tuple[int, ...]:
        """Its shape in numbers."""
        rows = sum(sizes.of(piece.width) for piece in self.pieces)
        return (rows,) if self.columns is None else (rows, sizes.of(self.columns))


@dataclass(frozen=True)
class Sizes:
    """What the symbolic widths are in one layer."""

    input: int
    hidden: int
    projection: int

    def of(self, width: Width) -> int:
        """The number behind a symbolic width."""
        return width if isinstance(width, int) else getattr(self, width)


def _matrix_name(gate: str, term: Term, shortest: dict[int, int]) -> str:
    if term.kind == "input":
        return "weight_ih" if term.index == 1 else f"weight_ih_{term.index}"
    if term.kind == "recurrent":
        which = "" if term.index == 1 else f"_{term.index}"
        delay = "" if term.lag == shortest[term.index] else f"_d{term.lag}"
        return f"weight_hh{which}{delay}"
    return f"weight_{gate}" if term.index == 1 else f"weight_{gate}_{term.index}"


def _shortest_lags(gates: list[Node]) -> dict[int, int]:
    found: dict[int, int] = {}
    for term in (t for gate in gates for t in terms(gate) if t.kind == "recurrent"):
        found[term.index] = min(term.lag, found.get(term.index, term.lag))
    return found


def _matrix_slots(gates: list[Node]) -> list[Slot]:
    shortest = _shortest_lags(gates)
    found: dict[tuple[str, str], dict[Width, list[Piece]]] = {}
    for gate in gates:
        for place, (term, read) in enumerate(zip(terms(gate), gate.args, strict=True)):
            name = _matrix_name(gate_name(gate), term, shortest)
            owner = "" if term.kind in {"input", "recurrent"} else gate_name(gate)
            piece = Piece(gate_name(gate), place, gate.width)
            found.setdefault((name, owner), {}).setdefault(read.width, []).append(piece)
    return [
        Slot(name if len(by_width) == 1 else f"{name}_{width}", tuple(pieces), width)
        for (name, _), by_width in found.items()
        for width, pieces in by_width.items()
    ]


def _bias_slots(gates: list[Node], biases: Biases) -> list[Slot]:
    biased = [gate for gate in gates if has_bias(gate)]

    def slot(name: str, kinds: set[str]) -> Slot:
        chosen = [g for g in biased if {t.kind for t in terms(g)} & kinds]
        return Slot(name, tuple(Piece(gate_name(g), None, g.width) for g in chosen), None)

    every = {"input", "recurrent", "inner", "output"}
    names = {
        "one": [("bias", every)],
        "two": [("bias_ih", {"input"}), ("bias_hh", {"recurrent"})],
        "none": [],
    }
    return [s for s in (slot(*chosen) for chosen in names[biases]) if s.pieces]


_ORDER = ("weight_ih", "weight_hh", "bias", "weight")


def slots(cell: "Cell", biases: Biases = "one") -> tuple[Slot, ...]:
    """The parameter tensors of one layer of a cell, in torch's order.

    Raises:
        DeclarationError: two of them would get one name.
    """
    gates = list(cell.affines.values())
    found = _matrix_slots(gates) + _bias_slots(gates, biases)
    names = [s.name for s in found] + [p.name for p in cell.params]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DeclarationError(
            f"{cell.name}: two parameters would be called {min(twice)!r}; rename a gate or param."
        )

    def rank(slot: Slot) -> int:
        return next(i for i, start in enumerate(_ORDER) if slot.name.startswith(start))

    return tuple(sorted(found, key=rank))
