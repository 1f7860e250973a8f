"""How far back does an error reach, drawn? Curves by lag and by step, into anybody's axes.

Each function takes a part of a diagnosis and matplotlib's axes (those of a new figure if None),
draws, and returns the axes. `others` are drawn over it, by the name that the legend gives them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from throughtime.records.diagnosis import ContextUse, LayerRecord
from throughtime.report.page_words import counted, horizon_in_steps
from throughtime.report.pictures_style import (
    BLUE,
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    VERMILION,
    axes_or_new,
    finite,
    logarithmic,
    positive,
    short,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_context_use", "plot_error_by_lag", "plot_path_share", "plot_weight_by_lag"]

_SHARE_OF_HORIZON = 0.01  # records.diagnosis.LayerRecord.horizon_steps
_MOST_OUTLINE = 400
_FEW = 3  # points
_OTHERS = 2  # the place of their first colour: the one before is that of bounds and marks
_NONE: Mapping[str, LayerRecord] = {}


def plot_error_by_lag(
    layer: LayerRecord,
    ax: "Axes | None" = None,
    *,
    needs_lag: int | None = None,
    label: str = "measured, median",
    others: Mapping[str, LayerRecord] = _NONE,
) -> "Axes":
    """Draw ||dE_t/ds_{t-L}|| over the lag L, with its bound and the 1 % line of the horizon.

    Args:
        layer: What was measured.
        ax: Where it is drawn.
        needs_lag: The lag that the data need, in steps.
        label: What the legend calls the layer's own curve.
        others: Further layers, their medians alone.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax)
    error, low, high = (
        positive(v) for v in (layer.error_by_lag, layer.error_low, layer.error_high)
    )
    _band(ax, low, high)
    _own(ax, error, label)
    drawn = [error, low, high]
    for place, (name, other) in enumerate(others.items(), _OTHERS):
        drawn.append(_line(ax, positive(other.error_by_lag), place, name))
    _mark_zeros(ax, layer.error_by_lag)
    if error.size and np.isfinite(error[0]):
        drawn += [[error[0] * _SHARE_OF_HORIZON]]
        at = error[0] * _SHARE_OF_HORIZON
        _ = ax.axhline(at, color=GREY, linewidth=0.9, linestyle="dotted", label="1 % of lag 0")
    logarithmic(ax, "y", drawn, room=2.0)
    _bound(ax, positive(layer.bound_by_lag))
    _mark_horizon(ax, layer)
    _mark_need(ax, needs_lag)
    _lags(ax, "||dE_t / ds_(t-L)||\nloss a unit of state")
    return ax


def plot_weight_by_lag(
    layer: LayerRecord,
    ax: "Axes | None" = None,
    *,
    needs_lag: int | None = None,
    label: str = "measured, median",
    others: Mapping[str, LayerRecord] = _NONE,
) -> "Axes":
    """Draw the norm of what each lag adds to dE/dW; arguments as in `plot_error_by_lag`."""
    ax = axes_or_new(ax)
    own = positive(layer.weight_by_lag)
    _own(ax, own, label)
    drawn = [own]
    for place, (name, other) in enumerate(others.items(), _OTHERS):
        drawn.append(_line(ax, positive(other.weight_by_lag), place, name))
    _mark_zeros(ax, layer.weight_by_lag)
    logarithmic(ax, "y", drawn, room=2.0)
    _mark_need(ax, needs_lag)
    _lags(ax, "norm of the part of dE/dW\nloss a unit of weight")
    return ax


def plot_path_share(layer: LayerRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw by lag in which of its states the error travels, such as an LSTM's cell and hidden path.

    The legend says which share of the squared error each carries, at lag 1 and beyond.
    """
    ax = axes_or_new(ax)
    drawn = []
    for place, state in enumerate(layer.states):
        values = positive(layer.error_by_state.get(state, []))
        share = layer.path_share.get(state)
        said = (
            short(state) if share is None else f"{short(state)}: {share:.0%} of the squared error"
        )
        drawn.append(_line(ax, values, place, said))
    logarithmic(ax, "y", drawn, room=2.0)
    _lags(ax, "||dE_t / ds_(t-L)|| of each state\nloss a unit of state")
    return ax


def plot_context_use(
    context: ContextUse,
    ax: "Axes | None" = None,
    *,
    needs_lag: int | None = None,
    label: str = "older states reset",
    others: Mapping[str, ContextUse] | None = None,
) -> "Axes":
    """Draw the user's own loss over the number of steps that the recurrent layers may see.

    Once more for states that are not reset but exchanged between sequences, where that was tried.
    """
    ax = axes_or_new(ax)
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    loss = finite(context.loss)
    _ = ax.plot(context.steps, loss, color=BLUE, marker="o", markersize=4, label=label)
    exchanged = finite(context.loss_exchanged or [])
    if np.isfinite(exchanged).any():
        _ = ax.plot(
            context.steps, exchanged, color=GREY, marker="s", markersize=3.5, linestyle="dashed",
            label="older states exchanged",
        )  # fmt: skip
    steps = set(context.steps)
    for place, (name, other) in enumerate((others or {}).items(), _OTHERS):
        _line(ax, finite(other.loss), place, name, other.steps)
        steps |= set(other.steps)
    if loss.size and np.isfinite(loss[-1]):
        _ = ax.axhline(
            loss[-1], color=GREY, linewidth=0.9, linestyle="dotted", label="everything visible"
        )
    if context.uses_steps is not None:
        _mark(ax, context.uses_steps, f"uses {counted(context.uses_steps, 'steps')}", BLUE)
    _mark_need(ax, needs_lag)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(_thinned(sorted(steps))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("steps that can be seen, n")
    ax.set_ylabel("loss, in its own unit")
    _ = ax.legend()
    return ax


def _thinned(values: list[int], most: int = 8) -> list[int]:
    """At most so many ticks, the last among them."""
    every = -(-len(values) // most)
    return values[::-1][:: max(1, every)][::-1]


def _own(ax: "Axes", values: np.ndarray, label: str) -> None:
    """The curve that a picture is about; a few points are marked, since one makes no line."""
    few = np.isfinite(values).sum() <= _FEW
    _ = ax.plot(
        values, color=BLUE, linewidth=1.8, label=label, zorder=3,
        marker="o" if few else None, markersize=4,
    )  # fmt: skip


def _bound(ax: "Axes", bound: np.ndarray) -> None:
    """What no error can exceed; the legend says from where on it lies above the picture."""
    if not np.isfinite(bound).any():
        return
    above = np.flatnonzero(bound > ax.get_ylim()[1])
    said = f"bound, off scale from lag {above[0]:,}" if above.size else "bound"
    _ = ax.plot(bound, color=VERMILION, linewidth=1.2, linestyle="dashed", label=said)


def _band(ax: "Axes", low: np.ndarray, high: np.ndarray) -> None:
    both = np.isfinite(low) & np.isfinite(high)
    if both.any() and (low[both] < high[both]).any():
        every = -(-len(low) // _MOST_OUTLINE)  # finer than a pixel; an outline keeps every point
        lags = np.arange(len(low))[::every]
        _ = ax.fill_between(
            lags, low[::every], high[::every], where=both[::every].tolist(),
            color=BLUE, alpha=0.22, linewidth=0, label="10 to 90 %",
        )  # fmt: skip


def _line(
    ax: "Axes", values: np.ndarray, place: int, name: str, at: list[int] | None = None
) -> np.ndarray:
    """One more curve, told from the rest by colour, dashes and markers."""
    _ = ax.plot(
        np.arange(len(values)) if at is None else at,
        values,
        color=COLOURS[place % len(COLOURS)],
        linestyle=LINES[place % len(LINES)],
        marker=MARKERS[place % len(MARKERS)],
        markersize=4,
        markevery=max(1, len(values) // 8),
        linewidth=1.5,
        label=short(name),
    )
    return values


def _lags(ax: "Axes", what: str) -> None:
    ax.set_xlabel("lag L, steps back")
    ax.set_ylabel(what)
    whole(ax, "x")
    ax.set_xlim(left=0)
    _ = ax.legend()


def _mark_zeros(ax: "Axes", values: list[float]) -> None:
    """No logarithm shows a zero: a mark at the lower edge does."""
    zeros = [lag for lag, value in enumerate(values) if value == 0.0]
    if zeros:
        _ = ax.plot(
            zeros,
            [0.02] * len(zeros),
            transform=ax.get_xaxis_transform(),
            linestyle="none", marker="v", markersize=4, color=VERMILION, label="exactly 0",
        )  # fmt: skip


def _mark_horizon(ax: "Axes", layer: LayerRecord) -> None:
    _mark(ax, layer.horizon_steps, f"horizon {horizon_in_steps(layer)}", BLUE)


def _mark_need(ax: "Axes", needs_lag: int | None) -> None:
    if needs_lag is not None:
        _mark(ax, needs_lag, f"needed lag {counted(needs_lag, 'steps')}", VERMILION)


def _mark(ax: "Axes", at: float, said: str, colour: str) -> None:
    style = (0, (1, 2)) if colour == BLUE else (0, (6, 2, 1, 2))
    _ = ax.axvline(at, color=colour, linewidth=1.2, linestyle=style, label=said)
