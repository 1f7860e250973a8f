"""Does the page of all tables say what their results say?"""

import pytest

from throughtime.report.reproduction import Reach, draw_reaches, reaches, reaches_svg
from throughtime.report.reproduction_page import reproduction_page
from throughtime.report.table_words import number_text, row_texts


def run(arm, needs, horizon, solved, *, beyond=False, seed=0, ending="finished"):
    memory = {"needs_lag": needs, "horizon_steps": horizon, "is_horizon_beyond": beyond}
    return {
        "arm": arm, "seed": seed, "ending": ending, "values": {"solved": float(solved)},
        "memory": {} if horizon is None else memory,
    }  # fmt: skip


def row(name, **options):
    return {
        "name": name, "paper": 0.5, "paper_at": "", "ours": 0.25, "low": 0.125, "high": 0.375,
        "unit": "nats", "runs": 3, "verdict": "met", "horizon_steps": 9,
        "is_horizon_beyond": False, "needs_lag": None, **options,
    }  # fmt: skip


def result(name, runs, rows, planned=None):
    return {
        "name": name, "claim": "It works.", "source": "A paper", "chosen": "By hand.",
        "runs": runs, "rows": rows, "planned_runs": planned or len(runs),
        "environment": {"cpu": "a processor", "cpu_count": 2, "torch": {"version": "2.13"}},
    }  # fmt: skip


COPY = result(
    "copy",
    [run("gru", 20, 30, True), run("rnn", 20, 5, False), run("lstm", 20, 10, True)],
    [row("gru"), row("rnn", verdict="not met", low=None, paper="stays", horizon_steps=None)],
    planned=4,
)
TEXT = result("text", [run("lstm", None, 12, False, ending="diverged")], [row("lstm", paper=None)])


def test_runs_with_a_needed_lag_are_drawn():
    found = reaches([COPY, TEXT])
    assert found[0] == Reach("copy", "gru", 20, 30, False, True)
    assert [r.arm for r in found] == ["gru", "rnn", "lstm"]
    assert [r.is_far_enough for r in found] == [True, False, False]
    assert Reach("t", "a", 20, 15, True, False).is_far_enough  # as far as there are steps


def test_the_picture_is_the_same_for_the_same_runs():
    pytest.importorskip("matplotlib")
    found = reaches([COPY])
    assert reaches_svg(found) == reaches_svg(found)
    assert reaches_svg(found) != reaches_svg(found[:2])


def test_no_mark_hides_another():
    Figure = pytest.importorskip("matplotlib.figure").Figure
    found = [Reach("t", name, 20, 40, False, name == "a") for name in "abc"]
    found += [Reach("t", "d", 20, 0, False, False), Reach("t", "e", 30, 40, True, False)]
    figure = Figure()
    draw_reaches(figure, found)
    (axes,) = figure.axes
    marks = [
        line for line in axes.lines if line.get_marker() in {"o", ">"} and len(line.get_xdata())
    ]
    places = [(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in marks]
    assert len(set(places)) == len(found)
    assert [x for x, _ in places] == pytest.approx([2, 2, 2, 0.5 / 20, 4 / 3])
    assert [m.get_marker() for m in marks] == ["o", "o", "o", "o", ">"]
    assert len({m.get_markerfacecolor() for m in marks[1:]}) == 1
    assert marks[0].get_markerfacecolor() != "white"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["t, 20 steps", "t, 30 steps"]


def test_the_page_counts_who_reaches_and_who_solves():
    page = reproduction_page([COPY, TEXT], ["mnist"], "pictures/p.svg")
    assert "](pictures/p.svg)" in page
    assert "| reaches the lag | 1 | 0 |" in page
    assert "| falls short of it | 1 | 1 |" in page
    assert "lstm (copy, 10 of 20 steps)." in page
    assert "## Not run yet\n\nmnist." in page


def test_the_page_has_every_row_beside_the_paper():
    page = reproduction_page([COPY, TEXT], [], "p.svg")
    assert "| gru | 0.5 | 0.25 | 0.125 to 0.375 | 3 | 9 | met |" in page
    assert "| rnn | stays | 0.25 |  | 3 |  | not met |" in page
    assert "3 runs, one seed; 1 of 4 are left. a processor, 2 cores, torch 2.13." in page
    assert "1 runs, one seed; 1 diverged." in page
    assert "Not run yet" not in page
    assert "\n\n\n" not in page


def test_without_a_known_lag_there_is_no_picture():
    page = reproduction_page([TEXT], [], "p.svg")
    assert "p.svg" not in page
    assert "Who learns" not in page


def test_numbers_in_words():
    assert number_text(0.000123456) == "0.0001235"
    assert number_text(13328.4) == "13,328"
    assert number_text(3.217e24) == "3.217e+24"
    assert number_text(None) == ""
    full = ("gru", "0.5", "0.25", "0.125 to 0.375", "3", "9", "met")
    assert row_texts(row("gru")) == full
    assert row_texts(row("gru", paper=8.45))[1] == "8.45"
    assert row_texts(row("gru", paper=None))[1] == ""
    assert row_texts(row("gru", low=1.0, high=None))[3] == ""
    far = {"horizon_steps": 1234, "is_horizon_beyond": True}
    assert row_texts(row("gru", **far))[5] == "≥ 1,234"
    assert row_texts(row("gru", horizon_steps=1234, needs_lag=50))[5] == "1,234 / 50"
    unknown = row("gru", verdict=None)
    del unknown["horizon_steps"]
    assert row_texts(unknown)[5:] == ("", "")
