"""Does a row of ours say what the paper's says? By its number, or by its place in the order."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from throughtime.studies.reproduce.experiment import Experiment, Row
from throughtime.studies.reproduce.runs import PlannedRun
from throughtime.studies.summary import interval, share_interval

__all__ = ["Measured", "judged"]

Verdict = Literal["met", "order met", "not met"]


@dataclass(frozen=True)
class Measured:
    """A row with our numbers.

    Attributes:
        row: What was to be measured.
        ours: Mean over the seeds; None where no run has the number.
        low: Lower end of its 95 % interval, by Student's t or, of a share, Wilson's score; None
            below two runs.
        high: Its upper end.
        values: The number of each run that has it.
        runs: Runs that were trained.
        broken: Of these, runs without the number: it diverged.
        solved: Of these, runs that met the task's criterion.
    """

    row: Row
    ours: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]
    runs: int
    broken: int
    solved: int

    @property
    def cost(self) -> float:
        """Our number, lower being better; infinite where a run broke."""
        if self.ours is None or self.broken:
            return math.inf
        return self.ours if self.row.better == "low" else -self.ours


def judged(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Every row with our numbers, what the diagnosis says of its first run, and the verdict."""
    found = {row.name: _measured(row, runs) for row in experiment.rows}
    return [
        _as_json(measured, _verdict(measured, found, experiment), runs)
        for measured in found.values()
    ]


def _measured(row: Row, runs: Sequence[PlannedRun]) -> Measured:
    trained = [run.values() for run in runs if run.arm.name in row.arms and run.found("train")]
    values = [found[row.measure] for found in trained if row.measure in found]
    low, high = share_interval(values) if row.measure == "solved" else interval(values)
    return Measured(
        row,
        statistics.fmean(values) if values else None,
        low,
        high,
        tuple(values),
        len(trained),
        len(trained) - len(values),
        sum(found.get("solved") == 1.0 for found in trained),
    )


def _verdict(
    measured: Measured, all_rows: Mapping[str, Measured], experiment: Experiment
) -> Verdict | None:
    """None where the paper has nothing, or where nothing has been run.

    A pair counts once both of its rows have runs.
    """
    row, goal = measured.row, measured.row.goal
    named = [[all_rows[name] for name in pair] for pair in experiment.orders if row.name in pair]
    pairs = [pair for pair in named if all(each.runs for each in pair)]
    if not measured.runs:
        return None
    if goal is not None and measured.cost <= (goal if row.better == "low" else -goal):
        return "met"
    if goal is None and not pairs:
        return None
    is_reversed = any(better.cost > worse.cost for better, worse in pairs)
    is_strict = any(better.cost < worse.cost for better, worse in pairs)
    return "order met" if is_strict and not is_reversed else "not met"


def _as_json(
    measured: Measured, verdict: Verdict | None, runs: Sequence[PlannedRun]
) -> dict[str, Any]:
    row = measured.row
    first = next((run for run in runs if run.arm.name in row.arms), None)
    return {
        "name": row.name,
        "arms": list(row.arms),
        "measure": row.measure,
        "unit": row.unit,
        "better": row.better,
        "paper": row.paper,
        "paper_at": row.at,
        "goal": row.goal,
        "ours": measured.ours,
        "low": measured.low,
        "high": measured.high,
        "values": list(measured.values),
        "runs": measured.runs,
        "broken": measured.broken,
        "solved": measured.solved,
        "verdict": verdict,
        **({} if first is None else first.memory()),
    }
