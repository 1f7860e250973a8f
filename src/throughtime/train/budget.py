"""How many updates fit into the time there is?"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from throughtime.train.config import OptimiserConfig
from throughtime.train.lesson import Lesson
from throughtime.train.loop import make_update
from throughtime.train.state import TrainingState

__all__ = ["Pace", "measure_pace", "updates_within"]

_TIMED_UPDATES = 20


class Pace(NamedTuple):
    """What the parts of a run take."""

    update_s: float
    validation_s: float
    measuring_s: float
    test_s: float = 0.0


def measure_pace(state: TrainingState, lesson: Lesson, config: OptimiserConfig) -> Pace:
    """Time 20 updates of a state that is thrown away afterwards, and a piece of each scoring.

    The run itself then starts from the seed, so it is bit for bit the one that `updates` given
    by hand makes.

    Args:
        state: A fresh state.
        lesson: What is learnt.
        config: Options of the optimiser.
    """
    begun_s = time.perf_counter()
    update_s = [
        _timed(lambda: make_update(state, lesson, config, _TIMED_UPDATES))
        for _ in range(_TIMED_UPDATES)
    ]
    validation_s = lesson.score_s(state.model, "valid")
    test_s = lesson.score_s(state.model, "test") if lesson.has_test_part else 0.0
    # The first updates allocate and build; a median leaves them out.
    measuring_s = time.perf_counter() - begun_s
    return Pace(statistics.median(update_s), validation_s, measuring_s, test_s)


def updates_within(budget_s: float, pace: Pace, validations: int) -> int:
    """The updates that fit into `budget_s` besides measuring and scoring, at least one."""
    left_s = budget_s - pace.measuring_s - validations * pace.validation_s - pace.test_s
    return max(1, int(left_s / pace.update_s))


def _timed(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s
