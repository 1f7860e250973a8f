"""Does the picture of a comparison show every cell, length and baseline, the same each time?"""

import re
import xml.etree.ElementTree as ET

import pytest

from throughtime.report.comparison import comparison_svg
from throughtime.report.comparison_page import comparison_page


def results(lengths=(20, 50), cells=("rnn", "leaky(lstm,rate=0.1)"), baseline=0.1667):
    rows = [
        {"cell": c, "length": n, "seed": s, "score": None if s == 2 else 10.0**-i * n * (1 + s)}
        for n in lengths
        for i, c in enumerate(cells)
        for s in range(3)
    ]
    summary = [
        {"cell": c, "length": n, "mean": 10.0**-i * n} for n in lengths for i, c in enumerate(cells)
    ]
    curves = {
        f"{c} {n} {s}": [[10, 3.0], [20, None], [30, 0.5]]
        for c in cells
        for n in lengths
        for s in (0, 1)
    }
    return {
        "task": "adding", "unit": "mean squared error", "updates": 1200, "rows": rows,
        "summary": summary, "baseline": baseline, "curves": curves,
    }  # fmt: skip


def whole_results():
    """With all that a page needs beyond the picture."""
    found = results()
    rows = [
        r | {"solved": r["seed"] == 0, "updates": 1200, "elapsed_s": 3.0} for r in found["rows"]
    ]
    rows[2]["error"] = "it <b>broke</b>"
    summary = [
        s | {"low": 0.9 * s["mean"], "high": 1.2 * s["mean"], "success_rate": 1 / 3, "runs": 3}
        for s in found["summary"]
    ]
    return found | {
        "rows": rows, "summary": summary, "settings": {"cells": "rnn leaky", "seeds": 3},
        "environment": {"torch": {"version": "2.13.0"}},
    }  # fmt: skip


def texts(svg):
    """Every text of a picture, in reading order; its strings are kept as strings."""
    root = ET.fromstring(svg)
    return [" ".join("".join(e.itertext()).split()) for e in root.iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize("lengths", [(20,), (20, 50, 1000)])
def test_the_picture_says_what_it_shows(lengths):
    found = texts(comparison_svg(results(lengths)))
    assert "adding: 1,200 updates a run, 3 seeds; lower is better" in found
    assert {"rnn", "leaky(lstm,rate=0.1)", "a model without memory"} <= set(found)
    assert {f"{length:,}" for length in lengths} <= set(found)
    assert "mean squared error" in " ".join(found)
    assert f"score on the validation part at length {max(lengths):,}" in found


def test_scores_far_apart_get_a_logarithmic_axis():
    wide = comparison_svg(results(cells=("rnn", "gru", "lstm", "mgu")))
    near = comparison_svg(results((20,), cells=("rnn",)))
    assert {"0.1", "1", "10"} <= set(texts(wide))
    assert "0.1" not in texts(near)


def test_a_baseline_of_each_length_is_drawn():
    shared = comparison_svg(results())
    own = comparison_svg(results(baseline={"20": 0.1, "50": 0.2}))
    assert shared != own


def test_the_same_results_are_the_same_bytes():
    assert comparison_svg(results()) == comparison_svg(results())


def test_nothing_in_it_is_fetched_from_elsewhere():
    svg = comparison_svg(results()).decode()
    links = re.findall(r'(?:href|src)="([^"]*)"', svg)
    assert all(link.startswith("#") for link in links)


def test_runs_that_all_broke_are_drawn_as_nothing():
    broken = results()
    for row in broken["rows"]:
        row["score"] = None
    for summary in broken["summary"]:
        summary["mean"] = None
    broken["curves"] = {}
    assert "rnn" in texts(comparison_svg(broken))


def test_the_page_says_first_what_came_of_it():
    page = comparison_page(whole_results())
    assert (
        "leaky(lstm,rate=0.1) has the lowest mean, 2, no better than a model without memory; "
        "it solved 33% of 3 runs." in page
    )
    assert page.index("What came of it") < page.index("<svg") < page.index("Numbers")
    assert "rnn is second with 20: their 95 % intervals do not meet." in page
    assert "it &lt;b&gt;broke&lt;/b&gt;" in page
    assert page == comparison_page(whole_results())


def test_what_seeds_cannot_tell_apart_is_said():
    near = whole_results()
    for summary in near["summary"]:
        summary |= {"mean": 0.4, "low": 0.3, "high": 0.5}
    page = comparison_page(near)
    assert "their 95 % intervals overlap." in page
    for summary in near["summary"]:
        summary |= {"mean": None}
    assert "Every run broke." in comparison_page(near)
