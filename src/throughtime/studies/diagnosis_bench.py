"""How often is the instrument right? Patients with a known fault, healthy ones, and their cures."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import torch

from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.errors import ConfigError
from throughtime.studies.clinic import examine, make, train
from throughtime.studies.drawn_patients import drawn
from throughtime.studies.patients import FIXED, Patient, Setting

__all__ = ["BenchRow", "DiagnosisBench", "run_bench", "treated"]

DRAWN_SEED = 7_041_883
"""Of the patients that no threshold and no measure has seen before. (Those of 20,261,125 have: see
bench/NOTES.md.)"""

_NO_WORSE = 1.05  # a cured model may score a little worse by chance


@dataclass(frozen=True)
class BenchRow:
    """What came of one patient.

    Attributes:
        name, disease, library, cell, exercise: Who it is.
        source: "fixed" or "drawn".
        first: The finding that came first.
        codes: All findings.
        is_right: Whether the first is the disease; of a control, whether nothing was found.
        value, threshold, unit: Of the first finding.
        score: Of the patient: the mean loss of the last tenth of its training.
        is_curable: Whether a change of the setting can cure it.
        options: What the first cure changed; empty where none was tried.
        codes_after, score_after: Of the cured model.
        is_cured: Whether the disease is gone and the score no worse; None where none was tried.
    """

    name: str
    disease: str
    library: str
    cell: str
    exercise: str
    source: str
    first: str
    codes: list[str]
    is_right: bool
    value: float
    threshold: float
    unit: str
    score: float
    is_curable: bool
    options: dict[str, Any] = field(default_factory=dict)
    codes_after: list[str] = field(default_factory=list)
    score_after: float | None = None
    is_cured: bool | None = None


@dataclass(frozen=True)
class DiagnosisBench:
    """What came of all of them."""

    rows: list[BenchRow]

    def as_json(self) -> dict[str, Any]:
        """The counts, and a row for each patient."""
        sick = [row for row in self.rows if row.disease != "healthy"]
        controls = [row for row in self.rows if row.disease == "healthy"]
        return {
            "patients": len(sick),
            "right": sum(row.is_right for row in sick),
            "controls": len(controls),
            "false_alarms": sum(not row.is_right for row in controls),
            "cured": sum(bool(row.is_cured) for row in sick),
            "curable": sum(row.is_curable for row in sick),
            "rows": [asdict(row) for row in self.rows],
        }


def run_bench(
    seed: int = DRAWN_SEED,
    jobs: int | None = None,
    only: str | None = None,
    told: Callable[[BenchRow], object] | None = None,
) -> DiagnosisBench:
    """Examine and cure all patients.

    Args:
        seed: Of those that are drawn.
        jobs: Processes side by side; as many as there are cores if None.
        only: Only patients whose name has this in it.
        told: Called with each row, as they come.

    Raises:
        ConfigError: No patient is meant.
    """
    everyone = [("fixed", p) for p in FIXED] + [("drawn", p) for p in drawn(seed)]
    chosen = [(source, p) for source, p in everyone if only is None or only in p.name]
    if not chosen:
        raise ConfigError(f"no patient has {only!r} in its name; an example is {FIXED[0].name}.")
    rows: dict[int, BenchRow] = {}
    for place, row in _in_processes(chosen, jobs or os.cpu_count() or 1):
        rows[place] = row
        if told is not None:
            told(row)
    return DiagnosisBench([rows[place] for place in sorted(rows)])


def _in_processes(
    patients: Sequence[tuple[str, Patient]], jobs: int
) -> Iterable[tuple[int, BenchRow]]:
    # Forked processes would inherit OpenMP's threads in whatever state they are.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:
        running: dict[Future[BenchRow], int] = {
            pool.submit(treated, patient, source): place
            for place, (source, patient) in enumerate(patients)
        }
        for done in as_completed(running):
            yield running[done], done.result()


def treated(patient: Patient, source: str) -> BenchRow:
    """Train a patient, diagnose it, and apply the first cure of the first finding."""
    before, score = _case(patient, patient.setting)
    first = before.findings[0]
    row = {
        "name": patient.name,
        "disease": patient.disease,
        "library": patient.library,
        "cell": patient.setting.cell,
        "exercise": patient.exercise.name,
        "source": source,
        "first": first.code,
        "codes": [f.code for f in before.findings],
        "is_right": first.code == patient.disease,
        "value": first.value,
        "threshold": first.threshold,
        "unit": first.unit,
        "score": score,
        "is_curable": patient.is_curable,
    }
    if not patient.is_curable or not first.options:
        return BenchRow(**row)
    after, score_after = _case(patient, patient.setting.cured(first.options))
    codes = [f.code for f in after.findings]
    return BenchRow(
        **row,
        options=first.options,
        codes_after=codes,
        score_after=score_after,
        is_cured=patient.disease not in codes and _is_no_worse(score_after, score),
    )


def _case(patient: Patient, setting: Setting) -> tuple[Diagnosis, float]:
    model = make(patient, setting)
    trained = train(model, patient, setting)
    return examine(model, patient, setting, trained.training), trained.score


def _is_no_worse(after: float, before: float) -> bool:
    return math.isfinite(after) and (not math.isfinite(before) or after <= _NO_WORSE * before)
