"""What is told about a run, before, while and after it trains?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from throughtime.tasks import Corpus
from throughtime.train.config import TrainConfig
from throughtime.train.loop import Ending, UpdateRecord

__all__ = ["Plan", "Result", "Validation", "Watch"]


@dataclass(frozen=True)
class Plan:
    """What a run is about to do.

    Attributes:
        folder: Where it is kept.
        config: Its options, with the number of updates settled.
        corpus: The text.
        baselines: What simple models score on the validation text, in `metric`.
        metric: `bits_per_char` or `perplexity`.
        parameters: Numbers that are learnt.
        engine: The engine that runs the recurrence, and why not a faster one.
        update_s: Time of one update, if it was measured.
        updates_done: Updates made before, when a run goes on.
    """

    folder: Path
    config: TrainConfig
    corpus: Corpus
    baselines: Mapping[str, float]
    metric: str
    parameters: int
    engine: str
    update_s: float | None
    updates_done: int


@dataclass(frozen=True)
class Validation:
    """How well the model predicted the validation text after `update` updates, and a sample."""

    update: int
    loss_nats: float
    score: float
    sample: str


@dataclass(frozen=True)
class Result:
    """What a run came to; `signal_number` is the signal that ended it, if one did."""

    plan: Plan
    ending: Ending
    updates: int
    elapsed_s: float
    tokens_per_s: float
    validation: Validation | None
    signal_number: int | None


class Watch:
    """Told what happens in a run; this one lets it pass."""

    def planned(self, plan: Plan) -> None:
        """The run is about to start, or to go on."""

    def updated(self, record: UpdateRecord) -> None:
        """An update was made."""

    def validated(self, validation: Validation) -> None:
        """The validation text was scored."""

    def noted(self, text: str) -> None:
        """Something else came up that the user should know."""
