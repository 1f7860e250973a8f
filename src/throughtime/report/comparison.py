"""How are the results of a comparison drawn? Scores on the left, learning on the right."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from throughtime.report.pictures_style import COLOURS, GREY, MARKERS, power_of_ten
from throughtime.report.svg_file import svg_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SIZE", "comparison_svg", "draw_comparison"]

SIZE = (9.5, 4.2)  # inches

_LEGEND_LETTERS = 110  # that fit beside each other
_HIGHEST_RATIO_ON_A_LINE = 20.0  # of scores; beyond it the axis is logarithmic


def comparison_svg(results: Mapping[str, Any]) -> bytes:
    """The picture of a comparison, the same bytes for the same results.

    Args:
        results: What `records.read_results` gives.
    """
    return svg_file(lambda figure: draw_comparison(figure, results), SIZE)


def draw_comparison(figure: "Figure", results: Mapping[str, Any]) -> None:
    """Draw the results of a comparison into an empty figure of `SIZE`."""
    left, right = figure.subplots(1, 2)
    _scores(left, results)
    _curves(right, results)
    _set_scale(left, [r["score"] for r in results["rows"]])
    _set_scale(right, [s for curve in results["curves"].values() for _, s in curve])
    figure.suptitle(
        f"{results['task']}: {results['updates']:,} updates a run, "
        f"{_seeds(results)} seeds; lower is better"
    )
    handles, labels = left.get_legend_handles_labels()
    columns = max(1, min(4, _LEGEND_LETTERS // (max(map(len, labels)) + 6)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _cells(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["cell"] for row in results["rows"]))


def _seeds(results: Mapping[str, Any]) -> int:
    return len({row["seed"] for row in results["rows"]})


def _style(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _scores(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Every run as a dot, the means joined over the lengths."""
    lengths = sorted({row["length"] for row in results["rows"]})
    cells = _cells(results)
    for place, cell in enumerate(cells):
        # Cells of one length stand side by side, so that no dot hides another.
        shift = 0.6 * (place / max(1, len(cells) - 1) - 0.5) if len(cells) > 1 else 0.0
        rows = [r for r in results["rows"] if r["cell"] == cell and r["score"] is not None]
        style = _style(place)
        axes.plot(
            [lengths.index(r["length"]) + shift for r in rows],
            [r["score"] for r in rows],
            linestyle="none", alpha=0.45, markersize=4, **style,
        )  # fmt: skip
        means = [s for s in results["summary"] if s["cell"] == cell and s["mean"] is not None]
        axes.plot(
            [lengths.index(s["length"]) + shift for s in means],
            [s["mean"] for s in means],
            markersize=7, label=cell, **style,
        )  # fmt: skip
    _baseline(axes, results["baseline"], lengths)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_xlim(-0.6, len(lengths) - 0.4)
    axes.set_xlabel("length, the dial of the task")
    axes.set_ylabel(f"score on the test part\n{results['unit']}")


def _baseline(axes: "Axes", baseline: float | Mapping[str, float], lengths: Sequence[int]) -> None:
    for place, length in enumerate(lengths):
        value = baseline[str(length)] if isinstance(baseline, Mapping) else baseline
        label = "a model without memory" if place == 0 else ""
        axes.hlines(value, place - 0.5, place + 0.5, GREY, "dashed", label=label)


def _curves(axes: "Axes", results: Mapping[str, Any]) -> None:
    """The validation score of each run at the longest length, over the updates."""
    longest = max(row["length"] for row in results["rows"])
    for place, cell in enumerate(_cells(results)):
        for row in results["rows"]:
            curve = results["curves"].get(f"{row['cell']} {row['length']} {row['seed']}", [])
            drawn = [(update, score) for update, score in curve if score is not None]
            if (row["cell"], row["length"]) == (cell, longest) and drawn:
                axes.plot(*zip(*drawn, strict=True), alpha=0.7, markersize=4, **_style(place))
    axes.set_xlabel("updates")
    axes.set_ylabel(f"score on the validation part at length {longest:,}")


def _set_scale(axes: "Axes", scores: Sequence[float | None]) -> None:
    found = [score for score in scores if score is not None]
    if found and min(found) > 0 and max(found) / min(found) > _HIGHEST_RATIO_ON_A_LINE:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
        axes.yaxis.set_minor_formatter(NullFormatter())
