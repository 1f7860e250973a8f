"""How long do some calls take, measured side by side on a machine that is never quiet?

In rounds, so that whatever slows the machine for a while slows all calls: ratios of medians hold
where single times do not. Before every call a small product wakes torch's threads, untimed.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from throughtime.studies.cpu_peers import Contestant

__all__ = ["FULL", "QUICK", "Effort", "Timed", "big_mm", "side_by_side"]

_WAKING_SIZE = 256


@dataclass(frozen=True)
class Effort:
    """How much time is spent on a row.

    Attributes:
        budget_s: About so many seconds, if the fewest rounds take no longer.
        fewest, most: Runs of a call.
        fewest_slow: Runs of a slow call.
        mm_size: Rows of the square matrices whose product is the measure of speed.
    """

    budget_s: float
    fewest: int
    most: int
    fewest_slow: int
    mm_size: int = 2048

    def runs(self, estimate_s: float, calls: int, *, is_slow: bool) -> int:
        """How often a call runs that takes about so long, if it shares the budget with others."""
        fewest = self.fewest_slow if is_slow else self.fewest
        affordable = int(self.budget_s / calls / max(estimate_s, 1e-9))
        return min(max(affordable, fewest), self.most)


FULL = Effort(budget_s=4.0, fewest=7, most=41, fewest_slow=3)
QUICK = Effort(budget_s=0.5, fewest=3, most=7, fewest_slow=1)


@dataclass(frozen=True)
class Timed:
    """What was measured.

    Attributes:
        medians_s: Seconds of each call, by name.
        runs: How often each ran.
    """

    medians_s: dict[str, float]
    runs: dict[str, int]


def big_mm(size: int) -> Contestant:
    """The product of two square matrices, 2 size^3 operations."""
    drawn = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=drawn) for _ in range(2))
    into = torch.empty(size, size)
    return Contestant("mm", lambda: torch.mm(a, b, out=into), dict)


def side_by_side(contestants: Sequence[Contestant], effort: Effort) -> Timed:
    """Time some calls in turn.

    Args:
        contestants: What to time; each runs twice before, which pays for what is done once.
        effort: How often.

    Returns:
        Medians. The rarer runs of slow calls lie evenly among the rounds.
    """
    waking = torch.zeros(_WAKING_SIZE, _WAKING_SIZE)
    with _no_collection():
        for one in contestants:
            _ = _once(one, waking)
        estimates = [_once(one, waking) for one in contestants]
        pairs = list(zip(contestants, estimates, strict=True))
        runs = [effort.runs(s, len(pairs), is_slow=one.is_slow) for one, s in pairs]
        seconds = _rounds(contestants, runs, waking)
    named = [one.name for one in contestants]
    medians = dict(zip(named, map(median, seconds), strict=True))
    return Timed(medians, dict(zip(named, runs, strict=True)))


def _rounds(
    contestants: Sequence[Contestant], runs: Sequence[int], waking: torch.Tensor
) -> list[list[float]]:
    seconds: list[list[float]] = [[] for _ in contestants]
    rounds = max(runs)
    for number in range(rounds):
        for place in range(len(contestants)):
            turn = (place + number) % len(contestants)  # nobody always follows the same one
            if (number + 1) * runs[turn] // rounds > number * runs[turn] // rounds:
                seconds[turn].append(_once(contestants[turn], waking))
    return seconds


def _once(contestant: Contestant, waking: torch.Tensor) -> float:
    contestant.ready()
    _ = waking @ waking
    begun = time.perf_counter()
    kept = contestant.run()
    elapsed = time.perf_counter() - begun
    del kept  # freeing a graph is not part of the call
    return elapsed


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage in the middle of a call."""
    was_on = gc.isenabled()
    _ = gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
