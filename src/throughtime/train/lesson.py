"""What does a run learn, and how well? A text or a task, behind one face.

The loop asks a lesson for the loss of the next update; the run asks it for a model, for scores and
for what they are compared with. A lesson holds data and options, and no state of the training.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from throughtime.tasks.task import Part
from throughtime.train.config import TrainConfig

__all__ = ["Hx", "Lesson", "Score"]

Hx = Any  # what a recurrent layer carries on, as `Recurrent` has it; None for a new start


@dataclass(frozen=True)
class Score:
    """How well a model does on a part of the data.

    Attributes:
        loss: What training makes small, in the lesson's `loss_name`.
        score: The same in the lesson's `metric`; lower is better.
        sample: What the model writes, where it does.
        wrong_share: Sequences that it got wrong over all, where they are counted.
        is_solved: Whether the task's criterion is met, where it has one.
    """

    loss: float
    score: float
    sample: str | None = None
    wrong_share: float | None = None
    is_solved: bool | None = None


class Lesson(ABC):
    """What a run learns.

    Attributes:
        has_test_part: Whether there is a part of the data besides training and validation.
        config: Options of the run, with the defaults of this lesson filled in.
        name: Short name, fit for a folder.
        sha256: Of the data and of what decides how it is read; another one is another lesson.
        loss_name: What a loss is called in records, with its unit.
        metric: What a score is called, with its unit.
        steps: What one step of the data is called: "chars", "steps".
        steps_per_update: How many of them one update reads.
        steps_per_pass: How many there are; None where data is generated without an end.
    """

    has_test_part: ClassVar[bool]
    config: TrainConfig
    name: str
    sha256: str
    loss_name: str
    metric: str
    steps: str
    steps_per_update: int
    steps_per_pass: int | None

    @abstractmethod
    def new_model(self) -> nn.Module:
        """A model with weights drawn from torch's generator."""

    @abstractmethod
    def loss(self, model: nn.Module, hx: Hx, update: int) -> tuple[Tensor, Hx]:
        """The loss of the update that comes after `update` others, and the state to carry on."""

    @abstractmethod
    def score(self, model: nn.Module, part: Part) -> Score:
        """How well a model does on a part; it is left in the mode it had."""

    @abstractmethod
    def score_s(self, model: nn.Module, part: Part) -> float:
        """Seconds that a scoring takes, guessed from a piece of it."""

    @abstractmethod
    def engine(self, model: nn.Module) -> str:
        """Which engine runs the recurrence of an update, and why not a faster one."""

    @abstractmethod
    def baselines(self) -> Mapping[str, float]:
        """What models without a network score on the part that is compared, in `metric`."""

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """What it is, a name and a text a row, for people."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """What is needed to use a model of it later, as JSON."""

    @abstractmethod
    def metric_of(self, loss: float) -> float:
        """A loss in `metric`."""
