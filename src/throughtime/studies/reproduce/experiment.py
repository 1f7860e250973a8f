"""What is a published table made of? Runs, rows that measure them, and an order that was found."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from throughtime.errors import DataError
from throughtime.train.config import TrainConfig

__all__ = ["Arm", "Better", "Experiment", "Probe", "Row"]

Better = Literal["low", "high"]
Probe = Literal["evaluate", "programs", "agreement"]

# What is left of a run in its quick form: enough to pass through every step of the way.
_QUICK_UPDATES = 2
_QUICK_ROWS = 4
_QUICK_UNITS = 16
_QUICK_STEPS = 8


@dataclass(frozen=True)
class Arm:
    """One kind of run: what is trained, once a seed.

    Attributes:
        name: What the rows call it.
        config: Its options, but for the seed and for where its data lie.
        file: The data, as a path in the folder given by --data; None where they are generated.
        probe: What is measured of the trained model besides its scores.
        probed: The data of that, as `file`.
        quick_length: The task's dial in the quick form; as it is if None.
    """

    name: str
    config: TrainConfig
    file: str | None = None
    probe: Probe | None = None
    probed: str | None = None
    quick_length: int | None = None

    def configured(self, data: Path | None, seed: int) -> TrainConfig:
        """All options of a run."""
        config = self.config
        if self.file is not None:
            config = replace(config, data=replace(config.data, data=_found(data, self.file)))
        return replace(config, run=replace(config.run, seed=seed))

    def quick(self) -> "Arm":
        """The same way with next to nothing learnt."""
        config = self.config
        run = replace(
            config.run,
            updates=_QUICK_UPDATES,
            batch_size=_QUICK_ROWS,
            validations=1,
            **({"window_steps": _QUICK_STEPS} if config.data.task is None else {}),
        )
        length = self.quick_length or config.data.length
        return replace(
            self,
            config=replace(
                config,
                data=replace(config.data, length=length),
                model=replace(config.model, hidden=_QUICK_UNITS),
                run=run,
            ),
        )


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        name: As the table has it.
        arms: The runs it is measured on; the mean is over all of them.
        measure: Which of their numbers; see `measures`.
        unit: Of the number, in words.
        better: Which end of the scale.
        paper: What the paper has: a number, or what its figure shows in words; None for rows that
            it lacks.
        at: Under which conditions the paper has it, where they are others than ours.
        goal: The number that ours must reach; the paper's by default, where that was found under
            conditions like ours.
    """

    name: str
    arms: tuple[str, ...]
    measure: str
    unit: str
    better: Better = "low"
    paper: float | str | None = None
    at: str = ""
    goal: float | None = None


@dataclass(frozen=True)
class Experiment:
    """A table that can be had again.

    Attributes:
        name: What the command calls it.
        claim: What the paper says, in a sentence.
        source: The papers.
        arms: What is trained.
        rows: What is measured.
        orders: Pairs of rows, the first of which is better in the paper.
        chosen: How settings were chosen, and how ours differ from the paper's.
        seeds: Runs of each arm.
    """

    name: str
    claim: str
    source: str
    arms: tuple[Arm, ...]
    rows: tuple[Row, ...]
    orders: tuple[tuple[str, str], ...] = field(default=())
    chosen: str = ""
    seeds: int = 3

    @property
    def files(self) -> tuple[str, ...]:
        """The data it needs, as paths in the folder given by --data."""
        named = [file for arm in self.arms for file in (arm.file, arm.probed) if file is not None]
        return tuple(dict.fromkeys(named))

    def check(self, data: Path | None) -> None:
        """Refuse to begin without the data.

        Raises:
            DataError: A file is not there.
        """
        for file in self.files:
            _found(data, file)

    def quick(self) -> "Experiment":
        """The same way with next to nothing learnt, once."""
        return replace(self, arms=tuple(arm.quick() for arm in self.arms), seeds=1)


def _found(data: Path | None, file: str) -> Path:
    """Where a file lies.

    Raises:
        DataError: It is not there.
    """
    path = None if data is None else data / file
    if path is None or not path.exists():
        where = "no folder was given" if data is None else f"{data} does not have it"
        raise DataError(f"this table needs {file}, but {where}. Give --data FOLDER that has it.")
    return path.resolve()
