"""Which cures are tried on every cell? One of each kind, with values that none of them ignores."""

from collections.abc import Callable

import throughtime as tt
from throughtime.cells import NOTES_RATE, Cell

__all__ = ["CURES", "NEED_A_MATRIX", "has_recurrent_matrix"]

CURES: dict[str, Callable[[Cell], Cell]] = {
    "leaky": lambda cell: tt.leaky(cell, rate=0.3),
    "leaky sampled": lambda cell: tt.leaky(cell, NOTES_RATE),
    "leaky learned": lambda cell: tt.leaky(cell, rate="learned"),
    "zoneout": lambda cell: tt.zoneout(cell, 0.4),
    "clockwork": lambda cell: tt.clockwork(cell, [1, 2]),
    "skip": lambda cell: tt.skip(cell, [3]),
    "remove": lambda cell: tt.remove(cell, [2, 3]),
    "dilate": lambda cell: tt.dilate(cell, 2),
    "recurrent_dropout": lambda cell: tt.recurrent_dropout(cell, 0.3),
    "clip_adjoint": lambda cell: tt.clip_adjoint(cell, 0.05),
}
NEED_A_MATRIX = {"skip", "remove", "recurrent_dropout"}


def has_recurrent_matrix(cell: Cell) -> bool:
    """Whether a matrix reads a past state."""
    return any(term.kind == "recurrent" for n in cell.affines.values() for term in n.data[2])
