"""How many updates fit into the time there is?"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from throughtime.tasks import Windows
from throughtime.train.config import OptimiserConfig
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.loop import make_update
from throughtime.train.state import TrainingState

__all__ = ["Pace", "measure_pace", "updates_within"]

_TIMED_UPDATES = 20


class Pace(NamedTuple):
    """What the parts of a run take."""

    update_s: float
    validation_s: float
    measuring_s: float


def measure_pace(
    state: TrainingState, windows: Windows, config: OptimiserConfig, valid: np.ndarray[Any, Any]
) -> Pace:
    """Time 20 updates of a state that is thrown away afterwards, and a piece of a validation.

    The run itself then starts from the seed, so it is bit for bit the one that `updates` given
    by hand makes.

    Args:
        state: A fresh state.
        windows: Windows of the training text.
        config: Options of the optimiser.
        valid: The validation text, whose first 2,000 symbols are scored.
    """
    begun_s = time.perf_counter()
    update_s = [
        _timed(lambda: make_update(state, windows, config, _TIMED_UPDATES))
        for _ in range(_TIMED_UPDATES)
    ]
    piece = valid[:2_000]
    piece_s = _timed(lambda: mean_nll_nats(state.model, piece, np.zeros(1, np.int64)))
    # The first updates allocate and build; a median leaves them out.
    return Pace(
        statistics.median(update_s),
        piece_s * len(valid) / len(piece),
        time.perf_counter() - begun_s,
    )


def updates_within(budget_s: float, pace: Pace, validations: int) -> int:
    """The updates that fit into `budget_s` besides measuring and validations, at least one."""
    left_s = budget_s - pace.measuring_s - validations * pace.validation_s
    return max(1, int(left_s / pace.update_s))


def _timed(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s
