"""Which symbols came, and in which order? Temporal order and random permutation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from throughtime.tasks.generated import GeneratedTask, ask_at_end, one_hot
from throughtime.tasks.task import Answer, Batch

__all__ = ["RandomPermutation", "TemporalOrder", "TemporalOrder3"]

_SYMBOLS = 2  # A and B
_DISTRACTORS = 4


@dataclass(frozen=True)
class TemporalOrder(GeneratedTask):
    """Two symbols of A, B among distractors: AA, BA, AB or BB?

    Symbol k is at one of the T // 10 steps from s_k T // 10 on, T the length, with s = (1, 5); all
    other steps show one of four distractors. The class is sum_k 2^k [symbol k is B]. A model
    without memory guesses among all classes. Solved: under 1 % of 10,000 sequences wrong.

    Source: Pascanu, Mikolov & Bengio 2013, section 4.1; the steps as in their code, which differ
        from those its comments name.
    """

    name: ClassVar[str] = "temporal-order"
    what: ClassVar[str] = "the order of two symbols among distractors"
    source: ClassVar[str] = "Pascanu et al. 2013"
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats"
    shortest: ClassVar[int] = 10
    starts: ClassVar[tuple[int, ...]] = (1, 5)
    input_size = _SYMBOLS + _DISTRACTORS
    output_size = 4
    length: int = 50

    @property
    def most_steps(self) -> int:
        """Steps of every row."""
        return self.length

    @property
    def needs_lag(self) -> int:
        """From the latest step of the first symbol to the end."""
        return self.length - 2 * (self.length // 10)

    def baseline(self) -> float:
        """A guess among all classes."""
        return math.log(self.output_size)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Sequences to learn from; the classes are equally likely."""
        T, each = self.length, np.arange(rows)
        symbols = rng.integers(_SYMBOLS, _SYMBOLS + _DISTRACTORS, (T, rows))
        classes = np.zeros(rows, np.int64)
        for k, start in enumerate(self.starts):
            shown = rng.integers(0, _SYMBOLS, rows)
            symbols[start * T // 10 + rng.integers(0, T // 10, rows), each] = shown
            classes += shown << k
        return ask_at_end(one_hot(symbols, self.input_size), classes)


@dataclass(frozen=True)
class TemporalOrder3(TemporalOrder):
    """As `TemporalOrder`, with three symbols, s = (1, 3, 6), and eight classes.

    Source: Pascanu, Mikolov & Bengio 2013, section 4.1, 3-bit temporal order, and their code.
    """

    name: ClassVar[str] = "temporal-order-3"
    what: ClassVar[str] = "the order of three symbols among distractors"
    starts: ClassVar[tuple[int, ...]] = (1, 3, 6)
    output_size = 8
    length: int = 50


@dataclass(frozen=True)
class RandomPermutation(GeneratedTask):
    """The symbol after the last step is the one at the first step, 0 or 1.

    The steps between show one of 98 other symbols. A model without memory guesses between two.
    Solved: under 1 % of 10,000 sequences wrong.

    Source: Pascanu, Mikolov & Bengio 2013, section 4.1, and their code.
    """

    name: ClassVar[str] = "random-permutation"
    what: ClassVar[str] = "the first of many symbols"
    source: ClassVar[str] = "Pascanu et al. 2013"
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats"
    shortest: ClassVar[int] = 2
    input_size = 100
    output_size = 100
    length: int = 100

    @property
    def most_steps(self) -> int:
        """Steps of every row."""
        return self.length

    @property
    def needs_lag(self) -> int:
        """From the first step to the last."""
        return self.length - 1

    def baseline(self) -> float:
        """A guess between two symbols."""
        return math.log(_SYMBOLS)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Sequences to learn from."""
        symbols = rng.integers(_SYMBOLS, self.input_size, (self.length, rows))
        symbols[0] = rng.integers(0, _SYMBOLS, rows)
        return ask_at_end(one_hot(symbols, self.input_size), symbols[0])
