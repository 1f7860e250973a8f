"""How is the demo of vanishing gradients drawn? Errors by lag, and the cliff of clipping."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.report.page import embedded, rendered
from throughtime.report.page_pictures import Panel
from throughtime.report.page_svg import inline_svg
from throughtime.report.pictures_style import (
    BLUE,
    COLOURS,
    GREY,
    LINES,
    VERMILION,
    logarithmic,
    positive,
)
from throughtime.report.vanishing_words import (
    COLUMNS,
    cells_of,
    cliff_sentence,
    compare_command,
    sentences,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["vanishing_page"]

Results = Mapping[str, Any]

_LOWEST_SHARE = 1e-12  # what lies lower is below the picture
_BLACK = 0.8  # the error that would be black: half as much is the most there is, and stays grey


def vanishing_page(results: Results, surface: Results) -> str:
    """The page of the demo as HTML, the same for the same results.

    Args:
        results: What the study gives as JSON, with the walks under "cliff".
        surface: The grid of the cliff and the error on it: "w", "b", "error".
    """
    return rendered(
        "vanishing.html",
        title="How far back an error reaches",
        task=f"{results['task']}, length {results['length']}",
        results=results,
        columns=COLUMNS,
        cells=cells_of(results),
        sentences=sentences(results),
        command=compare_command(results),
        curves=_curves_panel(results),
        cliff=_cliff_panel(results["cliff"], surface),
        cliff_sentence=cliff_sentence(results["cliff"]),
        data=embedded(results),
    )


def _curves_panel(results: Results) -> Panel:
    title = "The error by lag, before and after training"
    caption = (
        "The share of an error at the last step that comes back over so many steps, on a "
        "logarithmic axis: medians over 8 sequences. Thin, dashed: what the bound "
        f"(beta_W beta_h)^L allows the {results['rows'][0]['name']}; it is no measurement. "
        "Dotted: 1 %, where the horizon ends. Vertical: the "
        f"{results['needs_lag']} steps that the task needs."
    )
    svg = inline_svg(lambda f: _curves(f, results), f"{title}. {caption}", "curves", (7.6, 3.6))
    return Panel(svg, title, caption)


def _curves(figure: "Figure", results: Results) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("before training", f"after {results['updates']:,} updates")
    for ax, when, title in zip(axes, ("before", "after"), titles, strict=True):
        drawn = [np.array([_LOWEST_SHARE * 10.0, 1.0])]
        for place, row in enumerate(results["rows"]):
            share = positive(row[f"share_by_lag_{when}"])
            style = {"color": COLOURS[place], "linestyle": LINES[place % len(LINES)]}
            _ = ax.plot(share, linewidth=1.8, label=row["name"], **style)
            drawn.append(share[share > _LOWEST_SHARE])
        first = results["rows"][0]
        bound = positive(first[f"bound_by_lag_{when}"])
        _ = ax.plot(
            bound, color=COLOURS[0], linewidth=1.0, dashes=(6, 3), label=f"bound, {first['name']}"
        )
        _ = ax.axhline(0.01, color=GREY, linewidth=0.9, linestyle="dotted", label="1 %")
        _ = ax.axvline(results["needs_lag"], color=GREY, linewidth=0.9, label="needed lag")
        logarithmic(ax, "y", [*drawn, _in_sight(bound)], room=2.0)
        _ = ax.set_title(title)
        _ = ax.set_xlabel("lag, steps back")
    _ = axes[0].set_ylabel("share of the error at lag 0")
    _ = axes[0].legend()


def _in_sight(bound: np.ndarray) -> np.ndarray:
    """Of a bound what need be seen: a large one leaves the picture at the top."""
    return bound[(bound > _LOWEST_SHARE) & (bound < 1e3)]


def _cliff_panel(cliff: Results, surface: Results) -> Panel:
    title = "The cliff, and what clipping does there"
    caption = (
        "The error of one unit x_t = w sigmoid(x_(t-1)) + b after "
        f"{cliff['steps']} steps, (sigmoid(x_{cliff['steps']}) - 0.7)^2, x_0 = 0.5, by colour; "
        f"{len(cliff['plain']) - 1} updates of gradient descent from the same point with learning "
        f"rate {cliff['learning_rate']:g}, plain and with the gradient's norm clipped at "
        f"{cliff['clip_norm']:g}. After Pascanu, Mikolov and Bengio 2013."
    )
    draw_size = (6.2, 4.4)
    svg = inline_svg(lambda f: _cliff(f, cliff, surface), f"{title}. {caption}", "cliff", draw_size)
    return Panel(svg, title, caption)


def _cliff(figure: "Figure", cliff: Results, surface: Results) -> None:
    ax = figure.subplots()
    w, b = (np.array(surface[name]) for name in ("w", "b"))
    shown = ax.pcolormesh(
        w, b, np.array(surface["error"]), cmap="Greys", vmin=0.0, vmax=_BLACK, rasterized=True
    )
    bar = figure.colorbar(shown, ax=ax)
    bar.set_label("error")
    _ = ax.set_xlim(w[0], w[-1])
    _ = ax.set_ylim(b[0], b[-1])
    _walk(ax, cliff["clipped"], BLUE, "o", f"clipped at norm {cliff['clip_norm']:g}")
    _walk(ax, cliff["plain"][: cliff["leap"] + 1], VERMILION, "s", "plain")
    _leap(ax, cliff["plain"][cliff["leap"] : cliff["leap"] + 2], VERMILION)
    _leap(ax, cliff["clipped"][cliff["leap"] : cliff["leap"] + 2], BLUE)
    _ = ax.set_xlabel("w")
    _ = ax.set_ylabel("b")
    ax.grid(visible=False)
    _ = ax.legend()


def _walk(ax: "Axes", points: Sequence[Results], colour: str, marker: str, label: str) -> None:
    _ = ax.plot(
        [p["w"] for p in points], [p["b"] for p in points], color=colour, marker=marker,
        markersize=2.5, linewidth=0.9, label=label,
    )  # fmt: skip


def _leap(ax: "Axes", ends: Sequence[Results], colour: str) -> None:
    """The step from the point with the longest gradient, as an arrow; it may leave the picture."""
    here, there = ((p["w"], p["b"]) for p in ends)
    _ = ax.annotate(
        "", there, here, annotation_clip=False, clip_on=True,
        arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 2.0, "clip_on": True},
    )  # fmt: skip
