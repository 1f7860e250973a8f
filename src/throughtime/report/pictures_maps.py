"""From which step to which does an error travel, and did it change in training? Heat maps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.records.diagnosis import TimeMap
from throughtime.report.pictures_style import VERMILION, axes_or_new, finite, positive, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["has_history", "plot_history", "plot_time_map"]

_COLOURS = "cividis"  # made for people who see fewer colours
_MOST_DECADES = 16.0
_FEW = 6  # rows, each with a tick of its own


def plot_time_map(
    time_map: TimeMap, ax: "Axes | None" = None, *, what: str = "||dE_t / ds_k||"
) -> "Axes":
    """Draw a number for each pair of steps (t, k): from where the error starts to where it comes.

    What is more than 16 decades below the highest has the lowest colour; what is blank has no
    logarithm: k lies after t, or nothing arrives.

    Args:
        time_map: Such as a layer's `error_map`.
        ax: Where it is drawn.
        what: The number, for the scale beside the map.
    """
    ax = axes_or_new(ax)
    values = np.array([finite(row) for row in time_map.log10]).reshape(
        len(time_map.t), len(time_map.k)
    )
    _heat(ax, _edges(time_map.k), _edges(time_map.t), values, f"log10 of {what}")
    whole(ax, "x")
    if len(time_map.t) <= _FEW:
        ax.set_yticks(time_map.t)
    else:
        whole(ax, "y")
    ax.set_xlabel("step k that it reaches")
    ax.set_ylabel("step t of the error")
    return ax


def plot_history(
    history: Sequence[Mapping[str, Any]], ax: "Axes | None" = None, *, layer: str | None = None
) -> "Axes":
    """Draw over the updates how large a share of the error comes back how far, and the horizon.

    Args:
        history: A record's `history`, oldest first.
        ax: Where it is drawn.
        layer: Whose part; that of all records if None.
    """
    ax = axes_or_new(ax)
    kept = [entry for entry in history if layer is None or entry.get("layer") == layer]
    updates = sorted({entry["update"] for entry in kept})
    lags = sorted({lag for entry in kept for lag in entry["lags"]})
    values = np.full((len(lags), len(updates)), np.nan)
    for entry in kept:
        errors = positive(entry["error_at_lags"])
        for lag, error in zip(entry["lags"], errors, strict=True):
            values[lags.index(lag), updates.index(entry["update"])] = np.log10(error / errors[0])
    whole(ax, "x")
    _heat(ax, _edges(updates), np.arange(len(lags) + 1) - 0.5, values, "log10 of the share")
    known = [e for e in kept if e.get("horizon_steps") is not None]
    at = np.interp([e["horizon_steps"] for e in known], lags, np.arange(len(lags)))
    marker = "o" if len(known) == 1 else None
    _ = ax.plot(
        [e["update"] for e in known], at, color=VERMILION, linewidth=2, marker=marker,
        label="horizon (1 %)",
    )  # fmt: skip
    if updates:
        ax.set_xlim(left=updates[0])  # half a cell would lie before training
    ax.set_yticks(range(len(lags)), [f"{lag:,}" for lag in lags])
    ax.set_xlabel("updates")
    ax.set_ylabel("lag, steps back")
    _ = ax.legend()
    return ax


def has_history(history: Sequence[Mapping[str, Any]], layer: str | None) -> bool:
    """Whether there is anything of a layer to draw."""
    return any(e.get("layer") == layer and np.isfinite(positive(e["error_at_lags"])).any()
               for e in history)  # fmt: skip


def _heat(ax: "Axes", x: np.ndarray, y: np.ndarray, values: np.ndarray, label: str) -> None:
    """Cells of any width, painted as one image: thousands of outlines would weigh megabytes."""
    seen = values[np.isfinite(values)]
    high = float(seen.max()) if seen.size else 0.0
    low = max(float(seen.min()), high - _MOST_DECADES) if seen.size else -1.0
    if high - low < 1e-9:
        low = high - 1.0
    mesh = ax.pcolormesh(
        x, y, np.ma.masked_invalid(values), cmap=_COLOURS, vmin=low, vmax=high, rasterized=True
    )
    ax.grid(visible=False)
    bar = ax.figure.colorbar(mesh, ax=ax, label=label)
    bar.outline.set_visible(False)


def _edges(centres: Sequence[float]) -> np.ndarray:
    """Where cells meet: half way between their centres."""
    found = np.asarray(centres, dtype=float)
    if found.size < 2:
        return np.array([v + d for v in found for d in (-0.5, 0.5)] or [0.0])
    middle = (found[1:] + found[:-1]) / 2
    return np.concatenate([
        [found[0] - (middle[0] - found[0])],
        middle,
        [found[-1] + (found[-1] - middle[-1])],
    ])
