"""Diagnoses as they could be: made of formulas, so that they need no model and no torch."""

import math
from dataclasses import replace

from throughtime.records.diagnosis import (
    ContextUse,
    DiagnosisRecord,
    Finding,
    GateRecord,
    LayerRecord,
    NeededLag,
    TimeMap,
    TrainingFacts,
)

__all__ = ["HOSTILE", "empty", "healthy", "hostile", "layer", "vanishing"]

HOSTILE = "<script>alert('x')</script>&\"$\\frac{1}{0}$]]>"


def decayed(steps, factor, wiggle=0.15):
    return [0.08 * factor**n * (1 + wiggle * math.sin(n)) for n in range(steps)]


def time_map(steps, factor, most=32):
    ts = sorted({round((i + 1) * steps / min(most, steps)) - 1 for i in range(min(most, steps))})
    ks = list(range(steps))
    log = math.log10(factor)
    rows = [
        [None if k > t else -1.1 + (t - k) * log + 0.1 * math.sin(0.3 * k) for k in ks] for t in ts
    ]
    return TimeMap(ts, ks, rows)


def gates(units, longest):
    taus = [longest ** (i / max(1, units - 1)) for i in range(units)]
    return [
        GateRecord("i", "write", 0.04, 0.2, 0.45, 0.8),
        GateRecord("f", "keep", 0.12, 0.5, 0.91, 0.99, [*taus[:-1], None]),
        GateRecord("g", "other", 0.21, -0.7, 0.02, 0.7),
        GateRecord("o", "write", 0.02, 0.3, 0.5, 0.7),
    ]


def layer(
    name="rnn.l0", steps=200, factor=0.97, kind="lstm", states=("h", "c"), units=128, **other
):
    error = decayed(steps, factor)
    horizon = min(steps - 1, int(math.log(0.01) / math.log(factor)))
    lags = [2**i for i in range(int(math.log2(max(2, steps))))]
    shares = [1.0] if len(states) == 1 else [0.12, 0.88]
    values = {
        "name": name, "kind": kind, "states": list(states), "units": units, "steps": steps,
        "rows": 8,
        "replay_error": 2.4e-7, "horizon_steps": horizon, "is_horizon_beyond": horizon == steps - 1,
        "error_by_lag": error,
        "error_low": [e * 0.5 for e in error], "error_high": [e * 1.9 for e in error],
        "error_by_state": {
            s: [e * math.sqrt(w) for e in error] for s, w in zip(states, shares, strict=True)
        },
        "error_map": time_map(steps, factor),
        "weight_by_lag": [0.4 * e for e in error], "weight_map": time_map(steps, factor * 0.99),
        "bound_by_lag": [error[0] * 1.08**n for n in range(steps)], "bound_factor": 1.08,
        "beta_w": 1.08, "spectral_radius": 0.93,
        "lyapunov": [math.log(factor) - 0.03 * i**1.2 for i in range(32)],
        "lyapunov_spread": [0.004 + 0.0004 * i for i in range(32)],
        "condition_lags": lags, "condition_log10": [0.4 * n**0.8 for n in lags],
        "directions_by_lag": [max(1, round(units / (1 + n / 6))) for n in lags],
        "gates": gates(units // 2, 300.0) if len(states) > 1 else [],
        "saturated_share": 0.11, "dead_share": 0.0,
        "path_share": dict(zip(states, shares, strict=True)), "growth_per_step": factor,
    }  # fmt: skip
    return LayerRecord(**values | other)


def healthy(steps=200, layers=2):
    """A language model of LSTMs with a text and a history."""
    words = "Jane walked into the room. John walked in too.\nIt was late. Jane said hi to"
    positions = list(range(8, len(words) + 1, 2))
    seen = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if n < steps] + [steps]
    return DiagnosisRecord(
        title="runs/pydoc-lstm", mode="eval", loss=1.4382,
        findings=[
            Finding(
                "healthy", None, 151.0, 64.0, "steps",
                "Errors come back over more steps than the data need, and the loss uses them.",
                "throughtime train --resume runs/pydoc-lstm",
                "throughtime diagnose runs/pydoc-lstm --rows 64",
            )
        ],
        not_examined={}, layers=[layer(f"rnn.l{i}", steps, 0.97 - 0.01 * i) for i in range(layers)],
        needs_lag=NeededLag(64, "the context-use curve"),
        context=ContextUse(seen, [1.4382 + 1.9 / n**0.7 for n in seen], 64),
        training=TrainingFacts(100, True, 1.0, 0.12, 0.4, 500),
        history=[
            {
                "update": u, "layer": f"rnn.l{i}", "horizon_steps": min(150, 8 + u // 8),
                "lags": [0, 1, 4, 16, 64],
                "error_at_lags": [0.1 * (0.75 + 0.2 * u / 1200) ** n for n in (0, 1, 4, 16, 64)],
            }
            for u in range(0, 1201, 100)
            for i in range(layers)
        ],
        text={
            "symbols": list(words), "positions": positions,
            "connectivity": [
                [0.3 * 0.9 ** (p - 1 - k) * (1.5 + math.sin(k)) for k in range(p)]
                for p in positions
            ],
        },
        elapsed_s=7.3,
        provenance={
            "throughtime": "0.1", "torch": "2.13.0", "seed": 0,
            "command": "throughtime diagnose runs/pydoc-lstm",
        },
    )  # fmt: skip


def vanishing():
    """A plain network whose map has holes, and whose error is exactly zero in the end."""
    steps = 120
    error = [0.08 * 0.6**n if n < 90 else 0.0 for n in range(steps)]
    holes = time_map(steps, 0.6)
    for row in holes.log10:
        for k in range(0, steps, 7):
            row[k] = None
    sick = layer(
        "encoder.rnn", steps, 0.6, "tanh_rnn", ("h",), 64,
        error_by_lag=error, error_low=[0.3 * e for e in error], error_high=[3 * e for e in error],
        error_map=holes, bound_by_lag=[0.08 * 0.9**n for n in range(steps)], bound_factor=0.9,
        lyapunov=[None] * 4 + [-0.5 - 0.1 * i for i in range(28)], saturated_share=None,
    )  # fmt: skip
    found = [
        Finding(
            code, "encoder.rnn", value, bound, unit, sentence,
            "throughtime train copy --length 100 --cell lstm --init chrono:100 --updates 4000",
            "throughtime diagnose runs/copy --needs-lag 9: it should be healthy",
        )
        for code, value, bound, unit, sentence in (
            ("saturated", 0.71, 0.6, "share of gate activations", "Most gates stand still."),
            ("rank_collapse", 1.0, 2.0, "directions", "All errors come back along one line."),
            ("vanishing", 9.0, 100.0, "steps", "Of an error 1 % is left after 9 steps."),
            ("clipped_always", 0.99, 0.9, "share of updates", "Almost every update was clipped."),
            ("unused_context", 0.001, 0.01, "nats", "The loss does not use what it sees."),
        )
    ]  # fmt: skip
    return DiagnosisRecord(
        title="runs/copy-rnn", mode="train", loss=0.6931, findings=found,
        not_examined={"truncated": "nothing is known of the training loop: give --training"},
        layers=[sick], needs_lag=NeededLag(100, "the task"),
        context=ContextUse([1, 2, 4, 8, 120], [0.7, 0.695, 0.694, 0.6931, 0.6931], None),
    )  # fmt: skip


def nothing(**other):
    """A layer of which no number is known."""
    none = TimeMap([], [], [])
    values = {
        "name": "f", "kind": "callable", "states": ["s"], "units": 3, "steps": 1, "rows": 1,
        "replay_error": 0.0,
        "horizon_steps": 0, "is_horizon_beyond": True, "error_by_lag": [], "error_low": [],
        "error_high": [],
        "error_by_state": {}, "error_map": none, "weight_by_lag": [], "weight_map": none,
        "bound_by_lag": [],
        "bound_factor": None, "beta_w": None, "spectral_radius": None, "lyapunov": [],
        "lyapunov_spread": [],
        "condition_lags": [], "condition_log10": [], "directions_by_lag": [], "gates": [],
        "saturated_share": None, "dead_share": 0.0, "path_share": {}, "growth_per_step": 1.0,
    }  # fmt: skip
    return LayerRecord(**values | other)


def empty():
    """A callable: no context, no training, no weights, and a layer without a number."""
    found = Finding("healthy", None, 0.0, 0.0, "steps", "Nothing is wrong.", "", "")
    return DiagnosisRecord("callable", "eval", None, [found], {}, [nothing()])


def hostile():
    """Names that are markup, formulas or endless; None wherever a number could not be had."""
    long = "layer_" + "x" * 394
    none = TimeMap([0, 5], [0, 3, 5], [[None] * 3, [None] * 3])
    gone = [None] * 6
    bad = nothing(
        name=HOSTILE, kind=HOSTILE, states=[HOSTILE, "c"], steps=6, replay_error=None,
        error_by_lag=gone, error_low=gone, error_high=gone, error_by_state={HOSTILE: gone},
        error_map=none, weight_by_lag=gone, weight_map=none, bound_by_lag=gone,
        lyapunov=gone, lyapunov_spread=gone, condition_lags=[1, 2], condition_log10=[None, None],
        directions_by_lag=[0, 0], dead_share=None, growth_per_step=None,
        gates=[GateRecord(HOSTILE, HOSTILE, None, None, None, None, [None, None])],
        path_share={HOSTILE: None},
    )  # fmt: skip
    named = layer(long, 30, 0.9, states=(HOSTILE, "c"), units=8)
    named = replace(named, gates=[replace(g, name="$\\frac$") for g in named.gates])
    one = nothing(
        steps=1, error_by_lag=[0.0], error_low=[0.0], error_high=[0.0],
        error_map=TimeMap([0], [0], [[-3.0]]),
        weight_by_lag=[1e-300], bound_by_lag=[1e300], lyapunov=[-0.1], condition_lags=[1],
        condition_log10=[0.0], directions_by_lag=[1],
    )  # fmt: skip
    found = Finding("non_finite", HOSTILE, None, None, HOSTILE, HOSTILE * 3, HOSTILE, HOSTILE)
    return DiagnosisRecord(
        title=HOSTILE + long, mode="eval", loss=None, findings=[found] * 4,
        not_examined={"vanishing": HOSTILE}, layers=[bad, named, one],
        needs_lag=NeededLag(7, HOSTILE), context=ContextUse([1, 2], [None, None], None),
        training=TrainingFacts(),
        history=[
            {
                "update": 0, "layer": HOSTILE, "horizon_steps": None, "lags": [0, 1],
                "error_at_lags": [None, 0.0],
            }
        ],
        text={
            "symbols": ["<b>", "\n", "\x1b[31m", "</script>", " "], "positions": [3, 1],
            "connectivity": [[None, 0.0, 1.0], [0.0]],
        },
        provenance={HOSTILE: HOSTILE, "nested": {"a": [1, HOSTILE]}},
    )  # fmt: skip
