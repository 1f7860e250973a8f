"""Who are the patients of the instrument's bench? Models with a known fault, and healthy ones.

Each is data: what it learns, how it is built and trained, and which single thing was spoilt. The
fixed ones were used while the instrument was made; the others are drawn from a seed (see `drawn`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from throughtime.studies.exercises import Exercise, OfTask, Stream

__all__ = ["FIXED", "Patient", "Setting", "drawn"]

Library = Literal["ours", "torch"]


@dataclass(frozen=True)
class Setting:
    """How a patient is built and trained; a cure changes some of it.

    Attributes:
        cell: A cell, as on the command line; for torch one of rnn, rnn_relu, lstm, gru.
        init: Initialisers, as on the command line.
        plant: What is done to the weights afterwards (see `clinic.PLANTS`); gone with another
            `init` or another `cell`.
        hidden: Units.
        updates, learning_rate, clip_norm: Of training by Adam; a clip_norm of 0 is none.
        window_steps, state_carried: For streams.
        data_fault: "nan" puts one NaN into the inputs that are diagnosed.
    """

    cell: str
    init: tuple[str, ...] = ()
    plant: str | None = None
    hidden: int = 48
    updates: int = 150
    learning_rate: float = 3e-3
    clip_norm: float = 1.0
    window_steps: int | None = None
    state_carried: bool | None = None
    data_fault: str | None = None

    def cured(self, options: Mapping[str, Any]) -> "Setting":
        """With the options of a cure; a planted fault of the weights goes with their old init."""
        changes = {name: value for name, value in options.items() if hasattr(self, name)}
        if "init" in changes:
            changes["init"] = tuple(changes["init"])
        if {"init", "cell", "hidden"} & changes.keys():
            changes["plant"] = None
        return replace(self, **changes)


@dataclass(frozen=True)
class Patient:
    """One model.

    Attributes:
        disease: The finding that should come first; "healthy" for a control.
        library: Whose layers it has.
        exercise: What it learns.
        setting: How it is built and trained.
        is_curable: Whether a change of the setting can cure it.
        seed: Of weights and data.
        claims_lag: What its owner says the data need, where that is wrong.
    """

    disease: str
    library: Library
    exercise: Exercise
    setting: Setting
    is_curable: bool = True
    seed: int = 0
    claims_lag: int | None = None

    @property
    def name(self) -> str:
        """Short and unique within a list."""
        return f"{self.disease}/{self.library}-{self.setting.cell}/{self.exercise.name}/{self.seed}"

    @property
    def needs_lag(self) -> int:
        """What the instrument is told."""
        return self.exercise.needs_lag if self.claims_lag is None else self.claims_lag


def _patient(
    disease: str, library: Library, exercise: Exercise, cell: str, **setting: Any
) -> Patient:
    own = {name: setting.pop(name) for name in ("is_curable", "claims_lag") if name in setting}
    return Patient(disease, library, exercise, Setting(cell, **setting), **own)


_ORDER, _SUM = OfTask("temporal-order", 50), OfTask("adding", 80)
_SHORT = {"updates": 60}  # the fault is there from the start; training shows that it stays
_LONG = {"updates": 1500}
_BLIND = {"window_steps": 12, "state_carried": False, "updates": 600}
_WHOLE = {"window_steps": 64, "state_carried": True, "updates": 800}
_SHORT_SIGHTED = {"window_steps": 12, "state_carried": True, "updates": 1200}

FIXED: tuple[Patient, ...] = (
    _patient("non_finite", "ours", OfTask("adding", 200), "rnn_relu", init=("identity:1.7",), **_SHORT),
    _patient("non_finite", "torch", _ORDER, "lstm", data_fault="nan", is_curable=False, **_SHORT),
    _patient("exploding", "ours", _ORDER, "rnn", init=("spectral:3",), **_SHORT),
    _patient("exploding", "torch", _SUM, "rnn_relu", init=("identity:1.25",), **_SHORT),
    _patient("state_not_carried", "ours", Stream("average", 30), "lstm", **_BLIND),
    _patient("state_not_carried", "torch", Stream("latest", 25), "gru", **_BLIND),
    _patient("truncated", "ours", Stream("average", 40), "gru", **_SHORT_SIGHTED),
    _patient("truncated", "torch", Stream("latest", 30), "lstm", **_SHORT_SIGHTED),
    _patient("saturated", "ours", _ORDER, "lstm", plant="loud input", **_SHORT),
    _patient("saturated", "torch", _SUM, "gru", plant="loud input", **_SHORT),
    _patient("dead_units", "ours", _SUM, "rnn_relu", plant="dead relu", **_SHORT),
    _patient("dead_units", "torch", _ORDER, "gru", plant="frozen", **_SHORT),
    _patient("forgetting", "ours", _ORDER, "lstm", init=("forget:-2",), **_SHORT),
    _patient("forgetting", "torch", _SUM, "gru", init=("forget:-2",), **_SHORT),
    _patient("rank_collapse", "ours", _ORDER, "rnn", plant="rank one", **_SHORT),
    _patient("rank_collapse", "torch", _SUM, "rnn_relu", plant="rank one", **_SHORT),
    _patient("vanishing", "ours", _ORDER, "rnn", **_SHORT),
    _patient("vanishing", "torch", _SUM, "rnn", init=("spectral:0.5",), **_SHORT),
    _patient("clipped_always", "ours", Stream("average", 8), "lstm", clip_norm=0.003, **_WHOLE),
    _patient("clipped_always", "torch", OfTask("adding", 24), "gru", init=("chrono:30",), clip_norm=0.001, **_LONG),
    _patient("unused_context", "ours", Stream("average", 0.5), "lstm", init=("chrono:80",), claims_lag=30, window_steps=64, state_carried=True, is_curable=False, updates=300),
    _patient("unused_context", "torch", Stream("latest", 0.5), "gru", init=("chrono:80",), claims_lag=30, window_steps=64, state_carried=True, is_curable=False, updates=300),
    _patient("healthy", "ours", OfTask("recall", 16), "lstm", init=("chrono:30",), is_curable=False, **_LONG),
    _patient("healthy", "torch", OfTask("recall", 16), "gru", init=("chrono:30",), is_curable=False, **_LONG),
    _patient("healthy", "ours", OfTask("temporal-order", 20), "gru", init=("chrono:40",), is_curable=False, **_LONG),
    _patient("healthy", "torch", Stream("average", 8), "lstm", is_curable=False, **_WHOLE),
    _patient("healthy", "ours", Stream("latest", 8), "gru", is_curable=False, **_WHOLE),
)  # fmt: skip
"""Two of each disease and five controls, seen while thresholds and measures were made."""


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


def _draw(disease: str, rng: np.random.Generator, library: Library, exercise: Exercise, cell: str, **setting: Any) -> Patient:  # fmt: skip
    return _patient(disease, library, exercise, cell, hidden=int(rng.integers(32, 65)), **setting)


def _non_finite(rng: np.random.Generator, library: Library) -> Patient:
    if rng.random() < 0.5:
        cell = _one_of(rng, "lstm", "gru", "rnn")
        return _draw("non_finite", rng, library, _long_task(rng), cell, data_fault="nan", is_curable=False, **_SHORT)  # fmt: skip
    scale = rng.uniform(1.6, 2.5)
    task = OfTask("adding", int(rng.integers(200, 300)))
    return _draw("non_finite", rng, library, task, "rnn_relu", init=(f"identity:{scale:.2f}",), **_SHORT)  # fmt: skip


def _exploding(rng: np.random.Generator, library: Library) -> Patient:
    if rng.random() < 0.5:
        init, cell = f"spectral:{rng.uniform(2.5, 4):.2f}", "rnn"
    else:
        init, cell = f"identity:{rng.uniform(1.3, 1.45):.2f}", "rnn_relu"
    return _draw("exploding", rng, library, _long_task(rng), cell, init=(init,), **_SHORT)


def _state_not_carried(rng: np.random.Generator, library: Library) -> Patient:
    window = {"window_steps": int(rng.integers(8, 17)), "state_carried": False, "updates": 600}
    cell = _one_of(rng, "lstm", "gru")
    return _draw("state_not_carried", rng, library, _stream(rng, 20, 40), cell, **window)


def _truncated(rng: np.random.Generator, library: Library) -> Patient:
    window = {"window_steps": int(rng.integers(8, 17)), "state_carried": True, "updates": 1200}
    cell = _one_of(rng, "lstm", "gru")
    return _draw("truncated", rng, library, _stream(rng, 25, 45), cell, **window)


def _saturated(rng: np.random.Generator, library: Library) -> Patient:
    cell = _one_of(rng, "lstm", "gru")
    return _draw("saturated", rng, library, _long_task(rng), cell, plant="loud input", **_SHORT)


def _dead_units(rng: np.random.Generator, library: Library) -> Patient:
    cell, plant = _one_of(rng, ("rnn_relu", "dead relu"), ("gru", "frozen"))
    return _draw("dead_units", rng, library, _long_task(rng), cell, plant=plant, **_SHORT)


def _forgetting(rng: np.random.Generator, library: Library) -> Patient:
    cell, bias = _one_of(rng, "lstm", "gru"), -rng.uniform(1.5, 4)
    return _draw("forgetting", rng, library, _long_task(rng), cell, init=(f"forget:{bias:.1f}",), **_SHORT)  # fmt: skip


def _rank_collapse(rng: np.random.Generator, library: Library) -> Patient:
    cell = _one_of(rng, "rnn", "rnn_relu")
    return _draw("rank_collapse", rng, library, _long_task(rng), cell, plant="rank one", **_SHORT)


def _vanishing(rng: np.random.Generator, library: Library) -> Patient:
    radius = rng.uniform(0.2, 0.7)
    return _draw("vanishing", rng, library, _long_task(rng), "rnn", init=(f"spectral:{radius:.2f}",), **_SHORT)  # fmt: skip


def _clipped_always(rng: np.random.Generator, library: Library) -> Patient:
    cell, norm = _one_of(rng, "lstm", "gru"), round(float(rng.uniform(0.0005, 0.002)), 5)
    if rng.random() < 0.5:
        return _draw("clipped_always", rng, library, _stream(rng, 4, 10), cell, clip_norm=norm, **_WHOLE)  # fmt: skip
    task = OfTask("adding", int(rng.integers(16, 30)))
    chrono = (f"chrono:{2 * task.needs_lag}",)
    return _draw("clipped_always", rng, library, task, cell, init=chrono, clip_norm=norm, **_LONG)  # fmt: skip


def _unused_context(rng: np.random.Generator, library: Library) -> Patient:
    whole = {"window_steps": 64, "state_carried": True, "updates": 300, "is_curable": False}
    cell, lag = _one_of(rng, "lstm", "gru"), int(rng.integers(25, 50))
    chrono = (f"chrono:{3 * lag}",)
    return _draw("unused_context", rng, library, _stream(rng, 0.4, 1), cell, init=chrono, claims_lag=lag, **whole)  # fmt: skip


def _healthy(rng: np.random.Generator, library: Library) -> Patient:
    cell = _one_of(rng, "lstm", "gru")
    if rng.random() < 0.5:
        return _draw("healthy", rng, library, _stream(rng, 4, 10), cell, is_curable=False, **_WHOLE)
    task = _short_task(rng)
    chrono = (f"chrono:{2 * task.needs_lag}",)
    return _draw("healthy", rng, library, task, cell, init=chrono, is_curable=False, **_LONG)


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
