"""What do the bench's patients learn? Whole sequences of a task, or endless streams."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.tasks.registry import find_task

__all__ = ["Exercise", "Lessons", "OfTask", "Stream"]


class Lessons(NamedTuple):
    """Inputs, what to answer, and where it is counted.

    Shape:
        inputs: [T, B, I]; targets: [T, B] of classes, else [T, B, O]; is_counted: [T, B]
    """

    inputs: Tensor
    targets: Tensor
    is_counted: Tensor


class Exercise(ABC):
    """Something to learn.

    Attributes:
        name: What it is called.
        input_size, output_size, answer: As a task's.
        needs_lag: Over how many steps the answer depends on the input.
        is_stream: Whether it goes on without an end, the state carried on.
    """

    input_size: int
    output_size: int
    answer: str
    is_stream: ClassVar[bool]

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called."""

    @property
    @abstractmethod
    def needs_lag(self) -> int:
        """Over how many steps the answer depends on the input."""

    @abstractmethod
    def drawn(self, rng: np.random.Generator, steps: int, rows: int) -> Lessons:
        """Lessons; `steps` counts for streams alone."""


class OfTask(Exercise):
    """Whole sequences of one of `throughtime tasks`.

    Args:
        task: Its name.
        length: Its dial.
    """

    is_stream: ClassVar[bool] = False

    def __init__(self, task: str, length: int) -> None:
        self._task = find_task(task, length, None)
        self.input_size, self.output_size = self._task.input_size, self._task.output_size
        self.answer = self._task.answer

    @property
    def name(self) -> str:
        """The task and its length."""
        return f"{self._task.name}-{self._task.length}"

    @property
    def needs_lag(self) -> int:
        """The task's own."""
        return self._task.needs_lag

    def drawn(self, rng: np.random.Generator, steps: int, rows: int) -> Lessons:  # noqa: ARG002
        """A batch; where rows end at different steps the padding is not counted."""
        batch = self._task.batch(rng, rows)
        parts = (batch.inputs, batch.targets, batch.is_counted)
        return Lessons(*(torch.from_numpy(part) for part in parts))


@dataclass(frozen=True)
class Stream(Exercise):
    """Rare events in an endless stream, and what a leaking memory makes of them.

        kind "average": y_t = a y_{t-1} + x_t,          a = exp(-1 / memory)
        kind "latest":  y_t = exp(-(steps since the last event) / memory)

    Both are mixed by a known factor a step, so twice `memory` steps matter.

    Attributes:
        kind: Which of the two.
        memory_steps: Time constant.
        rate: Events a step.
    """

    kind: str
    memory_steps: float
    rate: float = 0.05

    input_size: ClassVar[int] = 1  # type: ignore[misc]
    output_size: ClassVar[int] = 1  # type: ignore[misc]
    answer: ClassVar[str] = "value"  # type: ignore[misc]
    is_stream: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Its kind and time constant."""
        return f"{self.kind}-{self.memory_steps:g}"

    @property
    def needs_lag(self) -> int:
        """Two time constants: what lies further back counts for less than a seventh."""
        return round(2 * self.memory_steps)

    def drawn(self, rng: np.random.Generator, steps: int, rows: int) -> Lessons:
        """A piece of the stream from its beginning."""
        events = (rng.random((steps, rows)) < self.rate).astype(np.float32)
        kept = float(np.exp(-1.0 / self.memory_steps))
        targets = np.stack(list(self._remembered(events, kept)))
        both = (a.astype(np.float32)[..., None] for a in (events, targets))
        read, wanted = map(torch.from_numpy, both)
        return Lessons(read, wanted, torch.ones(steps, rows, dtype=torch.bool))

    def _remembered(
        self, events: NDArray[np.float32], kept: float
    ) -> Iterator[NDArray[np.floating]]:
        level = np.zeros(events.shape[1])
        for event in events:
            faded = kept * level
            level = faded + event if self.kind == "average" else np.maximum(faded, event)
            yield level
