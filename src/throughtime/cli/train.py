"""What does `throughtime train` show, and what does it return?"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.cli.command import Command
from throughtime.errors import ConfigError
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from throughtime.train.lesson import Lesson, Score
    from throughtime.train.watch import Result

__all__ = ["Train"]


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a recurrent network on a text or a task; with no DATA, on Python's manual."""

    out: Path | None = None
    """Run folder to make; runs/NAME-CELL-N if absent."""
    resume: Path | None = None
    """Run folder to go on with, as it was planned; no other option goes with it."""
    no_diagnosis: bool = False
    """Leave out the diagnosis and the report at the end; --json does, too."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __call__(self) -> int:
        """Train, or go on; 0 when it ended, 2 if it diverged, 128 + n if signal n stopped it."""
        config = TrainConfig(self.data, self.model, self.optimiser, self.run)
        if self.resume is not None and (config != TrainConfig() or self.out is not None):
            raise ConfigError(
                f"--resume {self.resume} came with other options, but a run goes on as it was "
                "planned. Give --resume alone, or start a new run with --out."
            )
        from throughtime.cli.progress import Progress
        from throughtime.cli.verdict import show_top_finding
        from throughtime.train.run import resume_run, start_run

        with Progress(json_only=self.json) as progress:
            if self.resume is not None:
                result = resume_run(self.resume, progress)
            else:
                result = start_run(config, self.out, progress)
            progress.finished(result)
        if self._is_diagnosed(result):
            show_top_finding(progress.screen, result.plan.folder)
        progress.screen.result(as_json(result))
        return _status(result)

    def _is_diagnosed(self, result: "Result") -> bool:
        """Whether it ended as it should, and people look on."""
        from throughtime.train.loop import Ending

        is_wanted = not self.json and not self.no_diagnosis
        return is_wanted and result.ending in {Ending.FINISHED, Ending.NO_BETTER}


def as_json(result: "Result") -> dict[str, Any]:
    """The result under the names that programs read."""
    plan, found = result.plan, result.validation
    lesson = plan.lesson
    return {
        "run": str(plan.folder),
        "ending": str(result.ending),
        "engine": plan.engine.partition(":")[0],
        "cell": plan.config.model.cell,
        "parameters": plan.parameters,
        "seed": plan.config.run.seed,
        "updates": result.updates,
        "elapsed_s": round(result.elapsed_s, 3),
        "tokens_per_s": round(result.steps_per_s, 1),
        "valid": None if found is None else _scored(found.score, lesson),
        "test": None if result.test is None else _scored(result.test, lesson),
        "baselines": dict(plan.baselines),
        "sample": None if found is None else found.score.sample,
    }


def _scored(score: "Score", lesson: "Lesson") -> dict[str, Any]:
    """A score under the names of its units, and what was counted."""
    values = {lesson.loss_name: score.loss}
    if lesson.metric.isidentifier():
        values[lesson.metric] = score.score
    counted = {"wrong_share": score.wrong_share, "is_solved": score.is_solved}
    return values | {name: value for name, value in counted.items() if value is not None}


def _status(result: "Result") -> int:
    from throughtime.train.loop import Ending

    if result.ending is Ending.INTERRUPTED and result.signal_number is not None:
        return 128 + result.signal_number
    return 2 if result.ending is Ending.DIVERGED else 0
