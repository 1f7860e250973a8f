"""What happens in training, in order of execution?

Truncated backpropagation through time: a text is read as B streams side by side, W steps a window.
The state at the end of a window enters the next one, cut off from its past, so gradients reach W
steps back at most but what the state holds may be older. It starts anew where a document starts.
The sequences of a task are whole, and no state is carried from one update to the next.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum

from throughtime.nn import detach
from throughtime.train.config import OptimiserConfig
from throughtime.train.lesson import Lesson
from throughtime.train.optimise import learning_rate, take_step
from throughtime.train.signals import StopRequest
from throughtime.train.state import TrainingState

__all__ = ["Ending", "Hooks", "Limits", "UpdateRecord", "is_due", "make_update", "train"]

# With this many gradients in a row not finite, leaving updates out cures nothing.
_MAX_NONFINITE_IN_A_ROW = 20


class Ending(StrEnum):
    """Why the loop ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    OUT_OF_TIME = "out of time"
    NO_BETTER = "no better"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class UpdateRecord:
    """What one update was."""

    update: int
    loss: float
    learning_rate: float
    gradient_norm: float
    is_clipped: bool
    is_finite: bool


@dataclass(frozen=True)
class Limits:
    """How far the loop goes.

    To `updates`, unless `elapsed_s` comes to exceed `guard_s` before, or `patience` validations in
    a row were no better than the best (0: never).
    """

    updates: int
    validations: int
    save_s: float
    guard_s: float = math.inf
    patience: int = 0


@dataclass(frozen=True)
class Hooks:
    """What the loop calls: after each update, to validate, and to save the state."""

    updated: Callable[[UpdateRecord], None]
    validate: Callable[[], None]
    save: Callable[[], None]


def train(
    state: TrainingState,
    lesson: Lesson,
    config: OptimiserConfig,
    limits: Limits,
    hooks: Hooks,
    stop: StopRequest,
    gauge: AbstractContextManager[object] | None = None,
) -> Ending:
    """Train on from `state` until the limits, divergence or a request to stop ends it.

    Time decides only when to save and, by the guard, whether to stop early: the weights after n
    updates are the same however often a run was interrupted on the way. `gauge` looks on while an
    update is made, and changes nothing.
    """
    begun_s = time.monotonic() - state.elapsed_s
    saved_s = time.monotonic()
    if _is_out_of_patience(state, limits):
        return Ending.NO_BETTER
    while state.update < limits.updates:
        update_begun_s = time.monotonic()
        record = make_update(state, lesson, config, limits.updates, gauge)
        state.updating_s += time.monotonic() - update_begun_s
        state.elapsed_s = time.monotonic() - begun_s
        hooks.updated(record)
        if is_due(state.update, limits.updates, limits.validations):
            hooks.validate()
        ending = _ending(state, config, limits, stop)
        if ending is not None or time.monotonic() - saved_s >= limits.save_s:
            hooks.save()
            saved_s = time.monotonic()
        if ending is not None:
            return ending
    return Ending.FINISHED


def is_due(update: int, updates: int, times: int) -> bool:
    """Whether what is done `times` times, evenly and at the end, is done after this update."""
    return update * times // updates > (update - 1) * times // updates


def make_update(
    state: TrainingState,
    lesson: Lesson,
    config: OptimiserConfig,
    updates: int,
    gauge: AbstractContextManager[object] | None = None,
) -> UpdateRecord:
    """Make the update that comes after `state.update` earlier ones, of `updates` in all."""
    with gauge or nullcontext():
        loss, hx = lesson.loss(state.model, state.hx, state.update)
        state.optimiser.zero_grad()
        loss.backward()

    rate = learning_rate(config, state.update, updates)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    step = take_step(state.optimiser, config)

    # The state behind a gradient that is not finite may not be either: start anew from zeros.
    state.hx = detach(hx) if step.is_finite else None
    state.nonfinite_in_a_row = 0 if step.is_finite else state.nonfinite_in_a_row + 1
    state.update += 1
    return UpdateRecord(state.update, float(loss.detach()), rate, *step)


def _ending(
    state: TrainingState, config: OptimiserConfig, limits: Limits, stop: StopRequest
) -> Ending | None:
    if stop.signal_number is not None:
        return Ending.INTERRUPTED
    tolerated = 0 if config.nonfinite == "stop" else _MAX_NONFINITE_IN_A_ROW
    if state.nonfinite_in_a_row > tolerated:
        return Ending.DIVERGED
    if state.update == limits.updates:
        return Ending.FINISHED
    if _is_out_of_patience(state, limits):
        return Ending.NO_BETTER
    if state.elapsed_s > limits.guard_s:
        return Ending.OUT_OF_TIME
    return None


def _is_out_of_patience(state: TrainingState, limits: Limits) -> bool:
    return bool(limits.patience) and state.no_better_in_a_row >= limits.patience
