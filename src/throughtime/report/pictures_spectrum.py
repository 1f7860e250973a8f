"""In how many directions does an error grow or shrink, drawn? Exponents, condition, directions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from throughtime.records.diagnosis import LayerRecord
from throughtime.report.pictures_style import (
    BLUE,
    COLOURS,
    GREY,
    MARKERS,
    axes_or_new,
    finite,
    short,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_condition", "plot_directions", "plot_lyapunov"]

_OTHERS = 2  # the place of their first colour, as in `pictures`


def plot_lyapunov(
    layer: LayerRecord,
    ax: "Axes | None" = None,
    *,
    label: str = "mean and spread over sequences",
    others: Mapping[str, LayerRecord] | None = None,
) -> "Axes":
    """Draw the leading Lyapunov exponents, nats a step: at zero an error neither grows nor shrinks.

    Args:
        layer: What was measured.
        ax: Where it is drawn.
        label: What the legend calls the layer's own.
        others: Further layers, by name.
    """
    ax = axes_or_new(ax)
    own = finite(layer.lyapunov)
    spread = np.resize(np.append(finite(layer.lyapunov_spread), 0.0), len(own))
    spread[len(layer.lyapunov_spread) :] = 0.0
    index = np.arange(1, len(own) + 1)
    _ = ax.axhline(
        0.0, color=GREY, linewidth=1.2, linestyle="dashed", label="neither grows nor shrinks"
    )
    _ = ax.errorbar(
        index, own, np.nan_to_num(spread), color=BLUE, marker="o", markersize=3.5, linewidth=1.2,
        capsize=2, label=label,
    )  # fmt: skip
    for place, (name, other) in enumerate((others or {}).items(), _OTHERS):
        values = finite(other.lyapunov)
        _ = ax.plot(
            np.arange(1, len(values) + 1), values, color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)], markersize=3.5, linewidth=1.0, label=short(name),
        )  # fmt: skip
    whole(ax, "x")
    ax.set_xlim(left=0.5)
    ax.set_xlabel("index i, largest first")
    ax.set_ylabel("exponent λ_i, nats a step")
    _ = ax.legend()
    return ax


def plot_condition(layer: LayerRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw how much more the strongest direction of an error counts than the weakest, by lag."""
    ax = axes_or_new(ax)
    _ = ax.plot(
        layer.condition_lags, finite(layer.condition_log10), color=BLUE, marker="o", markersize=4
    )
    ax.set_xscale("log", base=2)
    _steps(ax, layer.condition_lags)
    ax.set_ylabel("log10 of the condition number")
    return ax


def plot_directions(layer: LayerRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw in how many directions of the state an error still comes back, by lag."""
    ax = axes_or_new(ax)
    _ = ax.plot(layer.condition_lags, layer.directions_by_lag, color=BLUE, marker="o", markersize=4)
    ax.set_xscale("log", base=2)
    _steps(ax, layer.condition_lags)
    ax.set_ylim(0, 1.08 * max([1, *layer.directions_by_lag]))
    whole(ax, "y")
    # No more than those that were followed, as many as there are exponents, can be counted.
    ax.set_ylabel(f"directions above 1 %, of {len(layer.lyapunov) or layer.units:,}")
    return ax


def _steps(ax: "Axes", lags: list[int]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    every = max(1, -(-len(lags) // 6))
    ax.set_xticks(lags[::-1][::every])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("lag, steps back")
