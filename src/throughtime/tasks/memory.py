"""Which symbols were shown, before the blanks? Memorisation and the copy tasks.

Ten symbols, then blanks, then a sign, after which the symbols are to be repeated in order; at every
other step the answer is the blank. All steps are counted. A model without memory that knows which
step it is at answers the blank, then guesses ten times among the symbols:

    10 ln(symbols) / steps
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from throughtime.tasks.generated import GeneratedTask, one_hot
from throughtime.tasks.task import Answer, Batch

__all__ = ["Copy", "CopyTCN", "CopyVariable", "Memorisation"]

_SHOWN = 10


class _Repeat(GeneratedTask):
    """Symbols 1 ... `symbols`, 0 the blank, `symbols` + 1 the sign."""

    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats a step"
    symbols: ClassVar[int]

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        shown = rng.integers(1, self.symbols + 1, (_SHOWN, rows))
        # At which step each row begins to answer, and ends
        begin = self._draw_begin(rng, rows)
        lengths = begin + _SHOWN
        T = int(lengths.max())
        read, targets = np.zeros((T, rows), np.int64), np.zeros((T, rows), np.int64)
        read[:_SHOWN] = shown
        each, signs = np.arange(rows), np.arange(*self._signs())[:, None]
        read[begin + signs, each] = self.symbols + 1
        targets[begin + np.arange(_SHOWN)[:, None], each] = shown
        is_real = np.arange(T)[:, None] < lengths
        inputs = one_hot(read, self.input_size) * is_real[..., None]
        return Batch(inputs, targets, is_real, lengths)

    @abstractmethod
    def _draw_begin(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """The step at which each row has to answer its first symbol."""

    def _signs(self) -> tuple[int, int]:
        """The steps with a sign, from and until, counted from the first answer."""
        return -1, 0


class _FixedRepeat(_Repeat):
    """The same number of blanks in every row: length + 20 steps."""

    @property
    def most_steps(self) -> int:
        return self.length + 2 * _SHOWN

    @property
    def needs_lag(self) -> int:
        return self.length + _SHOWN

    def baseline(self) -> float:
        return _SHOWN * math.log(self.symbols) / self.most_steps

    def _draw_begin(self, rng: np.random.Generator, rows: int) -> np.ndarray:  # noqa: ARG002
        return np.full(rows, self.length + _SHOWN, np.int64)


@dataclass(frozen=True)
class Memorisation(_FixedRepeat):
    """Ten of 5 symbols, `length` blanks, and a sign on which they are repeated.

    The sign is at the step of the first answer; L + 20 steps. Solved: under 1 % of 10,000 sequences
    wrong, a sequence being wrong if any of its steps is.

    Source: Pascanu, Mikolov & Bengio 2013, section 4.1, noiseless memorization, and their code,
        which numbers the blank last.
    """

    name: ClassVar[str] = "memorisation"
    what: ClassVar[str] = "repeat ten of 5 symbols after blanks, on a sign"
    source: ClassVar[str] = "Pascanu et al. 2013"
    symbols: ClassVar[int] = 5
    input_size = 7
    output_size = 6
    length: int = 50

    def _signs(self) -> tuple[int, int]:
        return 0, 1


@dataclass(frozen=True)
class Copy(_FixedRepeat):
    """Ten of 8 symbols, `length` - 1 blanks, a sign, and ten blanks while they are repeated.

    T + 20 steps, T the length. Solved (ours): a score under a tenth of the memoryless one.

    Source: Arjovsky, Shah & Bengio 2016, section 5, and their code.
    """

    name: ClassVar[str] = "copy"
    what: ClassVar[str] = "repeat ten of 8 symbols after blanks, after a sign"
    source: ClassVar[str] = "Arjovsky et al. 2016"
    has_criterion: ClassVar[bool] = False
    valid_rows: ClassVar[int] = 200
    test_rows: ClassVar[int] = 1_000
    symbols: ClassVar[int] = 8
    input_size = 10
    output_size = 9
    length: int = 100


@dataclass(frozen=True)
class CopyTCN(Copy):
    """As `Copy`, but the sign is repeated while the symbols are.

    Eleven signs instead of one and ten blanks, so that the input says when to answer.

    Source: Bai, Kolter & Koltun 2018, section 5.1 and their code, which reads the symbol's number
        from a single channel; here it is a one-hot vector.
    """

    name: ClassVar[str] = "copy-tcn"
    what: ClassVar[str] = "repeat ten of 8 symbols after blanks, during signs"
    source: ClassVar[str] = "Bai et al. 2018"
    length: int = 100

    def _signs(self) -> tuple[int, int]:
        return -1, _SHOWN


@dataclass(frozen=True)
class CopyVariable(_Repeat):
    """As `Copy`, but with U{1 ... `length`} blanks, drawn for every row.

    Rows of n blanks have n + 21 steps, and end there. Half of the rows need `needs_lag`.

    Source: Henaff, Szlam & LeCun 2016, as Tallec & Ollivier 2018, section 3, describe it: the
        number of characters between the symbols and the sign is drawn between 1 and T. Whether
        theirs draws it for each row, and what follows the answers of a short row, is unverified.
    """

    name: ClassVar[str] = "copy-variable"
    what: ClassVar[str] = "repeat ten of 8 symbols after 1 to T blanks"
    source: ClassVar[str] = "Henaff et al. 2016"
    has_criterion: ClassVar[bool] = False
    valid_rows: ClassVar[int] = 200
    test_rows: ClassVar[int] = 1_000
    symbols: ClassVar[int] = 8
    input_size = 10
    output_size = 9
    length: int = 100

    @property
    def most_steps(self) -> int:
        """Steps of the longest row there can be."""
        return self.length + 2 * _SHOWN + 1

    @property
    def needs_lag(self) -> int:
        """From a symbol to its answer, in half of the rows."""
        return (self.length + 1) // 2 + _SHOWN + 1

    def baseline(self) -> float:
        """10 ln 8 over the mean number of steps."""
        mean_steps = (self.length + 1) / 2 + 2 * _SHOWN + 1
        return _SHOWN * math.log(self.symbols) / mean_steps

    def _draw_begin(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        return _SHOWN + 1 + rng.integers(1, self.length + 1, rows)
