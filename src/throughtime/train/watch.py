"""What is told about a run, before, while and after it trains?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from throughtime.flow.monitor import Reading
from throughtime.train.config import TrainConfig
from throughtime.train.lesson import Lesson, Score
from throughtime.train.loop import Ending, UpdateRecord

__all__ = ["Plan", "Result", "Validation", "Watch"]


@dataclass(frozen=True)
class Plan:
    """What a run is about to do.

    Attributes:
        folder: Where it is kept.
        config: Its options, with the number of updates settled.
        lesson: What is learnt.
        baselines: What simple models score, in the lesson's metric.
        parameters: Numbers that are learnt.
        engine: The engine that runs the recurrence, and why not a faster one.
        update_s: Time of one update, if it was measured.
        updates_done: Updates made before, when a run goes on.
    """

    folder: Path
    config: TrainConfig
    lesson: Lesson
    baselines: Mapping[str, float]
    parameters: int
    engine: str
    update_s: float | None
    updates_done: int


@dataclass(frozen=True)
class Validation:
    """How well the model did on the validation part after `update` updates."""

    update: int
    score: Score


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        plan: What it was to do.
        ending: Why it ended.
        updates: Made in all parts of the run.
        elapsed_s: Spent in all parts of the run.
        steps_per_s: Of the data, read while updating.
        validation: Of the weights that are kept: the last ones, or the best.
        test: Their score on the test part, where there is one and the run has come to its end.
        signal_number: The signal that ended it, if one did.
        gauge_share: What the gauge of the memory took of the time; None without one.
    """

    plan: Plan
    ending: Ending
    updates: int
    elapsed_s: float
    steps_per_s: float
    validation: Validation | None
    test: Score | None
    signal_number: int | None
    gauge_share: float | None = None


class Watch:
    """Told what happens in a run; this one lets it pass."""

    def planned(self, plan: Plan) -> None:
        """The run is about to start, or to go on."""

    def updated(self, record: UpdateRecord) -> None:
        """An update was made."""

    def gauged(self, readings: list[Reading]) -> None:
        """How far back the model learns was read, for each of its layers."""

    def validated(self, validation: Validation) -> None:
        """The validation part was scored."""

    def noted(self, text: str) -> None:
        """Something else came up that the user should know."""
