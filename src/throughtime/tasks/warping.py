"""What was the character before, however long each lasts? Warped and padded sequences.

Characters 1 ... 9, no two neighbours equal, each for some steps: warped, it is shown at all of
them; padded, at the first alone and 0, the dummy, at the others. The answer is the character
before, warped or padded alike. The first character, which has none before it, is not counted.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError
from throughtime.tasks.generated import GeneratedTask, one_hot
from throughtime.tasks.task import Answer, Batch

__all__ = ["PadUniform", "PadVariable", "WarpUniform", "WarpVariable"]

_CHARACTERS = 9
_STEPS = 500
_NEIGHBOUR_NATS = math.log(_CHARACTERS - 1)  # of the one before, which is not the one shown


@dataclass(frozen=True)
class WarpUniform(GeneratedTask):
    """The character before, each repeated `length` times, in 500 steps.

    A model without memory guesses among the 8 characters that are not shown. At its last step a
    character has the one before as far back as it lasts. Solved (ours): a score under a tenth of
    the memoryless one.

    Source: Tallec & Ollivier 2018, section 1, pure warpings: 9 characters and a dummy, 500 steps.
        They train on 50,000 fixed sequences; here none comes twice.
    """

    name: ClassVar[str] = "warp-uniform"
    what: ClassVar[str] = "the character before, each shown k times"
    source: ClassVar[str] = "Tallec & Ollivier 2018"
    has_criterion: ClassVar[bool] = False
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats a step"
    valid_rows: ClassVar[int] = 200
    test_rows: ClassVar[int] = 1_000
    is_padded: ClassVar[bool] = False
    input_size = _CHARACTERS + 1
    output_size = _CHARACTERS + 1
    length: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.length > _STEPS:
            raise ConfigError(
                f"the length of the task {self.name} is {self.length}; expected {_STEPS // 2} at "
                f"most, since two characters have to fit into {_STEPS} steps. Give a smaller one."
            )

    @property
    def most_steps(self) -> int:
        """Steps of every row."""
        return _STEPS

    @property
    def needs_lag(self) -> int:
        """From a character's last step to the last of the one before."""
        return self.length

    def baseline(self) -> float:
        """A guess among 8 where a character is shown; the dummy needs none."""
        return _NEIGHBOUR_NATS * (self._asked_share() if self.is_padded else 1.0)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Sequences to learn from."""
        starts = self._draw_starts(rng, rows)
        which = starts.cumsum(0) - 1
        # A neighbour is 1 to 8 characters further on the circle of nine, so never the same.
        moves = rng.integers(1, _CHARACTERS, (_STEPS, rows))
        moves[0] = rng.integers(0, _CHARACTERS, rows)
        characters = moves.cumsum(0) % _CHARACTERS + 1
        each = np.arange(rows)
        shown, before = characters[which, each], characters[which - 1, each]
        is_counted = which > 0
        if self.is_padded:
            shown, before = shown * starts, before * starts
        targets = np.where(is_counted, before, 0)
        lengths = np.full(rows, _STEPS, np.int64)
        return Batch(one_hot(shown, self.input_size), targets, is_counted, lengths)

    def _draw_starts(self, rng: np.random.Generator, rows: int) -> NDArray[np.bool_]:  # noqa: ARG002
        """At which steps a character begins, [T, B]."""
        begins = np.arange(_STEPS) % self.length == 0
        return np.broadcast_to(begins[:, None], (_STEPS, rows))

    def _asked_share(self) -> float:
        """The part of the counted steps at which a character is shown, padded."""
        return (math.ceil(_STEPS / self.length) - 1) / (_STEPS - self.length)


@dataclass(frozen=True)
class WarpVariable(WarpUniform):
    """As `WarpUniform`, each character repeated U{1 ... `length`} times.

    Source: Tallec & Ollivier 2018, section 1, pure warpings.
    """

    name: ClassVar[str] = "warp-variable"
    what: ClassVar[str] = "the character before, each shown 1 to k times"
    length: int = 20

    def _draw_starts(self, rng: np.random.Generator, rows: int) -> NDArray[np.bool_]:
        ends = rng.integers(1, self.length + 1, (_STEPS, rows)).cumsum(0)
        starts = np.zeros((_STEPS, rows), np.bool_)
        starts[0] = True
        number, row = np.nonzero(ends < _STEPS)
        starts[ends[number, row], row] = True
        return starts

    def _asked_share(self) -> float:
        begins = np.zeros(_STEPS)  # the probability that a character begins at a step
        begins[0] = 1.0
        for t in range(1, _STEPS):
            begins[t] = begins[max(0, t - self.length) : t].sum() / self.length
        mean_repeats = (self.length + 1) / 2
        return float(begins[1:].sum() / (_STEPS - mean_repeats))


@dataclass(frozen=True)
class PadUniform(WarpUniform):
    """As `WarpUniform`, each character shown once and followed by dummies.

    Asked at every step; where the dummy is shown the answer is the dummy. A model without memory
    gets those right, and guesses among 8 at the others.

    Source: Tallec & Ollivier 2018, section 1, padded sequences. Their `length` may count the
        dummies alone, which is unverified; here it counts the character too.
    """

    name: ClassVar[str] = "pad-uniform"
    what: ClassVar[str] = "the character before, k - 1 blanks between"
    is_padded: ClassVar[bool] = True
    length: int = 20


@dataclass(frozen=True)
class PadVariable(WarpVariable):
    """As `PadUniform`, each character lasting U{1 ... `length`} steps.

    Source: Tallec & Ollivier 2018, section 1, padded sequences.
    """

    name: ClassVar[str] = "pad-variable"
    what: ClassVar[str] = "the character before, 0 to k - 1 blanks between"
    is_padded: ClassVar[bool] = True
    length: int = 20
