"""Does the measured horizon agree with who solves what? All tables' runs in one picture."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from throughtime.report.pictures_style import BLUE, GREY, VERMILION
from throughtime.report.svg_file import svg_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Reach", "draw_reaches", "reaches", "reaches_svg"]

_WIDTH_INCHES, _MARGIN_INCHES, _INCHES_A_LEVEL = 7.5, 1.5, 0.13
_NEAR = 0.09  # of the logarithm: marks closer than that would hide each other
_SOLVED, _UNSOLVED = BLUE, VERMILION


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
    strips = _strips(found)
    height = _INCHES_A_LEVEL * strips[-1].top + _MARGIN_INCHES
    return svg_file(lambda figure: draw_reaches(figure, found), (_WIDTH_INCHES, height))


class _Strip(NamedTuple):
    """A line of the picture: the runs of a table with one lag, none of them on another."""

    label: str
    marks: list[tuple[Reach, float]]  # with the height of each
    top: float


def draw_reaches(figure: "Figure", found: Sequence[Reach]) -> None:
    """Draw how far each error signal reaches, over the lag that is needed, into an empty figure."""
    axes, strips = figure.subplots(), _strips(found)
    ratios = [_ratio(reach) for reach in found]
    ends = (min(ratios) / 1.5, max(ratios) * 1.5)
    axes.axvspan(ends[0], 1.0, color=GREY, alpha=0.12, linewidth=0)
    axes.axvline(1.0, color=GREY, linewidth=1)
    for strip in strips:
        axes.axhline(strip.top, color=GREY, linewidth=0.3)
        for reach, height in strip.marks:
            axes.plot(
                [_ratio(reach)], [height], ">" if reach.is_beyond else "o",
                color=_SOLVED if reach.is_solved else _UNSOLVED, markersize=5.5,
                markerfacecolor=_SOLVED if reach.is_solved else "white",
            )  # fmt: skip
    middles = [(s.marks[0][1] + max(h for _, h in s.marks)) / 2 for s in strips]
    axes.set_yticks(middles, [s.label for s in strips])
    axes.set(
        xscale="log", xlim=ends, ylim=(strips[-1].top, 0.0),
        xlabel="measured memory horizon over the lag that the task needs",
        title="Who learns far enough, and who solves the task",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _draw_legend(figure, axes)


def _draw_legend(figure: "Figure", axes: "Axes") -> None:
    for marker, colour, face, label in (
        ("o", _SOLVED, _SOLVED, "solved"),
        ("o", _UNSOLVED, "white", "not solved"),
        (">", GREY, GREY, "at least this far: there are no more steps"),
    ):
        axes.plot([], [], marker, color=colour, markerfacecolor=face, label=label)
    axes.fill_between([], [], color=GREY, alpha=0.12, label="falls short")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def _strips(found: Sequence[Reach]) -> list[_Strip]:
    """A strip for each table and lag, from the top down."""
    groups: dict[tuple[str, int], list[Reach]] = {}
    for reach in found:
        groups.setdefault((reach.table, reach.needs_lag), []).append(reach)
    strips, top = [], 0.0
    for (table, lag), group in groups.items():
        levels = _levels([_ratio(reach) for reach in group])
        marks = [(r, top + 0.8 + level) for r, level in zip(group, levels, strict=True)]
        top += 1.6 + max(levels)
        strips.append(_Strip(f"{table}, {lag} steps", marks, top))
    return strips


def _levels(ratios: Sequence[float]) -> list[int]:
    """For each mark the first level on which no other is near."""
    placed: list[tuple[float, int]] = []
    for ratio in ratios:
        near = {level for other, level in placed if abs(math.log(ratio / other)) < _NEAR}
        placed.append((ratio, next(n for n in range(len(placed) + 1) if n not in near)))
    return [level for _, level in placed]


def _ratio(reach: Reach) -> float:
    """Horizon over lag; a horizon of 0 steps is drawn as one of a half."""
    return max(0.5, reach.horizon_steps) / reach.needs_lag
