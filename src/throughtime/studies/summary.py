"""What do several seeds say together? Means, intervals and how often a task was solved."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "Summary", "interval", "share_interval", "summaries"]

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom; beyond, the normal 1.96.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        score: None where it broke.
        error: Why it broke.
        horizon_steps: How far back it learns; None where it was not diagnosed.
        is_horizon_beyond: Whether it is as far as there are steps.
    """

    cell: str
    length: int
    seed: int
    score: float | None
    solved: bool
    updates: int
    elapsed_s: float
    error: str | None = None
    horizon_steps: int | None = None
    is_horizon_beyond: bool | None = None


@dataclass(frozen=True)
class Summary:
    """The runs of one cell at one length.

    Attributes:
        cell: As the user wrote it.
        length: The dial of the task.
        mean: Of the scores; None if all runs broke.
        low: Lower end of the 95 % interval of the mean; None with fewer than two runs.
        high: Its upper end.
        success_rate: Runs that solved the task over all, the broken ones among them.
        runs: How many.
    """

    cell: str
    length: int
    mean: float | None
    low: float | None
    high: float | None
    success_rate: float
    runs: int


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean by Student's t; a score is never below zero.

    Needs two finite values at least.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None, None
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return max(0.0, mean - half), mean + half


def share_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of a share from zeros and ones, by Wilson's score: never out of [0, 1].

    Needs two runs at least.

    Source: Wilson 1927; the interval by Student's t is of numbers that vary about a mean.
    """
    runs = len(values)
    if runs < 2:
        return None, None
    share, z2 = statistics.fmean(values), 1.96**2
    middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = math.sqrt(z2 * share * (1 - share) / runs + (z2 / (2 * runs)) ** 2) / (1 + z2 / runs)
    return max(0.0, middle - half), min(1.0, middle + half)


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One summary a cell and length, in the order of the rows."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cell, row.length), []).append(row)
    return [_summary(group) for group in groups.values()]


def _summary(rows: Sequence[Row]) -> Summary:
    scores = [row.score for row in rows if row.score is not None]
    low, high = interval(scores)
    return Summary(
        rows[0].cell,
        rows[0].length,
        statistics.fmean(scores) if scores else None,
        low,
        high,
        sum(row.solved for row in rows) / len(rows),
        len(rows),
    )
