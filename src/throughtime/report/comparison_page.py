"""How does a comparison become a page? What came first, the picture, every number, its settings."""

import json
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from throughtime.report.comparison import SIZE, draw_comparison
from throughtime.report.page import embedded, rendered
from throughtime.report.page_svg import inline_svg
from throughtime.report.page_words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_page"]

_Summary = Mapping[str, Any]


def comparison_page(results: Mapping[str, Any]) -> str:
    """The page of a comparison as HTML: the same text for the same results.

    Args:
        results: What `records.read_results` gives.
    """

    def draw(figure: "Figure") -> None:
        draw_comparison(figure, results)

    label = (
        f"Scores of every run on {results['task']} over the length, in {results['unit']}, lower "
        "is better; beside them the scores on the validation part over the updates."
    )
    return rendered(
        "comparison.html",
        title=f"{results['task']}: {len(_unique(results, 'cell'))} cells compared",
        facts=_facts(results),
        said=[_said(group, results) for group in _by_length(results)],
        svg=inline_svg(draw, label, "comparison", SIZE),
        caption=f"{label} Every dot is a run, every line joins means.",
        head=_head(results),
        summary=[_row(summary, results) for summary in results["summary"]],
        memory=results.get("memory"),
        runs=[_run(row) for row in results["rows"]],
        settings=_pairs(results.get("settings", {})),
        provenance=_pairs(results.get("environment", {})),
        data=embedded(results),
    )


def _unique(results: Mapping[str, Any], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in results["rows"]))


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    baseline = results["baseline"]
    if isinstance(baseline, Mapping):
        baseline = ", ".join(f"{number(v, 4)} at {length}" for length, v in baseline.items())
    else:
        baseline = number(baseline, 4)
    return [
        ("score", f"{results['unit']}, lower is better"),
        ("a model without memory", baseline),
        ("updates a run", f"{results['updates']:,}"),
        ("seeds", f"{len(_unique(results, 'seed'))}"),
        ("runs", f"{len(results['rows'])}"),
    ]


def _by_length(results: Mapping[str, Any]) -> list[list[_Summary]]:
    ordered = sorted(results["summary"], key=lambda s: s["length"])
    return [list(group) for _, group in groupby(ordered, key=lambda s: s["length"])]


def _said(group: list[_Summary], results: Mapping[str, Any]) -> tuple[str, str]:
    """Which cell came first at a length, and whether the seeds tell it from the second."""
    head = f"Length {group[0]['length']:,}"
    ranked = sorted((s for s in group if s["mean"] is not None), key=lambda s: s["mean"])
    if not ranked:
        return head, "Every run broke."
    first, baseline = ranked[0], results["baseline"]
    if isinstance(baseline, Mapping):
        baseline = baseline[str(first["length"])]
    text = f"{first['cell']} has the lowest mean, {number(first['mean'], 4)}"
    text += "" if first["mean"] < baseline else ", no better than a model without memory"
    text += f"; it solved {first['success_rate']:.0%} of {first['runs']} runs."
    return head, text + _told_apart(first, ranked[1] if len(ranked) > 1 else None)


def _told_apart(first: _Summary, second: _Summary | None) -> str:
    if second is None:
        return ""
    name = f" {second['cell']} is second with {number(second['mean'], 4)}"
    if first["high"] is None or second["low"] is None:
        return f"{name}: too few runs to tell them apart."
    apart = first["high"] < second["low"]
    return f"{name}: their 95 % intervals {'do not meet' if apart else 'overlap'}."


def _head(results: Mapping[str, Any]) -> list[str]:
    """The columns of the summary; what is not known of any run has none."""
    return [
        *("cell", "length", "runs", "mean", "95 % interval", "solved"),
        *(["horizon, steps"] if _horizons(results) else []),
        *(["needed lag, steps"] if any(results.get("needs_lag", {}).values()) else []),
    ]


def _row(summary: _Summary, results: Mapping[str, Any]) -> list[str]:
    low, high, horizons = summary["low"], summary["high"], _horizons(results)
    needed = results.get("needs_lag", {})
    return [
        summary["cell"],
        f"{summary['length']:,}",
        f"{summary['runs']}",
        "broken" if summary["mean"] is None else number(summary["mean"], 4),
        "-" if low is None else f"{number(low)} to {number(high)}",
        f"{summary['success_rate']:.0%}",
        *([horizons.get((summary["cell"], summary["length"]), "-")] if horizons else []),
        *([number(needed[str(summary["length"])] or None)] if any(needed.values()) else []),
    ]


def _horizons(results: Mapping[str, Any]) -> dict[tuple[str, int], str]:
    """How far back the runs learn that were diagnosed, by cell and length."""
    return {
        (r["cell"], r["length"]): f"{'≥ ' if r['is_horizon_beyond'] else ''}{r['horizon_steps']:,}"
        for r in reversed(results["rows"])  # the first seed stays
        if r.get("horizon_steps") is not None
    }


def _run(row: Mapping[str, Any]) -> list[str]:
    said = "solved" if row["solved"] else row.get("error") or "not solved"
    return [
        row["cell"],
        f"{row['length']:,}",
        f"{row['seed']}",
        number(row["score"], 4),
        said,
        f"{row['updates']:,}",
        f"{row['elapsed_s']:.1f}",
    ]


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in values.items()]
