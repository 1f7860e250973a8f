"""How long do gates keep, and do they still move? Time constants, saturation, opening."""

from typing import TYPE_CHECKING

import numpy as np

from throughtime.records.diagnosis import GateRecord, LayerRecord
from throughtime.report.page_words import counted
from throughtime.report.pictures_style import (
    BLUE,
    COLOURS,
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

__all__ = ["keeping", "plot_gate_ranges", "plot_saturation", "plot_time_constants"]

_BINS, _LONGEST_TICK = 24, 12
_HATCHES = ("", "//", "..", "xx")


def keeping(layer: LayerRecord) -> list[GateRecord]:
    """The gates with a time constant to draw."""
    return [g for g in layer.gates if np.isfinite(positive(g.time_constants_steps)).any()]


def plot_time_constants(
    layer: LayerRecord, ax: "Axes | None" = None, *, needs_lag: int | None = None
) -> "Axes":
    """Draw how many units keep for how long: -1 / ln(mean of what the gate keeps), in steps.

    Units that keep everything, or nothing, have no finite one; the legend counts them.

    Args:
        layer: What was measured.
        ax: Where it is drawn.
        needs_lag: The lag that the data need, in steps.
    """
    ax = axes_or_new(ax)
    gates = keeping(layer)
    found = {g.name: positive(g.time_constants_steps) for g in gates}
    seen = np.concatenate([v[np.isfinite(v)] for v in found.values()] or [np.array([1.0])])
    low, high = float(seen.min()), float(seen.max())
    bins = np.geomspace(low / 1.2, high * 1.2, _BINS)
    for place, (name, values) in enumerate(found.items()):
        without = int((~np.isfinite(values)).sum())
        said = f"gate {short(name)}, {counted(len(values), 'units')}"
        said += f", {without:,} without a finite one" if without else ""
        _ = ax.hist(
            values[np.isfinite(values)], bins.tolist(), color=COLOURS[place % len(COLOURS)],
            alpha=0.75, hatch=_HATCHES[place % len(_HATCHES)], label=said,
        )  # fmt: skip
    if needs_lag is not None:
        _ = ax.axvline(
            needs_lag, color=VERMILION, linestyle=(0, (6, 2, 1, 2)),
            label=f"needed lag {counted(needs_lag, 'steps')}",
        )  # fmt: skip
    logarithmic(ax, "x", [seen, [float(needs_lag or low)]], room=1.4)
    ax.set_xlabel("time constant, steps")
    whole(ax, "y")
    ax.set_ylabel("units")
    _ = ax.legend()
    return ax


def plot_saturation(layer: LayerRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw for each gate which share of its activations lies within 0.02 of a bound."""
    ax = axes_or_new(ax)
    names = [short(g.name, _LONGEST_TICK) for g in layer.gates]
    shares = 100 * finite(g.saturated_share for g in layer.gates)
    _ = ax.barh(range(len(names)), np.nan_to_num(shares), color=BLUE, height=0.6)
    for place, share in enumerate(shares):
        said = "not known" if np.isnan(share) else f"{share:.1f} %"
        _ = ax.text(np.nan_to_num(share) + 1.5, place, said, va="center")
    _rows(ax, names)
    ax.set_xlim(0, 119)
    ax.set_xticks(range(0, 101, 25))
    ax.set_xlabel("saturated, % of the activations")
    return ax


def plot_gate_ranges(layer: LayerRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw for each gate its activation: the median over units of their means, and 10 to 90 %."""
    ax = axes_or_new(ax)
    low, middle, high = (
        finite(getattr(g, name) for g in layer.gates) for name in ("low", "median", "high")
    )
    rows = np.arange(len(layer.gates))
    _ = ax.hlines(rows, low, high, color=BLUE, linewidth=4, alpha=0.45)
    _ = ax.plot(middle, rows, color=BLUE, marker="o", linestyle="none", markersize=6)
    _rows(ax, [short(g.name, _LONGEST_TICK) for g in layer.gates])
    ax.set_xlabel("activation, mean of a unit")
    return ax


def _rows(ax: "Axes", names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
