"""How is a table had again? Its runs side by side, seed after seed, what is done left alone."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from throughtime.errors import ConfigError
from throughtime.records import environment, write_results
from throughtime.studies.processes import Command, cores, run_all
from throughtime.studies.reproduce.experiment import Experiment
from throughtime.studies.reproduce.runs import STAGES, PlannedRun, Stage, planned_run
from throughtime.studies.reproduce.verdicts import judged
from throughtime.studies.training_run import last_words
from throughtime.train.runlock import RunLock

__all__ = ["ReproduceWatch", "Settings", "reproduce"]


@dataclass(frozen=True)
class Settings:
    """How a table is had again.

    Attributes:
        out: Folder of the runs.
        results: File of the result.
        data: Folder of the data, for tables that need some.
        seeds: Runs of each arm; as many as the experiment says if None.
        budget_s: Seconds after which what is not done is left for another time; None for no end.
        jobs: Processes side by side; as many as there are cores if None.
    """

    out: Path
    results: Path
    data: Path | None = None
    seeds: int | None = None
    budget_s: float | None = None
    jobs: int | None = None


class ReproduceWatch:
    """Told what happens; this one lets it pass."""

    def planned(
        self, experiment: Experiment, runs: Sequence[PlannedRun], settings: Settings
    ) -> None:
        """The runs are about to start; some may be done."""

    def ended(self, run: PlannedRun, stage: Stage, why_not: str | None) -> None:
        """A step of a run came to its end, or broke."""

    def out_of_time(self) -> None:
        """The budget is spent, and not all is done."""


class _OutOfTimeError(Exception):
    """The budget is spent."""


def reproduce(
    experiment: Experiment, settings: Settings, watch: ReproduceWatch | None = None
) -> dict[str, Any]:
    """Train and measure what an experiment says, and say what came of it beside the paper.

    What was interrupted goes on where it was when the same is asked for again, and more seeds may
    be asked for. Runs with the same options are trained once, whichever table asks for them.

    Returns:
        The result, as it was written.

    Raises:
        ConfigError: A number has no meaning.
        DataError: Data are missing, or cannot be used.
        RunBusyError: The same experiment is running.
    """
    watch = watch or ReproduceWatch()
    seeds = experiment.seeds if settings.seeds is None else settings.seeds
    for name, value in (("seeds", seeds), ("jobs", settings.jobs)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1. Give --{name} 2.")
    experiment.check(settings.data)
    runs = [
        planned_run(arm, settings.data, seed, settings.out)
        for seed in range(seeds)
        for arm in experiment.arms
    ]
    settings.results.parent.mkdir(parents=True, exist_ok=True)
    with RunLock(settings.out / experiment.name):
        watch.planned(experiment, runs, settings)
        try:
            for run, stage, why_not in _ended(runs, settings):
                watch.ended(run, stage, why_not)
                _write(experiment, runs, settings)
        except _OutOfTimeError:
            watch.out_of_time()
        return _write(experiment, runs, settings)


def _ended(
    runs: Sequence[PlannedRun], settings: Settings
) -> Iterator[tuple[PlannedRun, Stage, str | None]]:
    """Each step that runs lack, seed after seed, as it ends."""
    deadline_s = None if settings.budget_s is None else time.monotonic() + settings.budget_s

    def check(running: Sequence[int]) -> None:  # noqa: ARG001 (told which are running)
        if deadline_s is not None and time.monotonic() > deadline_s:
            raise _OutOfTimeError

    for seed in sorted({run.seed for run in runs}):
        for stage in STAGES:
            asked = [(run, command) for run, command in _lacking(runs, seed, stage)]
            commands = [command for _, command in asked]
            for ended in run_all(commands, settings.jobs or cores(), check):
                run, command = asked[ended.place]
                broke = run.found(stage.name) is None
                yield run, stage, last_words(command, ended.status) if broke else None


def _lacking(
    runs: Sequence[PlannedRun], seed: int, stage: Stage
) -> Iterator[tuple[PlannedRun, Command]]:
    asked = set()
    for run in runs:
        output = run.output(stage.name)
        # Arms that differ in length alone are one run in their quick form.
        if run.seed == seed and output not in asked and run.found(stage.name) is None:
            command = stage.command(run)
            if command is not None:
                asked.add(output)
                yield run, command


def _write(
    experiment: Experiment, runs: Sequence[PlannedRun], settings: Settings
) -> dict[str, Any]:
    found = {
        "name": experiment.name,
        "claim": experiment.claim,
        "source": experiment.source,
        "chosen": experiment.chosen,
        "orders": [list(pair) for pair in experiment.orders],
        "rows": judged(experiment, runs),
        "runs": [_as_json(run) for run in runs if run.found("train")],
        "planned_runs": len(runs),
        "environment": environment({"version": version("torch")}),
    }
    write_results(settings.results, found)
    return found


def _as_json(run: PlannedRun) -> dict[str, Any]:
    trained = run.found("train") or {}
    return {
        "arm": run.arm.name,
        "seed": run.seed,
        "ending": trained["ending"],
        "engine": trained["engine"],
        "updates": trained["updates"],
        "command": run.command(),
        "values": run.values(),
        "memory": run.memory(),
    }
