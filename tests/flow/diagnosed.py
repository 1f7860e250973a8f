"""Records of layers in which nothing is wrong, to spoil one number at a time."""

from dataclasses import replace

from throughtime.records.diagnosis import (
    ContextUse,
    GateRecord,
    LayerRecord,
    NeededLag,
    TimeMap,
    TrainingFacts,
)

__all__ = ["KEEPS", "LAG", "curve", "keep", "layer", "lstm", "trained"]

STEPS = 65
LAG = NeededLag(32, "a test")


def keep(*time_constants, saturated=0.1):
    """A gate that keeps."""
    return GateRecord("f", "keep", saturated, 0.2, 0.5, 0.9, list(time_constants))


KEEPS = keep(*[60.0] * 16)
OTHERS = (
    GateRecord("i", "write", 0.1, 0.2, 0.5, 0.9),
    GateRecord("o", "other", 0.1, 0.2, 0.5, 0.9),
)


def layer(name="rnn", decay=0.99, **changed):
    """A plain layer whose error falls by `decay` a step."""
    error = [decay**lag for lag in range(STEPS)]
    horizon = max(lag for lag, value in enumerate(error) if value >= 0.01)
    healthy = LayerRecord(
        name=name,
        kind="nn.RNN",
        states=["h"],
        units=16,
        steps=STEPS,
        rows=8,
        replay_error=0.0,
        horizon_steps=horizon,
        is_horizon_beyond=horizon == STEPS - 1,
        error_by_lag=error,
        error_low=error,
        error_high=error,
        error_by_state={"h": error},
        error_map=TimeMap([], [], []),
        weight_by_lag=error,
        weight_map=TimeMap([], [], []),
        bound_by_lag=[None] * STEPS,
        bound_factor=1.2,
        beta_w=1.2,
        spectral_radius=0.9,
        lyapunov=[-0.01],
        lyapunov_spread=[0.0],
        condition_lags=[1, 4, 16, 32, 64],
        condition_log10=[0.1, 0.2, 0.3, 0.4, 0.5],
        directions_by_lag=[16, 8, 4, 3, 2],
        gates=[],
        saturated_share=0.1,
        dead_share=0.0,
        path_share={"h": 1.0},
        growth_per_step=decay,
    )
    return replace(healthy, **changed)


def lstm(name="lstm", keeps=KEEPS, **changed):
    """A gated layer."""
    return layer(name, **{"kind": "nn.LSTM", "gates": [keeps, *OTHERS]} | changed)


def curve(used, gain=0.8, base=1.0):
    """The loss of a last step that needs more than `used` - 1 steps of context, by context."""
    steps = [1, 2, 4, 8, 16, 32, 64, 65]
    loss = [base if n < used else base * (1.0 - gain) for n in steps]
    return ContextUse(steps, loss, used)


def trained(**changed):
    """Whole sequences, 500 updates of them seen, few of them clipped."""
    facts = TrainingFacts(None, None, 1.0, clipped_share=0.1, median_norm=0.3, updates=500)
    return replace(facts, **changed)
