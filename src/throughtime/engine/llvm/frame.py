"""Where among a kernel's arguments does each place stand?

A kernel gets one array of int64. First come the sizes, then the widths, then for every place its
address and how far apart its steps and rows are (in numbers), then for every pass its packed
weights, its number of columns to read and how often.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from throughtime.declare.graph import Width
from throughtime.engine.llvm.ir import Lanes
from throughtime.engine.llvm.lowering import Place

__all__ = ["BATCH", "FLAGS", "MODE", "STEPS", "Frame"]

STEPS, BATCH, MODE, FLAGS = range(4)
_WIDTHS = 4  # two slots each: the width, and the same rounded up to whole vectors
_MOST_WIDTHS = 8
_PLACES = _WIDTHS + 2 * _MOST_WIDTHS
_CONSTANT = frozenset({"once", "bias", "fresh"})


@dataclass
class Frame:
    """The arguments of a kernel.

    Attributes:
        lanes: The vectors in use.
        widths: The symbolic widths, in the order of their slots.
        places: Every place with its width, in the order of their slots.
        passes: How many passes there are.
    """

    lanes: Lanes
    widths: dict[Width, int] = field(default_factory=dict)
    places: dict[Place, int] = field(default_factory=dict)
    width_of: dict[Place, Width] = field(default_factory=dict)
    passes: int = 0

    def add_widths(self, widths: Iterable[Width]) -> None:
        """Give slots to widths."""
        for width in widths:
            self.widths.setdefault(width, len(self.widths))

    def add(self, place: Place, width: Width) -> None:
        """Give slots to a place."""
        if place not in self.places:
            self.places[place] = len(self.places)
            self.width_of[place] = width

    def slot(self, place: Place) -> int:
        """The first of a place's three slots."""
        return _PLACES + 3 * self.places[place]

    def pass_slot(self, number: int) -> int:
        """The first of a pass's four slots: weights, rows of them, reads, apart."""
        return _PLACES + 3 * len(self.places) + 4 * number

    def width_slot(self, width: Width) -> int:
        """The first of a width's two slots."""
        return _WIDTHS + 2 * self.widths[width]

    @property
    def size(self) -> int:
        """How many slots there are."""
        return self.pass_slot(self.passes)

    def is_wide(self, place: Place) -> bool:
        """Whether a place holds a number a unit rather than one a row."""
        return self.width_of[place] != 1

    def is_constant(self, place: Place) -> bool:
        """Whether a place holds the same for all steps and rows."""
        return place[0] in _CONSTANT
