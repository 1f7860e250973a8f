"""Who are the patients of the instrument's bench? Models with a known fault, and healthy ones.

Each is data: what it learns, how it is built and trained, and which single thing was spoilt. The
fixed ones were used while the instrument was made; others are drawn by a seed (`drawn_patients`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from throughtime.errors import ConfigError
from throughtime.studies.exercises import Exercise, OfTask, Stream

__all__ = [
    "FIXED",
    "GENTLE",
    "LONG",
    "SHORT",
    "UNFINISHED",
    "WHOLE",
    "Patient",
    "Setting",
    "patient",
]

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
        """With the options of a cure; a planted fault of the weights goes with their old init.

        Raises:
            ConfigError: An option is none of a patient's.
        """
        unknown = [name for name in options if not hasattr(self, name)]
        if unknown:
            raise ConfigError(f"{unknown[0]} is no option of a patient; give `Setting` a field.")
        changes = dict(options)
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
    """

    disease: str
    library: Library
    exercise: Exercise
    setting: Setting
    is_curable: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        """Short and unique within a list."""
        return f"{self.disease}/{self.library}-{self.setting.cell}/{self.exercise.name}/{self.seed}"


def patient(
    disease: str, library: Library, exercise: Exercise, cell: str, **setting: Any
) -> Patient:
    """A patient, its setting by name."""
    own = {name: setting.pop(name) for name in ("is_curable",) if name in setting}
    return Patient(disease, library, exercise, Setting(cell, **setting), **own)


_ORDER, _SUM = OfTask("temporal-order", 50), OfTask("adding", 80)
SHORT = {"updates": 60}  # the fault is there from the start; training shows that it stays
GENTLE = {"updates": 60, "learning_rate": 1e-5}  # larger steps blur what was planted
UNFINISHED = {"updates": 250, "is_curable": False}  # it takes many times as long to learn
LONG = {"updates": 1500}
_BLIND = {"window_steps": 12, "state_carried": False, "updates": 600}
WHOLE = {"window_steps": 64, "state_carried": True, "updates": 800}
_SHORT_SIGHTED = {"window_steps": 12, "state_carried": True, "updates": 1200}

FIXED: tuple[Patient, ...] = (
    patient(
        "non_finite", "ours", OfTask("adding", 200), "rnn_relu", init=("identity:1.7",), **SHORT
    ),
    patient("non_finite", "torch", _ORDER, "lstm", data_fault="nan", is_curable=False, **SHORT),
    patient("exploding", "ours", _ORDER, "rnn", init=("spectral:3",), **SHORT),
    patient("exploding", "torch", _SUM, "rnn_relu", init=("identity:1.25",), **SHORT),
    patient("state_not_carried", "ours", Stream("average", 30), "lstm", **_BLIND),
    patient("state_not_carried", "torch", Stream("latest", 25), "gru", **_BLIND),
    patient("truncated", "ours", Stream("average", 40), "gru", **_SHORT_SIGHTED),
    patient("truncated", "torch", Stream("latest", 30), "lstm", **_SHORT_SIGHTED),
    patient("saturated", "ours", _ORDER, "lstm", plant="loud input", **SHORT),
    patient(
        "saturated", "torch", OfTask("random-permutation", 40), "gru", plant="loud input", **SHORT
    ),
    patient("dead_units", "ours", _SUM, "rnn_relu", plant="dead relu", **SHORT),
    patient("dead_units", "torch", _ORDER, "gru", plant="frozen", **SHORT),
    patient("forgetting", "ours", _ORDER, "lstm", init=("forget:-2",), **SHORT),
    patient("forgetting", "torch", _SUM, "gru", init=("forget:-2",), **SHORT),
    patient("rank_collapse", "ours", _ORDER, "rnn", plant="rank one", **GENTLE),
    patient("rank_collapse", "torch", _SUM, "rnn_relu", plant="rank one", **GENTLE),
    patient("vanishing", "ours", _ORDER, "rnn_notes", **SHORT),
    patient("vanishing", "torch", _SUM, "rnn", init=("spectral:0.5",), **SHORT),
    patient("clipped_always", "ours", Stream("average", 8), "lstm", clip_norm=0.003, **WHOLE),
    patient(
        "clipped_always",
        "torch",
        OfTask("adding", 24),
        "gru",
        init=("chrono:30",),
        clip_norm=0.001,
        **LONG,
    ),
    patient(
        "unused_context",
        "ours",
        OfTask("multiplication", 80),
        "lstm",
        init=("chrono:150",),
        **UNFINISHED,
    ),
    patient(
        "unused_context", "torch", OfTask("adding", 120), "gru", init=("chrono:120",), **UNFINISHED
    ),
    patient(
        "healthy",
        "ours",
        OfTask("recall", 16),
        "lstm",
        init=("chrono:30",),
        is_curable=False,
        **LONG,
    ),
    patient(
        "healthy",
        "torch",
        OfTask("recall", 16),
        "gru",
        init=("chrono:30",),
        is_curable=False,
        **LONG,
    ),
    patient(
        "healthy",
        "ours",
        OfTask("temporal-order", 20),
        "gru",
        init=("chrono:40",),
        is_curable=False,
        **LONG,
    ),
    patient("healthy", "torch", Stream("average", 8), "lstm", is_curable=False, **WHOLE),
    patient("healthy", "ours", Stream("latest", 8), "gru", is_curable=False, **WHOLE),
)
"""Two of each disease and five controls, seen while thresholds and measures were made."""
