"""How far back does one layer learn? All measures of a passage, as one record."""

import torch

from throughtime.flow.backward import arrivals
from throughtime.flow.lags import Lags, chosen_steps, time_map
from throughtime.flow.passage import Passage
from throughtime.records.diagnosis import LayerRecord, TimeMap

__all__ = ["measure"]


@torch.no_grad()
def measure(
    passage: Passage,
    *,
    exponents: int | str = 32,
    at: int = 32,
    lyapunov_rows: int = 4,
    seed: int = 0,
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
    """
    starts = chosen_steps(passage, at)
    lags = Lags(passage, starts)
    for arrival in arrivals(passage, starts):
        lags.add(arrival)
    found = lags.summary()
    size = len(found.error)
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
        weight_by_lag=[],
        weight_map=TimeMap([], [], []),
        bound_by_lag=[None] * size,
        bound_factor=None,
        beta_w=None,
        spectral_radius=None,
        lyapunov=[],
        lyapunov_spread=[],
        condition_lags=[],
        condition_log10=[],
        directions_by_lag=[],
        gates=[],
        saturated_share=None,
        dead_share=0.0,
        path_share=found.path_share,
        growth_per_step=found.growth_per_step,
    )
