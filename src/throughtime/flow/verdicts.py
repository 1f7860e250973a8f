"""What is wrong? Each finding of the list, judged from the records of the measures alone.

One thing can show in many numbers. A finding that another one explains is not reported beside it:
it is named among those not examined, and judged again when the first is cured. Loss of memory is
one symptom with five causes; what a model provably uses from the needed lag it has learnt, so none
of them is found then.
"""

import math
from collections.abc import Callable, Sequence

from throughtime.flow import wording
from throughtime.flow.case import Case, Found, Verdict
from throughtime.flow.context import gains, needed_lag
from throughtime.flow.remedies import facts_of, remedies
from throughtime.flow.thresholds import THRESHOLDS, limit
from throughtime.records.diagnosis import (
    CODES,
    ContextUse,
    Finding,
    GateRecord,
    LayerRecord,
    NeededLag,
    TrainingFacts,
)

__all__ = ["judge", "needed_lag"]

_NO_TRAINING = "nothing is known of the training loop; give training="
_NO_LAG = "how many steps the answer needs is not stated, only what is used; give needs_lag"
_NO_CURVE = "there is no context-use curve"
_UNTRAINED = (
    f"the model may be untrained; give training= with {limit('unused_context_updates'):g} updates"
)


def judge(
    layers: Sequence[LayerRecord],
    context: ContextUse | None,
    training: TrainingFacts | None,
    needs_lag: NeededLag | None,
    *,
    is_finite: bool = True,
) -> tuple[list[Finding], dict[str, str]]:
    """What is wrong, in order of precedence, and what could not be judged.

    Args:
        layers: One record a layer, direction and sequence; one at least.
        context: The context-use curve.
        training: Of the loop.
        needs_lag: Over how many steps the answer depends on the input (see `needed_lag`).
        is_finite: Whether the loss and all that was measured are numbers.

    Returns:
        The findings, "healthy" alone if nothing is wrong; for each code that was not judged, why.
    """
    case = Case(layers, context, training, needs_lag, is_finite)
    findings: list[Finding] = []
    not_examined: dict[str, str] = {}
    for code, trigger in _TRIGGERS.items():
        by = next((f.code for f in findings if code in _EXPLAINS.get(f.code, ())), None)
        found = wording.explained(by) if by is not None else trigger(case)
        if isinstance(found, str):
            not_examined[code] = found
        elif found is not None:
            findings.append(_finding(code, found, case))
    if not findings:
        findings.append(_finding("healthy", _healthy(case, not_examined), case))
    return findings, not_examined


def _finding(code: str, found: Found, case: Case) -> Finding:
    facts = facts_of(case.layers, case.needs_lag, case.training)
    options = next(iter(remedies(code, facts)), {})
    values = {**found.values, "value": found.value, "threshold": found.threshold}
    return Finding(
        code=code,
        layer=found.layer,
        value=found.value,
        threshold=found.threshold,
        unit=found.unit or THRESHOLDS[code].unit,
        sentence=wording.sentence(code, found.layer, values),
        cure=wording.cure_in_python(code, options, found.layer, facts),
        falsify=wording.falsify(code, values),
        options=options,
    )


def _non_finite(case: Case) -> Verdict:
    training = case.training
    wrong = [] if case.is_finite else ["the loss, or an error that enters a layer"]
    losses = [] if case.context is None else case.context.loss
    if any(math.isnan(x) for layer in case.layers for x in layer.error_by_lag):
        wrong.append("the error that travels back")
    if case.is_finite and not all(map(math.isfinite, losses)):
        wrong.append("the loss with less context")
    if wrong:
        values = {"wrong": " and ".join(wrong)}
        return Found(float(len(wrong)), limit("non_finite"), None, values)
    if training is None or not training.updates:
        return None
    share, threshold = training.nonfinite_updates / training.updates, limit("non_finite_share")
    if share <= threshold:
        return None
    values = {"updates": training.updates}
    return Found(share, threshold, None, values, THRESHOLDS["non_finite_share"].unit)


def _exploding(case: Case) -> Verdict:
    layer = max(case.layers, key=_growth)
    ratio, lag = _growth(layer)
    if ratio <= limit("exploding") or layer.growth_per_step <= limit("exploding_growth"):
        return None
    values = {"lag": lag, "growth": layer.growth_per_step}
    return Found(ratio, limit("exploding"), layer.name, values)


def _growth(layer: LayerRecord) -> tuple[float, int]:
    """The largest error by lag, in times of that at lag 0, and its lag.

    Of all lags: what comes from beyond the needed one enters the same sum.
    """
    first, largest = layer.error_by_lag[0], max(layer.error_by_lag)
    if not first > 0.0:
        return 0.0, 0
    return largest / first, layer.error_by_lag.index(largest)


def _state_not_carried(case: Case) -> Verdict:
    if case.training is None:
        return _NO_TRAINING
    window = case.window
    if window is None or case.training.state_carried is not False:
        return None  # sequences are whole, or the state is carried
    if case.stated is not None:
        value = case.stated / window
        found = value >= limit("state_not_carried")
        return _window_found(case, value, "state_not_carried", "needed") if found else None
    if case.context is None:
        return _NO_CURVE
    value, threshold = case.used / window, "state_not_carried_use"
    return _window_found(case, value, threshold, "used") if value >= limit(threshold) else None


def _window_found(case: Case, value: float, threshold: str, why: str) -> Found:
    lag = case.stated if why == "needed" else case.used
    values = {"window": case.window, "lag": lag, "why": why, "reach": case.farthest.horizon_steps}
    return Found(value, limit(threshold), None, values)


def _truncated(case: Case) -> Verdict:
    if case.training is None:
        return _NO_TRAINING
    window, threshold = case.window, limit("truncated")
    if window is None or case.farthest.horizon_steps + 1 < threshold * window:
        return None  # nothing is cut, or the error dies before the cut
    if case.stated is not None:
        value = case.stated / window
        return _window_found(case, value, "truncated", "needed") if value >= threshold else None
    if case.context is None:
        return _NO_CURVE
    if case.steps <= window:
        return f"the batch has {case.steps} steps and the window {window}: give a longer batch"
    value = case.used / window
    return _window_found(case, value, "truncated", "used") if value > threshold else None


def _saturated(case: Case) -> Verdict:
    layer = max(case.layers, key=_saturation)
    share = _saturation(layer)
    if share <= limit("saturated") or case.uses_needed:
        return None
    return Found(share, limit("saturated"), layer.name, {})


def _saturation(layer: LayerRecord) -> float:
    """The saturated share of a layer, but no more than that of what neither keeps nor writes."""
    if layer.saturated_share is None:
        return 0.0
    others = [gate.saturated_share for gate in layer.gates if gate.role == "other"]
    return min([layer.saturated_share, *([sum(others) / len(others)] if others else [])])


def _dead_units(case: Case) -> Verdict:
    layer = max(case.layers, key=lambda one: one.dead_share)
    if layer.dead_share <= limit("dead_units") or case.uses_needed:
        return None
    values = {"units": layer.units, "steps": layer.steps, "rows": layer.rows}
    return Found(layer.dead_share, limit("dead_units"), layer.name, values)


def _lost_lag(case: Case) -> int | str | None:
    """The needed lag, if the error dies before it in every layer; or why that is not known."""
    lag = case.stated
    if lag is None:
        return _NO_LAG
    if case.uses_needed or case.farthest.horizon_steps >= lag:
        return None
    if any(layer.is_horizon_beyond for layer in case.layers):
        return _too_short(case, lag)
    return lag


def _too_short(case: Case, lag: int) -> str:
    return f"the batch has {case.steps} steps, too few to see the lag {lag}: give a longer one"


def _forgetting(case: Case) -> Verdict:
    lag = _lost_lag(case)
    if not isinstance(lag, int):
        return lag
    times = [(t, one.name) for one in case.layers if (t := _memory_steps(one)) is not None]
    if not times:
        return None  # no gate to blame
    time, name = max(times)
    threshold = limit("forgetting") * lag
    if time >= threshold:
        return None
    values = {"lag": lag, "reach": case.farthest.horizon_steps}
    return Found(time, threshold, name, values, "steps")


def _memory_steps(layer: LayerRecord) -> float | None:
    """The time constant that a tenth of the units have at least, of the gate that keeps longest."""
    found = [_quantile(gate) for gate in layer.gates if gate.role == "keep"]
    return max((time for time in found if time is not None), default=None)


def _quantile(gate: GateRecord) -> float | None:
    times = sorted(math.inf if t is None else t for t in gate.time_constants_steps)
    if not times:
        return None
    return times[math.ceil(limit("forgetting_quantile") * (len(times) - 1))]


def _rank_collapse(case: Case) -> Verdict:
    lag, units = case.stated, limit("rank_collapse_units")
    if lag is None:
        return _NO_LAG
    arriving = [one for one in case.layers if one.horizon_steps >= lag and one.units >= units]
    counts = [(n, one) for one in arriving if (n := _directions(one, lag)) is not None]
    if not counts or case.uses_needed:
        return None
    (count, at), layer = max(counts, key=lambda pair: pair[0])
    if count > limit("rank_collapse"):
        return None
    values = {"lag": lag, "at": at, "units": layer.units}
    return Found(float(count), limit("rank_collapse"), layer.name, values)


def _directions(layer: LayerRecord, lag: int) -> tuple[int, int] | None:
    """In how many directions the error comes back, at the largest lag counted up to this one."""
    pairs = zip(layer.condition_lags, layer.directions_by_lag, strict=True)
    at, count = max((pair for pair in pairs if 1 < pair[0] <= lag), default=(0, 0))
    return (count, at) if at else None


def _vanishing(case: Case) -> Verdict:
    lag = _lost_lag(case)
    if not isinstance(lag, int):
        return lag
    layer = case.farthest
    threshold = limit("vanishing") * lag
    values = {"lag": lag, "factor": layer.bound_factor}
    return Found(float(layer.horizon_steps), threshold, layer.name, values, "steps")


def _clipped_always(case: Case) -> Verdict:
    training = case.training
    if training is None:
        return _NO_TRAINING
    if not training.clip_norm:
        return None
    least = limit("clipped_always_updates")
    if training.clipped_share is None or training.updates < least:
        return f"the norms of {training.updates} updates are known; {least:g} are wanted"
    if training.clipped_share <= limit("clipped_always"):
        return None
    values = {"norm": training.clip_norm, "median": training.median_norm}
    values |= {"updates": training.updates}
    return Found(training.clipped_share, limit("clipped_always"), None, values)


def _unused_context(case: Case) -> Verdict:
    lag, context = case.stated, case.context
    if lag is None:
        return _NO_LAG
    if context is None:
        return _NO_CURVE
    if case.steps <= lag:
        return _too_short(case, lag)
    if case.uses_needed or case.farthest.horizon_steps < lag:
        return None  # it is used, or nothing arrives that could be learnt from
    if not _is_trained(case.training, context):
        return _UNTRAINED
    values = {"lag": lag, "loss": context.loss[-1], "without": context.least_loss[0]}
    threshold = limit("unused_context") * lag
    return Found(float(case.used), threshold, case.farthest.name, values, "steps")


def _is_trained(training: TrainingFacts | None, context: ContextUse) -> bool:
    """Whether the model is known to have learnt; if nothing is known, whether it shows."""
    if training is None or not training.updates:
        return gains(context, limit("unused_context_gain"))
    return training.updates >= limit("unused_context_updates")


def _healthy(case: Case, not_examined: dict[str, str]) -> Found:
    values = {
        "needed": case.needs_lag,
        "steps": case.steps,
        "not_examined": list(not_examined),
        "is_beyond": case.farthest.is_horizon_beyond,
    }
    lag = 0 if case.needs_lag is None else case.needs_lag.steps
    return Found(float(case.farthest.horizon_steps), float(lag), None, values, "steps")


_TRIGGERS: dict[str, Callable[[Case], Verdict]] = {
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
}
assert (*_TRIGGERS, "healthy") == CODES, "in the order of precedence"

_MEMORY = ("forgetting", "rank_collapse", "vanishing")
_EXPLAINS: dict[str, tuple[str, ...]] = {
    "non_finite": CODES[1:],  # nothing can be told from numbers that are none
    "exploding": (*_MEMORY, "clipped_always", "unused_context"),  # clipping is no fault here
    "state_not_carried": ("truncated", *_MEMORY, "unused_context"),
    "truncated": (*_MEMORY, "unused_context"),  # memory grows by the errors that are cut off
    "saturated": ("dead_units", *_MEMORY, "unused_context"),
    "dead_units": (*_MEMORY, "unused_context"),
    "forgetting": ("rank_collapse", "vanishing", "unused_context"),
    "rank_collapse": ("vanishing", "unused_context"),
    "vanishing": ("unused_context",),
    "clipped_always": ("unused_context",),  # steps that are always cut short learn late
}
"""What is not judged where this was found, since it may follow from it."""
