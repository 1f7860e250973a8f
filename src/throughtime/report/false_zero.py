"""How does the false zero look beside the true curve?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from throughtime.report.pictures_style import BLUE, GREEN, GREY, VERMILION
from throughtime.report.svg_file import svg_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["false_zero_svg"]

_COLOURS = {"nn.RNN": BLUE, "nn.LSTM": VERMILION, "nn.GRU": GREEN}
_ZERO = 1e-15  # where "exactly 0" is drawn on an axis that has no zero


def false_zero_svg(results: Mapping[str, Any]) -> bytes:
    """The picture for layers of the middle size, the same bytes for the same results.

    Args:
        results: What `FalseZero.as_json` gives.
    """
    return svg_file(partial(_draw, results), (8.6, 4.0), 10.0)


def _draw(results: Mapping[str, Any], figure: "Figure") -> None:
    axes = figure.subplots()
    sizes = sorted({row["hidden"] for row in results["rows"]})
    hidden = sizes[len(sizes) // 2]
    lags = list(range(results["steps"]))
    for place, row in enumerate(r for r in results["rows"] if r["hidden"] == hidden):
        colour = _COLOURS[row["kind"]]
        axes.plot(lags, row["true_by_lag"], color=colour, label=f"{row['kind']}: what arrives")
        axes.fill_between(lags, row["true_low"], row["true_high"], color=colour, alpha=0.2)
        read = [value or _ZERO * 8**place for value in row["retained_by_lag"]]
        axes.plot(
            lags, read, color=colour, linestyle="none", marker="x", markersize=4,
            label=f"{row['kind']}: what output.retain_grad() reads",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(_ZERO / 30, 3)
    axes.set_yticks([10.0**power for power in range(-10, 1, 2)])  # below there is no scale
    axes.axhspan(_ZERO / 30, _ZERO * 1e3, color=GREY, alpha=0.15)
    axes.text(lags[-1], _ZERO * 200, "exactly 0", ha="right", color="#555555")
    axes.set_xlabel("lag: steps before the last one, where the loss is")
    axes.set_ylabel("error, as a share of that at lag 0")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.48), frameon=False)
    figure.suptitle(
        f"{hidden} units as torch makes them, median and range of {len(results['seeds'])} seeds",
        fontsize=10,
    )
