"""In which words and numbers is a diagnosis told? Unit and sample size beside each."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from throughtime.records.diagnosis import DiagnosisRecord, Finding, LayerRecord

__all__ = [
    "Said",
    "counted",
    "differences",
    "facts",
    "finding",
    "gate_table",
    "horizon",
    "horizon_in_steps",
    "layer_facts",
    "layer_table",
    "matching",
    "names",
    "not_examined",
    "number",
    "provenance",
    "sample",
    "share",
]

_NOTHING = "-"
_NO_CURE = "nothing to cure"


@dataclass(frozen=True)
class Said:
    """A finding as a page says it."""

    code: str
    title: str
    layer: str | None
    compared: str
    sentence: str
    cure: str
    falsify: str
    is_healthy: bool


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return _NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e6:
        return f"{round(value):,}"
    return f"{value:.{digits}g}"


def horizon(layer: LayerRecord) -> str:
    """How far back the layer learns."""
    return f"{'≥ ' if layer.is_horizon_beyond else ''}{layer.horizon_steps:,}"


def horizon_in_steps(layer: LayerRecord) -> str:
    """How far back the layer learns, with the unit."""
    at_least = "≥ " if layer.is_horizon_beyond else ""
    return at_least + counted(layer.horizon_steps, "steps")


def finding(found: Finding, record: DiagnosisRecord) -> Said:
    """A finding in words; "healthy" is said of no more than was judged."""
    healthy = found.code == "healthy"
    title = found.code.replace("_", " ")
    if healthy and record.not_examined:
        title += ", as far as it was judged"
    return Said(
        found.code,
        title,
        found.layer,
        _compared(found),
        found.sentence,
        "" if healthy and found.cure == _NO_CURE else found.cure,
        found.falsify,
        healthy,
    )


def _compared(found: Finding) -> str:
    """The number that triggered a finding, and what it was compared with."""
    value, threshold, unit = found.value, found.threshold, found.unit
    if unit.startswith("share of "):
        return f"{share(value)} {unit.removeprefix('share ')}, threshold {share(threshold)}"
    if found.code == "healthy":
        needed = f", {number(threshold)} needed" if threshold else ""
        return f"{counted(value, unit)}{needed}"
    return f"{counted(value, unit)}, threshold {number(threshold)}"


def facts(record: DiagnosisRecord) -> list[tuple[str, str]]:
    """What was examined, a name and a text each."""
    steps = {layer.steps for layer in record.layers}
    rows = {layer.rows for layer in record.layers}
    found = [
        ("loss", number(record.loss, 4)),
        ("layers", f"{len(record.layers)}"),
        ("steps", _range(steps)),
        ("sequences", _range(rows)),
        ("mode", record.mode),
    ]
    if record.needs_lag is not None:
        need = record.needs_lag
        found.append(("needed lag", f"{counted(need.steps, 'steps')}, says {need.source}"))
    if record.training is not None:
        found.append(("training", _training(record)))
    return [*found, ("took", f"{record.elapsed_s:.1f} s")]


def not_examined(record: DiagnosisRecord) -> list[tuple[str, str]]:
    """What could not be judged, and why not: a reason each, with all that it is the reason of."""
    codes: dict[str, list[str]] = {}
    for code, why in record.not_examined.items():
        codes.setdefault(why, []).append(code.replace("_", " "))
    return [(", ".join(names), why) for why, names in codes.items()]


def names(records: Sequence[DiagnosisRecord]) -> list[str]:
    """What each of several is called: its title, numbered where two have the same."""
    titles = [record.title for record in records]
    return [
        title if titles.count(title) == 1 else f"{place}: {title}"
        for place, title in enumerate(titles, 1)
    ]


def layer_facts(layer: LayerRecord) -> str:
    """One line about a layer."""
    return (
        f"{layer.kind}, {counted(layer.units, 'units')} of state ({', '.join(layer.states)}). "
        f"{sample(layer)} Replay error {number(layer.replay_error, 2)}."
    )


def layer_table(record: DiagnosisRecord) -> tuple[list[str], list[list[str]]]:
    """The numbers of all layers: the names of the columns, and a row a layer."""
    head = ["layer", *_COLUMNS]
    return head, [[layer.name, *_numbers(layer).values()] for layer in record.layers]


_COLUMNS = (
    "kind",
    "horizon, steps",
    "λ₁, nats a step",
    "growth a step",
    "bound factor",
    "β_W",
    "spectral radius",
    "saturated",
    "dead units",
    "replay error",
)


def _numbers(layer: LayerRecord) -> dict[str, str]:
    first = layer.lyapunov[0] if layer.lyapunov else None
    spread = layer.lyapunov_spread[0] if layer.lyapunov_spread else None
    exponent = (
        number(first)
        if first is None or spread is None
        else f"{number(first)} ± {number(spread, 2)}"
    )
    values = (
        layer.kind,
        horizon(layer),
        exponent,
        number(layer.growth_per_step),
        number(layer.bound_factor),
        number(layer.beta_w),
        number(layer.spectral_radius),
        share(layer.saturated_share),
        share(layer.dead_share),
        number(layer.replay_error, 2),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def gate_table(record: DiagnosisRecord) -> list[list[str]]:
    """A row a gate: layer, gate, role, saturated share, quantiles, median time constant."""
    return [
        [
            layer.name,
            gate.name,
            gate.role,
            share(gate.saturated_share),
            f"{number(gate.low)} / {number(gate.median)} / {number(gate.high)}",
            _middle(gate.time_constants_steps),
        ]
        for layer in record.layers
        for gate in layer.gates
    ]


def _middle(values: Sequence[float | None]) -> str:
    found = sorted(math.inf if v is None else v for v in values)
    return number(found[(len(found) - 1) // 2]) if found else _NOTHING


def differences(record: DiagnosisRecord, others: Mapping[str, DiagnosisRecord]) -> list[list[str]]:
    """What differs: the name of a number, and its value in each record, the own one first."""
    if not others:
        return []
    every = [record, *others.values()]
    rows = [
        ["first finding", *(r.findings[0].code.replace("_", " ") for r in every)],
        ["loss", *(number(r.loss, 4) for r in every)],
        ["context used, steps", *(_uses(r) for r in every)],
    ]
    for place, layer in enumerate(record.layers):
        matched = [matching(other, place, layer.name) for other in others.values()]
        columns = [_numbers(layer), *({} if m is None else _numbers(m) for m in matched)]
        rows += [
            [f"{layer.name}: {name}", *(column.get(name, _NOTHING) for column in columns)]
            for name in _COLUMNS
        ]
    return rows


def sample(layer: LayerRecord) -> str:
    """Of how many sequences and steps a picture of a layer is made."""
    return f"{counted(layer.rows, 'sequences')} of {counted(layer.steps, 'steps')}."


def counted(many: float | None, what: str) -> str:
    """So many of what is named in the plural: "1 step", "2 steps"; other units stay as they are."""
    one = many == 1 and what.endswith("s")
    return f"{number(many)} {what[:-1] if one else what}"


def matching(record: DiagnosisRecord, place: int, name: str) -> LayerRecord | None:
    """The layer of another record that stands beside one: of the same name, else of its place."""
    for layer in record.layers:
        if layer.name == name:
            return layer
    return record.layers[place] if place < len(record.layers) else None


def provenance(record: DiagnosisRecord) -> list[tuple[str, str]]:
    """Where the numbers come from; what is no text is shown as JSON."""
    return [
        (str(name), value if isinstance(value, str) else json.dumps(value, default=str))
        for name, value in record.provenance.items()
    ]


def _training(record: DiagnosisRecord) -> str:
    known = record.training
    assert known is not None
    parts = []
    if known.window_steps is not None:
        carried = {True: ", state carried", False: ", state not carried", None: ""}
        steps = counted(known.window_steps, "steps")
        parts.append(f"windows of {steps}{carried[known.state_carried]}")
    else:
        parts.append("whole sequences")
    if known.clip_norm:
        clip = f"gradients clipped at the joint norm {number(known.clip_norm)}"
        if known.clipped_share is not None:
            clip += f" ({known.clipped_share:.0%} of {counted(known.updates, 'updates')})"
        parts.append(clip)
    if known.median_norm is not None:
        parts.append(f"median norm {number(known.median_norm)}")
    return ", ".join(parts)


def _uses(record: DiagnosisRecord) -> str:
    return _NOTHING if record.context is None else number(record.context.uses_steps)


def share(value: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return _NOTHING if value is None or math.isnan(value) else f"{value:.1%}"


def _range(values: set[int]) -> str:
    if not values:
        return _NOTHING
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
