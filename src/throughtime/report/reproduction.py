"""Does the measured horizon agree with who solves what? All tables' runs in one picture."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from throughtime.report.pictures_style import COLOURS, GREY, INK, MARKERS, short
from throughtime.report.svg_file import svg_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Reach", "draw_reaches", "reaches", "reaches_svg"]

SIZE = (7.5, 5.4)  # inches
_APART = 1.03  # times the lag, between runs that would hide each other
_MOST_LETTERS = 60  # of the names beside a mark


class Reach(NamedTuple):
    """How far back a trained network learns, and how far it must.

    Attributes:
        table: To which it belongs.
        arm: What was trained.
        needs_lag: Steps that the task needs.
        horizon_steps: Steps that the error reaches back.
        is_beyond: Whether the horizon is as far as there are steps.
        is_solved: Whether it met the task's criterion.
    """

    table: str
    arm: str
    needs_lag: int
    horizon_steps: int
    is_beyond: bool
    is_solved: bool

    @property
    def is_far_enough(self) -> bool:
        """Whether the error reaches over the lag that is needed."""
        return self.is_beyond or self.horizon_steps >= self.needs_lag


def reaches(results: Sequence[Mapping[str, Any]]) -> list[Reach]:
    """Every run that was diagnosed, of a task with a lag that it needs and a criterion."""
    return [
        Reach(
            result["name"],
            run["arm"],
            run["memory"]["needs_lag"],
            run["memory"]["horizon_steps"],
            run["memory"]["is_horizon_beyond"],
            run["values"]["solved"] == 1.0,
        )
        for result in results
        for run in result["runs"]
        if run.get("memory", {}).get("needs_lag") and "solved" in run["values"]
    ]


def reaches_svg(found: Sequence[Reach]) -> bytes:
    """The picture, the same bytes for the same runs."""
    return svg_file(lambda figure: draw_reaches(figure, found), SIZE)


def draw_reaches(figure: "Figure", found: Sequence[Reach]) -> None:
    """Draw horizons against lags into an empty figure of `SIZE`."""
    axes = figure.subplots()
    _draw_diagonal(axes, found)
    tables = list(dict.fromkeys(reach.table for reach in found))
    for place, table in enumerate(tables):
        _draw_table(axes, [r for r in found if r.table == table], place)
    for face, label in ((INK, "solved"), ("white", "not solved")):
        axes.plot([], [], "o", color=INK, markerfacecolor=face, label=label)
    axes.set_title("Who learns far enough, and who solves the task")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)


def _draw_diagonal(axes: "Axes", found: Sequence[Reach]) -> None:
    """The axes, and the line below which the error falls short."""
    lags = sorted({r.needs_lag for r in found})
    ends = [lags[0] / 2, lags[-1] * 2]
    axes.set(
        xscale="log", yscale="log", xlim=ends, xlabel="lag that the task needs, in steps",
        ylim=(0.9, 1.3 * max(ends[1], *(r.horizon_steps for r in found))),
        ylabel="measured memory horizon, in steps",
    )  # fmt: skip
    axes.set_xticks(lags, [str(lag) for lag in lags])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.fill_between(ends, ends, 0.9, color=GREY, alpha=0.12, linewidth=0)
    axes.annotate(
        "falls short of the lag", (ends[0] * 1.05, 1.0), color=GREY, ha="left", va="bottom"
    )


def _draw_table(axes: "Axes", found: Sequence[Reach], place: int) -> None:
    """The marks of one table; those at one place side by side, under one name."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    groups: dict[tuple[int, int], list[Reach]] = {}
    for reach in found:
        groups.setdefault((reach.needs_lag, max(1, reach.horizon_steps)), []).append(reach)
    for (lag, horizon), group in groups.items():
        for nth, reach in enumerate(group):
            axes.plot(
                [lag * _APART**nth], [horizon], marker, color=colour, markersize=6,
                markerfacecolor=colour if reach.is_solved else "white",
            )  # fmt: skip
        names = "; ".join(re.sub(r", T=\d+$", "", reach.arm) for reach in group)
        axes.annotate(
            short(names, _MOST_LETTERS), (lag * _APART ** (len(group) - 1), horizon),
            color=colour, xytext=(6, 0), textcoords="offset points", va="center", fontsize=6.5,
        )  # fmt: skip
    axes.plot([], [], marker, color=colour, label=found[0].table)
