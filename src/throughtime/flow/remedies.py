"""What can be tried against a finding? Changes of a training's options, the best known first.

A remedy is data: the options of `throughtime train` with their new values. `init` is the whole
list of initialisers that then counts. What is not known of a training stays out of its remedies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from throughtime.records.diagnosis import LayerRecord, NeededLag, TrainingFacts

__all__ = ["Facts", "Options", "facts_of", "remedies"]

Options = dict[str, Any]

_CLIP_NORM = 1.0
_SLOWER = 10.0
_LONGER = 3
_SHORTEST_LAG = 2
_PASCANU_MULTIPLE = 2.0  # of the median norm: within Pascanu et al.'s 0.5 to 10
_KEEP_INITS = ("chrono", "forget")


@dataclass(frozen=True)
class Facts:
    """What decides which remedies there are.

    Attributes:
        is_gated: Whether a gate keeps the state.
        is_relu: Whether units are rectified, and have no gates.
        lag: Steps that the memory should reach.
        window_steps: Of a truncated backward pass; None where sequences are whole.
        median_norm: Of the gradients.
        options: The training's options as they are, by name; empty if they are not known.
    """

    is_gated: bool
    is_relu: bool
    lag: int
    window_steps: int | None = None
    median_norm: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def facts_of(
    layers: Sequence[LayerRecord],
    needs_lag: NeededLag | None,
    training: TrainingFacts | None,
    options: Mapping[str, Any] | None = None,
) -> Facts:
    """The facts that records tell, and the options of the training where they are known."""
    gated = any(gate.role == "keep" for layer in layers for gate in layer.gates)
    # Of units without gates only those without bounds have nothing to saturate.
    relu = not gated and any(layer.saturated_share is None for layer in layers)
    steps = max((layer.steps for layer in layers), default=_SHORTEST_LAG)
    lag = steps - 1 if needs_lag is None else needs_lag.steps
    return Facts(
        is_gated=gated,
        is_relu=relu,
        lag=max(lag, _SHORTEST_LAG),
        window_steps=None if training is None else training.window_steps,
        median_norm=None if training is None else training.median_norm,
        options=options or {},
    )


def remedies(code: str, facts: Facts) -> list[Options]:
    """What can be tried against a finding, the best known first; nothing that changes nothing.

    Args:
        code: The finding's.
        facts: Of the model and its training.

    Source:
        Chrono: Tallec & Ollivier 2018, with twice the lag as the longest time constant;
        orthogonal: Saxe et al. 2014; identity: Le et al. 2015; clipping: Pascanu et al. 2013.
    """
    found: list[Options] = []
    for tried in _REMEDIES[code](facts) if code in _REMEDIES else ():
        changed = {n: v for n, v in tried.items() if facts.options.get(n, _UNKNOWN) != v}
        if changed and changed not in found:
            found.append(changed)
    return found


_UNKNOWN = object()


def _init(facts: Facts, *, matrix: str | None = None, keep: str | None = None) -> Options:
    """Weights that start otherwise; the part of the old start that is not replaced stays."""
    old = [part.strip() for text in facts.options.get("init", ()) for part in text.split(",")]
    kept_biases = [text for text in old if text.split(":")[0] in _KEEP_INITS]
    kept_matrices = [text for text in old if text not in kept_biases]
    matrices = kept_matrices if matrix is None else [matrix]
    biases = kept_biases if keep is None else [keep]
    return {"init": [*matrices, *biases]}


def _chrono(facts: Facts) -> str:
    return f"chrono:{2 * facts.lag}"


def _fresh(facts: Facts) -> Options:
    """A start from which errors neither grow nor die: all that was set before is replaced."""
    if facts.is_gated:
        return {"init": ["orthogonal", _chrono(facts)]}
    return {"init": ["orthogonal"]}


def _gated(facts: Facts, cell: str) -> Options:
    """Another cell; what its weights start from is chosen for it alone."""
    return {"cell": cell, "init": [_chrono(facts)]}


def _around(facts: Facts, cure: str) -> list[Options]:
    """A cure around the cell, where its name is known."""
    cell = facts.options.get("cell")
    return [] if cell is None else [{"cell": cure.format(cell)}]


def _slower(facts: Facts) -> Options:
    rate = facts.options.get("learning_rate")
    return {} if rate is None else {"learning_rate": rate / _SLOWER}


def _clip(facts: Facts) -> Options:
    old = facts.options.get("clip_norm") or math.inf
    return {"clip_norm": min(_CLIP_NORM, old)}


def _non_finite(facts: Facts) -> list[Options]:
    # A gated layer that starts as usual does not overflow, so its start is left alone.
    start = {} if facts.is_gated and not facts.options.get("init") else _fresh(facts)
    calm = _clip(facts) | _slower(facts)
    return [start | calm, calm, start | _clip(facts), *_other_cells(facts)]


def _exploding(facts: Facts) -> list[Options]:
    identity = [_init(facts, matrix="identity") | _clip(facts)] if facts.is_relu else []
    return [
        _fresh(facts) | _clip(facts),
        *identity,
        _init(facts, matrix="spectral:0.9") | _clip(facts),
        _clip(facts) | _slower(facts),
        *_other_cells(facts),
    ]


def _other_cells(facts: Facts) -> list[Options]:
    """Gated cells where there is no gate."""
    return [] if facts.is_gated else [_gated(facts, "gru"), _gated(facts, "lstm")]


def _state_not_carried(facts: Facts) -> list[Options]:
    return [{"state_carried": True}, *_truncated(facts)]


def _truncated(facts: Facts) -> list[Options]:
    if facts.window_steps is None:
        return []
    least = max(2 * facts.window_steps, facts.lag + 1)
    window = 2 ** math.ceil(math.log2(least))
    return [{"window_steps": window}, {"window_steps": 2 * window}]


def _saturated(facts: Facts) -> list[Options]:
    normed = {"lstm": "lstm_layer_norm", "gru": "gru_layer_norm"}
    cell = normed.get(str(facts.options.get("cell")))
    norm = [] if cell is None else [_gated(facts, cell)]
    tamed = _fresh(facts) | _slower(facts) if not facts.options.get("init") else _fresh(facts)
    return [tamed, *norm, _slower(facts) | _clip(facts), *_other_cells(facts)]


def _dead_units(facts: Facts) -> list[Options]:
    tanh = [{"cell": "rnn", "init": ["orthogonal"]}] if facts.is_relu else []
    biases = [_init(facts, keep=_chrono(facts))] if facts.is_gated else []
    return [_fresh(facts), *tanh, *biases, _slower(facts), *_other_cells(facts)]


def _forgetting(facts: Facts) -> list[Options]:
    bias = round(math.log(facts.lag), 2)
    return [
        _init(facts, keep=_chrono(facts)),
        _init(facts, keep=f"forget:{bias}"),
        _fresh(facts),
        *_around(facts, f"skip({{}}, delays=[{facts.lag}])"),
        *_other_cells(facts),
    ]


def _rank_collapse(facts: Facts) -> list[Options]:
    return [_fresh(facts), *_other_cells(facts), *_wider(facts)]


def _vanishing(facts: Facts) -> list[Options]:
    matrix = "identity" if facts.is_relu else "orthogonal"
    rate = round(1.0 / facts.lag, 4)
    own = [_init(facts, keep=_chrono(facts)), _fresh(facts)] if facts.is_gated else []
    return [
        *own,
        *_other_cells(facts),
        _init(facts, matrix=matrix),
        *_around(facts, f"leaky({{}}, rate={rate})"),
        *_around(facts, f"skip({{}}, delays=[{facts.lag}])"),
    ]


def _clipped_always(facts: Facts) -> list[Options]:
    if facts.median_norm is None:
        return [{"clip_norm": _CLIP_NORM}]
    return [{"clip_norm": _digits(times * facts.median_norm)} for times in (_PASCANU_MULTIPLE, 10)]


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def _unused_context(facts: Facts) -> list[Options]:
    updates = facts.options.get("updates")
    longer = [] if updates is None else [{"updates": _LONGER * updates}]
    return [*longer, *_wider(facts), *_truncated(facts)]


def _wider(facts: Facts) -> list[Options]:
    hidden = facts.options.get("hidden")
    return [] if hidden is None else [{"hidden": 2 * hidden}]


_REMEDIES: dict[str, Callable[[Facts], list[Options]]] = {
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
