"""What do all generated tasks share: sizes, symbols, and sequences nobody learns from?"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError
from throughtime.tasks.task import Batch, Part, Task

__all__ = ["GeneratedTask", "ask_at_end", "has_left_plateau", "one_hot"]

# Steps of all rows of one held-out batch: 128 units of float32 then take 50 MB.
_STEPS_AT_ONCE = 100_000

# A seed and an update fill four words of a SeedSequence at most; a spawn key comes after them and
# is never zero here, so no training batch is drawn from these.
_KEYS: dict[Part, int] = {"valid": 1, "test": 2}

# Ours: no source says when a network has left the plateau of the memoryless score.
_PLATEAU_SHARE = 0.1


@dataclass(frozen=True)
class GeneratedTask(Task):
    """A task whose sequences are drawn, and never run out.

    Attributes:
        length: The dial of its difficulty.
        shortest: The smallest length there is.
        valid_rows: Sequences of the validation part.
        test_rows: Sequences of the test part; 10,000 as in Pascanu et al. 2013, fewer where each
            asks for many answers.

    Raises:
        ConfigError: The length is too small.
    """

    shortest: ClassVar[int] = 1
    valid_rows: ClassVar[int] = 1_000
    test_rows: ClassVar[int] = 10_000
    has_criterion: ClassVar[bool] = True
    length: int

    def __post_init__(self) -> None:
        if self.length < self.shortest:
            raise ConfigError(
                f"the length of the task {self.name} is {self.length}; expected {self.shortest} "
                f"at least. Give --length {self.shortest} or more."
            )

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """Steps of the longest row there can be."""

    def held_out(self, part: Part) -> Iterator[Batch]:
        """The sequences of a part, the same at every call and never those that are learnt from."""
        rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_KEYS[part],)))
        left = self.valid_rows if part == "valid" else self.test_rows
        while left > 0:
            rows = min(left, max(1, _STEPS_AT_ONCE // self.most_steps))
            yield self.held_out_batch(rng, rows)
            left -= rows

    def held_out_batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Sequences to judge by; drawn as those to learn from unless a task says otherwise."""
        return self.batch(rng, rows)

    def is_solved(self, score: float, wrong_share: float) -> bool | None:
        """The criterion of the source, or ours where it has none."""
        if self.has_criterion:
            return super().is_solved(score, wrong_share)
        return has_left_plateau(self, score)


def one_hot(symbols: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Symbols as vectors with a single one.

    Shape:
        symbols: [T, B]; result: [T, B, size]
    """
    return np.eye(size, dtype=np.float32)[symbols]


def ask_at_end(inputs: NDArray[np.float32], answers: NDArray[Any]) -> Batch:
    """Sequences of equal length with one question, after the last step.

    Shape:
        inputs: [T, B, I]; answers: [B] of classes, or [B, O]
    """
    T, B = inputs.shape[:2]
    targets = np.zeros((T, *answers.shape), answers.dtype)
    targets[-1] = answers
    is_counted = np.zeros((T, B), np.bool_)
    is_counted[-1] = True
    return Batch(inputs, targets, is_counted, np.full(B, T, np.int64))


def has_left_plateau(task: Task, score: float) -> bool:
    """Whether a score is under a tenth of the memoryless one: ours, where no source has another."""
    return score < _PLATEAU_SHARE * task.baseline()
