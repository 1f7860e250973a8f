"""Which patients has nobody seen before? Those that a seed draws: cells, tasks, sizes, severity."""

from dataclasses import replace
from typing import Any

import numpy as np

from throughtime.studies.exercises import Exercise, OfTask, Stream
from throughtime.studies.patients import (
    GENTLE,
    LONG,
    SHORT,
    UNFINISHED,
    WHOLE,
    Library,
    Patient,
    patient,
)

__all__ = ["drawn"]


def drawn(seed: int, of_each: int = 2, controls: int = 5) -> tuple[Patient, ...]:
    """Patients drawn by chance: cells, tasks, lengths, sizes and how severe the fault is.

    Args:
        seed: Of the draw.
        of_each: How many of each disease, ours and torch's in turn.
        controls: How many healthy ones.
    """
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(_DRAWS, of_each) | {"healthy": controls}
    return tuple(
        replace(
            _DRAWS[disease](rng, ("ours", "torch")[number % 2]), seed=int(rng.integers(1, 1000))
        )
        for disease, count in counts.items()
        for number in range(count)
    )


def _one_of(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _long_task(rng: np.random.Generator) -> OfTask:
    """A task whose answer needs 30 to 60 steps."""
    name, least, most = _one_of(
        rng, ("temporal-order", 40, 70), ("adding", 60, 120), ("random-permutation", 30, 60)
    )
    return OfTask(name, int(rng.integers(least, most)))


def _short_task(rng: np.random.Generator) -> OfTask:
    """A task that a healthy model solves in a short training."""
    name, least, most = _one_of(rng, ("recall", 8, 17), ("temporal-order", 14, 22))
    return OfTask(name, int(rng.integers(least, most)))


def _stream(rng: np.random.Generator, least: float, most: float) -> Stream:
    return Stream(_one_of(rng, "average", "latest"), round(float(rng.uniform(least, most)), 1))


def _draw(
    rng: np.random.Generator,
    disease: str,
    library: Library,
    exercise: Exercise,
    cell: str,
    **setting: Any,
) -> Patient:
    hidden = int(rng.integers(32, 65))
    return patient(disease, library, exercise, cell, hidden=hidden, **setting)


def _non_finite(rng: np.random.Generator, library: Library) -> Patient:
    if rng.random() < 0.5:
        cell = _one_of(rng, "lstm", "gru", "rnn")
        return _draw(
            rng,
            "non_finite",
            library,
            _long_task(rng),
            cell,
            data_fault="nan",
            is_curable=False,
            **SHORT,
        )
    scale = rng.uniform(1.6, 2.5)
    task = OfTask("adding", int(rng.integers(200, 300)))
    return _draw(
        rng, "non_finite", library, task, "rnn_relu", init=(f"identity:{scale:.2f}",), **SHORT
    )


def _answer_at_the_end(rng: np.random.Generator) -> OfTask:
    """A task that no amplified first input answers."""
    name, least, most = _one_of(rng, ("temporal-order", 40, 70), ("adding", 60, 120))
    return OfTask(name, int(rng.integers(least, most)))


def _exploding(rng: np.random.Generator, library: Library) -> Patient:
    task = _answer_at_the_end(rng)
    if rng.random() < 0.5:
        init = f"spectral:{rng.uniform(2.5, 4):.2f}"
        return _draw(rng, "exploding", library, task, "rnn", init=(init,), **SHORT)
    # More than a hundred thousandfold would be no number any more: another disease.
    growth = 10.0 ** (rng.uniform(3.5, 5.0) / task.needs_lag)
    init = f"identity:{growth:.4f}"
    return _draw(rng, "exploding", library, task, "rnn_relu", init=(init,), **GENTLE)


def _state_not_carried(rng: np.random.Generator, library: Library) -> Patient:
    window = {"window_steps": int(rng.integers(8, 17)), "state_carried": False, "updates": 600}
    cell = _one_of(rng, "lstm", "gru")
    return _draw(rng, "state_not_carried", library, _stream(rng, 20, 40), cell, **window)


def _truncated(rng: np.random.Generator, library: Library) -> Patient:
    window = {"window_steps": int(rng.integers(8, 17)), "state_carried": True, "updates": 1200}
    cell = _one_of(rng, "lstm", "gru")
    return _draw(rng, "truncated", library, _stream(rng, 25, 45), cell, **window)


def _saturated(rng: np.random.Generator, library: Library) -> Patient:
    task = _long_task(rng)
    while task.name.startswith("adding"):  # what is loud there is nought at most steps
        task = _long_task(rng)
    cell = _one_of(rng, "lstm", "gru")
    return _draw(rng, "saturated", library, task, cell, plant="loud input", **SHORT)


def _dead_units(rng: np.random.Generator, library: Library) -> Patient:
    cell, plant = _one_of(rng, ("rnn_relu", "dead relu"), ("gru", "frozen"))
    return _draw(rng, "dead_units", library, _long_task(rng), cell, plant=plant, **SHORT)


def _forgetting(rng: np.random.Generator, library: Library) -> Patient:
    cell, bias = _one_of(rng, "lstm", "gru"), -rng.uniform(1.5, 4)
    return _draw(
        rng, "forgetting", library, _long_task(rng), cell, init=(f"forget:{bias:.1f}",), **SHORT
    )


def _rank_collapse(rng: np.random.Generator, library: Library) -> Patient:
    # Along one direction a little is lost at every step, too: at much longer lags all of it.
    name, least, most = _one_of(rng, ("temporal-order", 40, 56), ("random-permutation", 30, 45))
    task, cell = OfTask(name, int(rng.integers(least, most))), _one_of(rng, "rnn", "rnn_relu")
    return _draw(rng, "rank_collapse", library, task, cell, plant="rank one", **GENTLE)


def _vanishing(rng: np.random.Generator, library: Library) -> Patient:
    task, radius = _answer_at_the_end(rng), rng.uniform(0.2, 0.7)
    init = (f"spectral:{radius:.2f}",)
    return _draw(rng, "vanishing", library, task, "rnn", init=init, **SHORT)


def _clipped_always(rng: np.random.Generator, library: Library) -> Patient:
    cell, norm = _one_of(rng, "lstm", "gru"), round(float(rng.uniform(0.0005, 0.002)), 5)
    if rng.random() < 0.5:
        return _draw(
            rng, "clipped_always", library, _stream(rng, 4, 10), cell, clip_norm=norm, **WHOLE
        )
    task = OfTask("adding", int(rng.integers(16, 30)))
    chrono = (f"chrono:{2 * task.needs_lag}",)
    return _draw(rng, "clipped_always", library, task, cell, init=chrono, clip_norm=norm, **LONG)


def _unused_context(rng: np.random.Generator, library: Library) -> Patient:
    name, least, most = _one_of(rng, ("adding", 100, 140), ("multiplication", 70, 100))
    task, cell = OfTask(name, int(rng.integers(least, most))), _one_of(rng, "lstm", "gru")
    chrono = (f"chrono:{2 * task.needs_lag}",)
    return _draw(rng, "unused_context", library, task, cell, init=chrono, **UNFINISHED)


def _healthy(rng: np.random.Generator, library: Library) -> Patient:
    cell = _one_of(rng, "lstm", "gru")
    if rng.random() < 0.5:
        return _draw(rng, "healthy", library, _stream(rng, 4, 10), cell, is_curable=False, **WHOLE)
    task = _short_task(rng)
    chrono = (f"chrono:{2 * task.needs_lag}",)
    return _draw(rng, "healthy", library, task, cell, init=chrono, is_curable=False, **LONG)


_DRAWS = {
    "non_finite": _non_finite,
    "exploding": _exploding,
    "state_not_carried": _state_not_carried,
    "truncated": _truncated,
    "saturated": _saturated,
    "dead_units": _dead_units,
    "forgetting": _forgetting,
    "rank_collapse": _rank_collapse,
    "vanishing": _vanishing,
    "clipped_always": _clipped_always,
    "unused_context": _unused_context,
    "healthy": _healthy,
}
