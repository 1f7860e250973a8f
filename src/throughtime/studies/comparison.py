"""What is a comparison made of? Planned runs, what is told of them, and what came of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from throughtime.records import StudyFolder
from throughtime.studies.config import CompareConfig
from throughtime.studies.summary import Row, Summary
from throughtime.studies.variants import Variant
from throughtime.tasks.task import Task
from throughtime.train.config import TrainConfig

__all__ = ["CompareWatch", "Comparison", "Planned", "Study"]

_NOT_ALWAYS = ("error", "horizon_steps", "is_horizon_beyond")


@dataclass(frozen=True, eq=False)
class Planned:
    """One run that belongs to a comparison."""

    variant: Variant
    task: Task
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def name(self) -> str:
        """What it is called among the runs."""
        return f"{self.variant.text} {self.task.length} {self.seed}"


@dataclass(frozen=True)
class Study:
    """What is about to be run.

    Attributes:
        folder: Where everything is kept.
        config: The options.
        tasks: The task at each length.
        variants: What is compared.
        updates: Of every run.
        jobs: Processes side by side.
        runs: All of them, those that are done among them.
    """

    folder: StudyFolder
    config: CompareConfig
    tasks: tuple[Task, ...]
    variants: tuple[Variant, ...]
    updates: int
    jobs: int
    runs: tuple[Planned, ...]


@dataclass(frozen=True)
class Comparison:
    """What came of it."""

    study: Study
    rows: tuple[Row, ...]
    summary: tuple[Summary, ...]
    baseline: dict[int, float]

    def as_json(self) -> dict[str, Any]:
        """The result under the names that programs read."""
        tasks, settings = self.study.tasks, self.study.config.decisive()
        if self.study.config.data is not None:
            settings["data"] = self.study.config.data.name  # where it lies is the user's business
        lengths = {str(length): value for length, value in self.baseline.items()}
        return {
            "task": tasks[0].name,
            "unit": tasks[0].unit,
            "needs_lag": {str(task.length): task.needs_lag for task in tasks},
            "rows": [_without_none(asdict(row)) for row in self.rows],
            "summary": [asdict(summary) for summary in self.summary],
            "baseline": lengths if len(lengths) > 1 else next(iter(lengths.values())),
            "updates": self.study.updates,
            "settings": settings,
            "memory": self.study.folder.memory.name if self.study.folder.memory.exists() else None,
        }


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None or k not in _NOT_ALWAYS}


class CompareWatch:
    """Told what happens in a comparison; this one lets it pass."""

    def planned(self, study: Study, rows: Sequence[Row]) -> None:
        """The runs are about to start; those of `rows` are done."""

    def timing(self, runs: int) -> None:
        """Updates are timed, to turn the budget into a number of them."""

    def running(self, runs: Sequence[Planned]) -> None:
        """These are running; told now and then."""

    def ended(self, row: Row) -> None:
        """A run came to its end."""

    def diagnosing(self, runs: Sequence[Planned]) -> None:
        """All runs ended, and these are diagnosed."""

    def not_diagnosed(self, run: Planned, why: str) -> None:
        """A run cannot be diagnosed."""
