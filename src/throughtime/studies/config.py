"""What can be chosen about a comparison? Plain dataclasses, without torch."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from throughtime.errors import ConfigError
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
    parse_duration,
)

if TYPE_CHECKING:
    from throughtime.tasks.task import Task

__all__ = ["CompareConfig"]


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, on what, and for how long."""

    task: Positional[str]
    """Task of `throughtime tasks`."""
    data: Positional[Path | None] = None
    """The .npz of a task that has one."""
    cells: str = "rnn,leaky:rnn,gru,lstm"
    """Cells by name, with cures and options, separated by commas: rnn,clip:rnn,chrono:lstm."""
    lengths: str | None = None
    """Dials of the task's difficulty, separated by commas; its own default if absent."""
    seeds: int = 3
    """Runs of each cell at each length, from seed 0 on."""
    budget: str | None = None
    """Time of one run; turned, once, into one number of updates for all. 2m if none is given."""
    updates: int | None = None
    """Updates of each run."""
    hidden: int = 64
    """Units of each layer."""
    batch_size: int = 32
    """Sequences of an update."""
    validations: int = 5
    """Times the validation part is scored during a run."""
    keep: Literal["last", "best"] = "last"
    """Which weights are tested: the last, or those that were validated best."""
    patience: int = 0
    """Stop a run after so many validations in a row without a better score; 0 for never."""
    engine: Literal["auto", "llvm", "vendor", "reference"] = "auto"
    """What runs the recurrence."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def __post_init__(self) -> None:
        """Refuse counts without a meaning."""
        for name in ("seeds", "hidden", "batch_size", "validations"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; expected a whole number of at least 1. "
                    f"Give --{name.replace('_', '-')} 3."
                )
        if self.updates is not None and self.budget is not None:
            raise ConfigError(
                f"updates is {self.updates} and budget {self.budget}; one follows from the other. "
                "Give --updates or --budget."
            )
        if self.budget is not None:
            parse_duration(self.budget)
        self.base(self.updates or 1, 0)

    def tasks(self) -> "list[Task]":
        """The task at each length, in order.

        Raises:
            ConfigError: There is no such task, or no such length.
        """
        from throughtime.tasks.registry import find_task  # which loads numpy: not for --help

        if self.lengths is None:
            return [find_task(self.task, None, self.data)]
        return [find_task(self.task, length, self.data) for length in self._lengths(self.lengths)]

    def _lengths(self, text: str) -> list[int]:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(
            set(map(int, parts))
        ) < len(parts):
            raise ConfigError(
                f"lengths is {text!r}; expected different whole numbers separated by commas. "
                "Give --lengths 20,50,100."
            )
        return [int(part) for part in parts]

    def base(self, updates: int, seed: int) -> TrainConfig:
        """The options of a run, but for its cell and length."""
        data = None if self.data is None else self.data.resolve()
        return TrainConfig(
            DataConfig(data=data, task=self.task),
            ModelConfig(hidden=self.hidden, engine=self.engine),
            self.optimiser,
            RunConfig(
                batch_size=self.batch_size,
                updates=updates,
                validations=self.validations,
                keep=self.keep,
                patience=self.patience,
                seed=seed,
                device="cpu",
            ),
        )

    def at(self, task: "Task", updates: int, seed: int) -> TrainConfig:
        """The options of a run at one length, but for its cell."""
        base = self.base(updates, seed)
        return replace(base, data=replace(base.data, length=task.length))

    def decisive(self) -> dict[str, Any]:
        """What decides a run besides cell, length and seed, as strings, numbers and tables."""
        values = asdict(self)
        for name in ("cells", "lengths", "seeds"):
            values.pop(name)
        values["data"] = None if self.data is None else str(self.data.resolve())
        optimiser = {name: v for name, v in values.pop("optimiser").items() if v is not None}
        kept = {name: value for name, value in values.items() if value is not None}
        return kept | {"optimiser": optimiser}
