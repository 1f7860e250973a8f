"""What is written down of a cure? How a run was before, and after each thing that was tried."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from throughtime.records.atomic import replace_file
from throughtime.records.diagnosis import ContextUse, DiagnosisRecord, Finding

__all__ = ["CURE_FILE", "CureRecord", "Side", "Trial", "side_of", "trial_of", "write_cure"]

SCHEMA = 1
CURE_FILE = "cure.json"
"""What it is called in the folder of the run that was to be cured."""


@dataclass(frozen=True)
class Side:
    """A trained model: how well it does, and what is wrong with it.

    Attributes:
        name: Its run folder, or what it is.
        score: Lower is better; None if it has none.
        findings: Codes, the first one first.
        top: The first finding.
        horizon_steps: How far back the error reaches in the layer in which it reaches farthest.
        is_horizon_beyond: Whether it reaches at least so far.
        uses_steps: Steps of context that the model uses; None where context gains nothing.
    """

    name: str
    score: float | None
    findings: list[str]
    top: Finding
    horizon_steps: int
    is_horizon_beyond: bool
    uses_steps: int | None


@dataclass(frozen=True)
class Trial:
    """One cure that was tried.

    Attributes:
        options: What it changes.
        command: What trains the same; for a model that is no run, what was called.
        after: The cured model; None if its training was stopped or failed.
        failure: Why it failed, if it did.
        is_gone: Whether the finding is gone.
        is_better: Whether the score is lower; None if one of the two is missing.
    """

    options: dict[str, Any]
    command: str
    after: Side | None
    is_gone: bool = False
    is_better: bool | None = None
    failure: str | None = None

    @property
    def is_cured(self) -> bool:
        """Whether the finding is gone, and the model no worse for it."""
        return self.is_gone and self.is_better is not False


@dataclass(frozen=True)
class CureRecord:
    """All of a cure.

    Attributes:
        code: The finding that was to be cured.
        metric: What a score is, with its unit.
        before: The patient.
        trials: What was tried, the first choice first.
        signal_number: The signal that stopped it, if one did.
    """

    code: str
    metric: str
    before: Side
    trials: list[Trial]
    signal_number: int | None = None

    @property
    def best(self) -> Trial | None:
        """Of those that cured, the one with the lowest score; None if none did."""
        cured = [trial for trial in self.trials if trial.is_cured]
        return min(cured, key=_rank, default=None)

    def as_json(self) -> dict[str, Any]:
        """As plain values that JSON can hold: what is not finite is None."""
        trials = [asdict(t) | {"is_cured": t.is_cured} for t in self.trials]
        values = {"schema": SCHEMA, **asdict(self), "trials": trials}
        return _finite({**values, "is_cured": self.best is not None})

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.as_json(), allow_nan=False)


def side_of(name: str, score: float | None, record: DiagnosisRecord) -> Side:
    """What is kept of a diagnosis for the comparison."""
    farthest = max(record.layers, key=lambda layer: (layer.horizon_steps, layer.is_horizon_beyond))
    context: ContextUse | None = record.context
    return Side(
        name=name,
        score=score,
        findings=[finding.code for finding in record.findings],
        top=record.findings[0],
        horizon_steps=farthest.horizon_steps,
        is_horizon_beyond=farthest.is_horizon_beyond,
        uses_steps=None if context is None else context.uses_steps,
    )


def trial_of(options: dict[str, Any], command: str, before: Side, after: Side) -> Trial:
    """A trial that came to its end."""
    is_better = None
    if before.score is not None and after.score is not None:
        # A score that is no number is worse than any.
        is_better = after.score < before.score or math.isnan(before.score) > math.isnan(after.score)
    return Trial(options, command, after, before.top.code not in after.findings, is_better)


def write_cure(path: Path, record: CureRecord) -> None:
    """Write a record whole.

    Raises:
        CheckpointError: The file cannot be written.
    """
    replace_file(path, [record.to_json().encode(), b"\n"])


def _rank(trial: Trial) -> float:
    score = None if trial.after is None else trial.after.score
    return float("inf") if score is None else score


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    return value
