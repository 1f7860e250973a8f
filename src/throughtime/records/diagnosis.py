"""What is written down of a diagnosis? Everything that is drawn, as plain numbers and words.

Norms are Euclidean, over the whole state of a layer (an LSTM's h and c together) unless a name
says otherwise. Lags count steps back: lag 0 is the step at which the error enters. A number that
is infinite or not a number is None in JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = [
    "CODES",
    "ContextUse",
    "DiagnosisRecord",
    "Finding",
    "GateRecord",
    "LayerRecord",
    "NeededLag",
    "TimeMap",
    "TrainingFacts",
    "diagnosis_from",
]

SCHEMA = 1

CODES = (
    "non_finite",
    "exploding",
    "state_not_carried",
    "truncated",
    "saturated",
    "dead_units",
    "forgetting",
    "rank_collapse",
    "vanishing",
    "clipped_always",
    "unused_context",
    "healthy",
)
"""What can be found, the first to be cured first."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that nothing is.

    Attributes:
        code: One of `CODES`.
        layer: Which layer; None where it is of the whole model or of the training loop.
        value: The number that triggered it, in `unit`.
        threshold: What it was compared with, in the same unit.
        unit: Such as "steps", "share of gate activations".
        sentence: What was found, in plain words.
        cure: One command, or one line of code, that applies the cure.
        falsify: What to do to see whether the finding is wrong.
        options: What the cure changes in a run's options: "init" -> "chrono:100"; what
            `throughtime cure` applies. Empty where nothing can be applied.
    """

    code: str
    layer: str | None
    value: float
    threshold: float
    unit: str
    sentence: str
    cure: str
    falsify: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NeededLag:
    """Over how many steps the answer depends on the input, and who says so."""

    steps: int
    source: str


@dataclass(frozen=True)
class TimeMap:
    """A number for steps t, from which the error starts, and steps k, which it reaches.

    Attributes:
        t: The steps of the rows, in the order of steps, from 0.
        k: The steps of the columns.
        log10: The decimal logarithm; None where k lies after t, or nothing arrives.
    """

    t: list[int]
    k: list[int]
    log10: list[list[float | None]]


@dataclass(frozen=True)
class GateRecord:
    """One gate of a layer, over all steps and rows examined.

    Attributes:
        name: The gate, such as "f".
        role: "keep", "write" or "other".
        saturated_share: Activations within 0.02 of a bound, over all.
        low, median, high: The 10, 50 and 90 % quantiles over units of the mean activation.
        time_constants_steps: Of each unit, -1 / ln(mean of what it keeps); for gates that keep.
    """

    name: str
    role: str
    saturated_share: float
    low: float
    median: float
    high: float
    time_constants_steps: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class LayerRecord:
    """How far back one layer in one direction learns.

    Attributes:
        name, kind: Where it stands and what it is.
        states: The states it carries, such as ["h", "c"].
        units: Of the whole state.
        steps: T examined.
        rows: Sequences examined.
        replay_error: The largest difference of our outputs and states from the model's own, as a
            share of the largest of them if that is above one.
        horizon_steps: The largest lag at which the median error is 1 % of that at lag 0 or more.
        is_horizon_beyond: Whether it is so at the largest lag there is: the horizon is at least
            that.
        error_by_lag: ||dE_t/ds_{t-L}||, median over rows and steps t: for each the share of its
            own value at lag 0, times the median at lag 0.
        error_low, error_high: 10 and 90 % quantiles, likewise.
        error_by_state: The median for each state by itself, over the same scale.
        error_map: ||dE_t/ds_k||, the median over rows.
        weight_by_lag: Norm of what lag L adds to dE/dW, W being the recurrent matrices together.
        weight_map: Norm of what step k adds to dE_t/dW.
        bound_by_lag: (beta_W beta_h)^L times the error at lag 0; no error can be above it.
        bound_factor: beta_W beta_h; for gated cells what takes its place. None if there is none.
        beta_w: The largest singular value of the recurrent matrix, where there is one alone.
        spectral_radius: Its largest absolute eigenvalue.
        lyapunov: The leading exponents, nats a step, largest first; means over rows.
        lyapunov_spread: Standard deviation over rows.
        condition_lags, condition_log10: The ratio of the largest to the smallest singular value
            that was followed, of products of that many steps.
        directions_by_lag: How many directions of the state an error still comes back in, at the
            lags of `condition_lags`: those above 1 % of the strongest.
        gates: Its gates.
        saturated_share: Over all bounded gates and tanh candidates; None if there are none.
        dead_share: Units that are constant over all steps and rows.
        path_share: For each state the share of the squared error that travels in it, at lag 1 and
            beyond, mean over lags.
        growth_per_step: Of the median error, the geometric mean over the lags up to the last one
            at which anything arrives.
    """

    name: str
    kind: str
    states: list[str]
    units: int
    steps: int
    rows: int
    replay_error: float
    horizon_steps: int
    is_horizon_beyond: bool
    error_by_lag: list[float]
    error_low: list[float]
    error_high: list[float]
    error_by_state: dict[str, list[float]]
    error_map: TimeMap
    weight_by_lag: list[float]
    weight_map: TimeMap
    bound_by_lag: list[float | None]
    bound_factor: float | None
    beta_w: float | None
    spectral_radius: float | None
    lyapunov: list[float | None]
    lyapunov_spread: list[float]
    condition_lags: list[int]
    condition_log10: list[float | None]
    directions_by_lag: list[int]
    gates: list[GateRecord]
    saturated_share: float | None
    dead_share: float
    path_share: dict[str, float]
    growth_per_step: float


@dataclass(frozen=True)
class ContextUse:
    """The user's own loss when all recurrent layers see the last n steps alone.

    Attributes:
        steps: n = 1, 2, 4, ... T; the last one is everything.
        loss: The loss at each.
        loss_exchanged: The loss where layers are not reset but take over the state of another row,
            which tells nothing of this row's past; None for a batch of one row. A reset takes away
            more: what is the same for all rows. What the lower of both shows is used for certain.
        uses_steps: The smallest n at which the loss is within 5 % (of what context gains in all)
            of that with everything; None where context gains nothing.
    """

    steps: list[int]
    loss: list[float]
    uses_steps: int | None
    loss_exchanged: list[float] | None = None

    @property
    def least_loss(self) -> list[float]:
        """The lower of both losses at each."""
        if self.loss_exchanged is None:
            return self.loss
        return [min(pair) for pair in zip(self.loss, self.loss_exchanged, strict=True)]


@dataclass(frozen=True)
class TrainingFacts:
    """What is known of the training loop.

    Attributes:
        window_steps: Steps of one truncated backward pass; None if sequences are whole.
        state_carried: Whether the state enters the next window; None if sequences are whole.
        clip_norm: The joint norm that gradients are clipped to; None or 0 for none.
        clipped_share: Updates that were clipped, over those examined.
        median_norm: The median joint norm of their gradients, before clipping.
        updates: How many were examined.
        nonfinite_updates: Those whose gradient was not finite.
    """

    window_steps: int | None = None
    state_carried: bool | None = None
    clip_norm: float | None = None
    clipped_share: float | None = None
    median_norm: float | None = None
    updates: int = 0
    nonfinite_updates: int = 0


@dataclass(frozen=True)
class DiagnosisRecord:
    """All of a diagnosis.

    Attributes:
        title: What was examined.
        mode: "eval" or "train".
        loss: The user's loss on the batch.
        findings: In order of precedence; the first is to be cured first. Never empty.
        not_examined: For findings that could not be judged, why not, by code.
        layers: One record a layer, direction and sequence.
        needs_lag: What the data need, if anyone knows.
        context: The context-use curve; None if it could not be made.
        training: Of the loop; None if nothing is known.
        history: Records of the monitor, oldest first: {"update", "horizon_steps", "lags",
            "error_at_lags", "layer"}.
        text: For a text: {"symbols": [...], "positions": [...], "connectivity": [[...], ...]}, a
            row for each predicted position over the symbols before it.
        elapsed_s: What the diagnosis took.
        provenance: Versions, seed, command.
    """

    title: str
    mode: str
    loss: float | None
    findings: list[Finding]
    not_examined: dict[str, str]
    layers: list[LayerRecord]
    needs_lag: NeededLag | None = None
    context: ContextUse | None = None
    training: TrainingFacts | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    text: dict[str, Any] | None = None
    elapsed_s: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As plain values that JSON can hold: what is not finite is None."""
        return {"schema": SCHEMA, **_finite(asdict(self))}

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.as_json(), allow_nan=False)


def diagnosis_from(values: Mapping[str, Any]) -> DiagnosisRecord:
    """The record that `as_json` wrote."""
    own = {f.name: values[f.name] for f in fields(DiagnosisRecord) if f.name in values}
    own["findings"] = [Finding(**f) for f in values["findings"]]
    own["layers"] = [_layer_from(layer) for layer in values["layers"]]
    for name, kind in (
        ("needs_lag", NeededLag),
        ("context", ContextUse),
        ("training", TrainingFacts),
    ):
        own[name] = None if values.get(name) is None else kind(**values[name])
    return DiagnosisRecord(**own)


def _layer_from(values: Mapping[str, Any]) -> LayerRecord:
    found = dict(values)
    found["gates"] = [GateRecord(**g) for g in values["gates"]]
    for name in ("error_map", "weight_map"):
        found[name] = TimeMap(**values[name])
    return LayerRecord(**found)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    return value
