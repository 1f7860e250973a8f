"""How far back does one layer learn? All measures of a passage, as one record."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.errors import ConfigError
from throughtime.flow.backward import arrivals
from throughtime.flow.bound import bound_factor, largest_singular_value, only_matrix
from throughtime.flow.cell_steps import CellSteps
from throughtime.flow.gates import GateMeasures, gate_measures
from throughtime.flow.lags import Lags, chosen_steps, time_map
from throughtime.flow.passage import Passage
from throughtime.flow.spectrum import spectrum_of
from throughtime.flow.weights import Weights, thinned
from throughtime.records.diagnosis import LayerRecord, TimeMap

__all__ = ["measure"]


@torch.no_grad()
def measure(
    passage: Passage, *, exponents: Any = 32, at: int = 32, lyapunov_rows: int = 4, seed: int = 0
) -> LayerRecord:
    """Measure how the error travels back through one layer.

    Args:
        passage: The layer, in one direction, over one batch.
        exponents: How many Lyapunov exponents, the leading ones; "all" for every one.
        at: At how many steps t an error is followed.
        lyapunov_rows: Over how many rows exponents are averaged: the longest ones.
        seed: Draws the first directions of the exponents.

    Returns:
        The record.

    Raises:
        ConfigError: exponents is neither a whole number from 1 nor "all".
    """
    starts = chosen_steps(passage, at)
    lags, weights = _carried_back(passage, starts)
    found = lags.summary()
    limit = _limit(passage, found.error)
    count = None if exponents == "all" else _count(exponents)
    spectrum = spectrum_of(passage, count, lyapunov_rows, seed)
    gates = _gates(passage)
    return LayerRecord(
        name=passage.name,
        kind=passage.kind,
        states=list(passage.steps.states),
        units=sum(passage.steps.widths),
        steps=passage.steps.count,
        rows=passage.steps.rows,
        replay_error=passage.replay_error,
        horizon_steps=found.horizon_steps,
        is_horizon_beyond=found.is_horizon_beyond,
        error_by_lag=found.error,
        error_low=found.low,
        error_high=found.high,
        error_by_state=found.by_state,
        error_map=time_map(starts, lags.by_step()),
        weight_by_lag=weights.by_lag() if weights else [],
        weight_map=time_map(starts, weights.map.unsqueeze(-1)) if weights else TimeMap([], [], []),
        bound_by_lag=limit.by_lag,
        bound_factor=limit.factor,
        beta_w=limit.beta_w,
        spectral_radius=limit.radius,
        lyapunov=[*spectrum.mean()],
        lyapunov_spread=spectrum.spread(),
        condition_lags=spectrum.lags,
        condition_log10=[c / math.log(10.0) for c in spectrum.log_condition],
        directions_by_lag=spectrum.directions,
        gates=gates.gates,
        saturated_share=gates.saturated_share,
        dead_share=gates.dead_share,
        path_share=found.path_share,
        growth_per_step=found.growth_per_step,
    )


def _count(exponents: Any) -> int:
    if isinstance(exponents, bool) or not isinstance(exponents, int) or exponents < 1:
        raise ConfigError(
            f"exponents is {exponents!r}; expected a whole number from 1, such as 32, or 'all'."
        )
    return exponents


def _carried_back(passage: Passage, starts: Sequence[int]) -> tuple[Lags, Weights | None]:
    """What the errors of some steps do on their way; nothing is known of weights without gates."""
    steps, lags, weights = passage.steps, Lags(passage, starts), None
    if isinstance(steps, CellSteps):
        weights = Weights(steps, lags.starts, thinned(steps, starts))
        weights = weights if weights.groups else None
    for arrival in arrivals(passage, starts):
        lags.add(arrival)
        if weights:
            weights.add(arrival)
    return lags, weights


class _Limit(NamedTuple):
    """What bounds the error by lag; see `LayerRecord`."""

    by_lag: list[float | None]
    factor: float | None = None
    beta_w: float | None = None
    radius: float | None = None


def _limit(passage: Passage, error: Sequence[float]) -> _Limit:
    steps = passage.steps
    if not isinstance(steps, CellSteps):
        return _Limit([None] * len(error))
    factor, matrix = bound_factor(steps, passage.real), only_matrix(steps)
    by_lag = [
        None if factor is None else _times_power(error[0], factor, n) for n in range(len(error))
    ]
    if matrix is None:
        return _Limit(by_lag, factor)
    return _Limit(by_lag, factor, largest_singular_value(matrix), _spectral_radius(matrix))


def _times_power(start: float, factor: float, lag: int) -> float | None:
    """The error start * factor^lag; None beyond what a float holds."""
    try:
        found = start * factor**lag
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _spectral_radius(matrix: Tensor) -> float | None:
    if matrix.shape[0] != matrix.shape[1] or not matrix.isfinite().all():
        return None
    return torch.linalg.eigvals(matrix.double()).abs().max().item()


def _gates(passage: Passage) -> GateMeasures:
    steps = passage.steps
    known = isinstance(steps, CellSteps)
    return gate_measures(steps, passage.real) if known else GateMeasures([], None, 0.0)
