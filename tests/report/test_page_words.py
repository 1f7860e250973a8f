"""Do page and terminal say the same, in full, with unit and sample size?"""

import math
import re
from dataclasses import replace

import pytest

from report.records_for_tests import empty, healthy, hostile, layer, vanishing
from report.test_page import Read
from throughtime.cli.screen import Screen
from throughtime.records.diagnosis import TimeMap
from throughtime.report import page as page_module
from throughtime.report import page_words as words
from throughtime.report.page import diagnosis_page
from throughtime.report.page_text import coloured_text
from throughtime.report.page_unfolded import unfolded
from throughtime.report.terminal import chart, show


def said(page):
    return Read(page).text


def shown(record, capsys, monkeypatch, encoding="utf-8"):
    monkeypatch.setenv("COLUMNS", "132")
    screen = Screen(json_only=False)
    monkeypatch.setattr(type(screen.console), "encoding", encoding)
    show(record, screen)
    return capsys.readouterr().out


def test_the_verdict_comes_first_and_whole():
    page = diagnosis_page(vanishing())
    text = said(page)
    assert text.index("Verdict") < text.index("Pictures") < text.index("Numbers")
    assert "✗ saturated in encoder.rnn 71.0% of gate activations, threshold 60.0%" in text
    assert "✗ vanishing in encoder.rnn 9 steps, threshold 100 Of an error 1 %" in text
    assert "To see whether this is wrong throughtime diagnose runs/copy --needs-lag 9" in text
    assert "2 more, to be cured later ✗ clipped always" in text
    assert "truncated : nothing is known of the training loop" in text
    assert text.index("vanishing") < text.index("2 more")
    command = "<pre><code>throughtime train copy --length 100 --cell lstm --init chrono:100"
    assert page.count(command) == 5


def test_every_picture_says_its_unit_and_its_sample():
    text = said(diagnosis_page(healthy(60, 1)))
    for title in (
        "Error by lag: rnn.l0", "What context is used", "The model, unfolded in time",
        "Error by lag over training", "Error from step t to step k",
        "Gradient of the weights from step k", "What each lag adds to the gradient",
        "Which state carries the error", "Lyapunov spectrum", "Rank of long products",
        "Time constants of the gates", "Gates: saturation and activation",
    ):  # fmt: skip
        assert title in text
    assert text.count("8 sequences of 60 steps.") >= 10
    for unit in ("loss a unit of state", "nats a step", "time constant, steps", "log10 of"):
        assert unit in text
    assert "an upper bound is not a measurement" in text.lower()


def test_needed_lag_horizon_and_exact_zeros_are_in_the_picture():
    text = said(diagnosis_page(vanishing()))
    assert "needed lag 100 steps" in text
    assert "horizon 9 steps" in text
    assert "exactly 0" in text
    assert "exactly 0" not in said(diagnosis_page(healthy(60, 1)))


def test_what_is_beside_is_drawn_over_and_listed():
    page = diagnosis_page(healthy(60, 1), [vanishing()])
    text = said(page)
    assert "number runs/pydoc-lstm runs/copy-rnn first finding healthy saturated" in text
    assert "rnn.l0: horizon, steps ≥ 59 9" in text
    curves = re.search(r'<svg[^>]*aria-label="Error by lag.*?</svg>', page, re.DOTALL)[0]
    assert "runs/copy-rnn" in curves
    assert "runs/pydoc-lstm" in curves, "its own curve, by a name like that of the other"
    assert "measured, median" not in curves
    assert "- ±" not in text, "there is no spread around nothing"
    assert "Beside each other" not in said(diagnosis_page(healthy(60, 1)))


def test_two_of_one_title_are_told_apart():
    assert words.names([healthy(9), healthy(9)]) == ["1: runs/pydoc-lstm", "2: runs/pydoc-lstm"]


def test_layers_beyond_the_fourth_are_folded_in():
    page = diagnosis_page(healthy(12, 6))
    assert page.count("<details open>") == 4
    assert page.count("<details>\n<summary>rnn.l") == 2
    assert "Error by lag: rnn.l5" in page


def test_without_matplotlib_all_but_the_curves_is_there(monkeypatch):
    monkeypatch.setattr(page_module, "find_spec", lambda name: None)
    text = said(diagnosis_page(vanishing()))
    assert "pip install 'throughtime[report]'" in text
    assert "The model, unfolded in time" in text
    assert "Error by lag" not in text


def test_the_text_is_coloured_by_what_counts():
    found = coloured_text({
        "symbols": list("abcdef"), "positions": [2, 5],
        "connectivity": [[1.0, 1.0], [0.0, 1e-9, 0.005, None, 2.0]],
    })  # fmt: skip
    assert found.position == 5
    assert [s.shade for s in found.symbols] == pytest.approx([
        0,
        0,
        1 + math.log10(0.0025) / 3,
        0,
        1,
        0,
    ])
    assert [s.is_strong for s in found.symbols] == [False] * 4 + [True, False]
    assert found.farthest == 1
    assert found.rows == {
        "positions": [2, 5], "shades": [[100, 100], [0, 0, 13, 0, 100]], "strong": 33.3
    }  # fmt: skip


def test_line_ends_and_tabs_of_a_text_are_seen_and_blanks_are_kept():
    found = coloured_text({
        "symbols": ["a", "\n", " ", " ", "\t", "\x00", "b"], "positions": [6],
        "connectivity": [[0.0] * 6],
    })  # fmt: skip
    assert [s.shown for s in found.symbols] == ["a", "⏎\n", " ", " ", "⇥\t", "\ufffd", "b"]
    page = diagnosis_page(replace(healthy(9, 1), text={
        "symbols": list("ab"), "positions": [1], "connectivity": [[1.0]],
    }))  # fmt: skip
    assert re.findall(r'class="(\w+)">(.)</span>', page) == [("strong", "a"), ("at", "b")]


def test_the_graph_shows_the_last_steps_and_then_some_far_ones():
    found = unfolded(healthy(200, 2))
    steps = [int(text) for _, text in found.columns]
    assert steps[-6:] == [194, 195, 196, 197, 198, 199]
    assert steps[0] == 0
    assert len(steps) == 11
    assert [a.is_gap for a in found.arrows[:10]] == [True] * 5 + [False] * 5
    assert [name for _, _, name in found.rows] == ["rnn.l1", "rnn.l0"], "the first one lies below"
    widths = [a.width for a in found.arrows[:10]]
    assert widths[0] < widths[2] < widths[4] < widths[9]
    assert found.arrows[9].lag == "lag 1"


def test_the_number_on_an_arrow_is_that_of_the_map():
    time_map = TimeMap([3], [0, 1, 2, 3], [[None, -250.5, -1.0, 0.0]])
    record = replace(healthy(9, 1), layers=[layer("a", 4, error_map=time_map)])
    assert [a.text for a in unfolded(record).arrows] == ["0", "3.2e-251", "0.1"]
    assert unfolded(record).starts[0][2] == "1"


def test_one_reason_for_several_findings_is_said_once(capsys, monkeypatch):
    why, other = "nobody says how many steps the answer needs", "no loop is known"
    unknown = {"truncated": other, "forgetting": why, "clipped_always": other, "vanishing": why}
    record = replace(vanishing(), not_examined=unknown)
    assert words.not_examined(record) == [
        ("truncated, clipped always", other), ("forgetting, vanishing", why)
    ]  # fmt: skip
    out = shown(record, capsys, monkeypatch)
    assert out.count(why) == 1
    assert out.count("not judged") == 1
    assert said(diagnosis_page(record)).count(why) == 1


def test_healthy_is_said_of_what_was_judged_and_needs_no_cure():
    found = replace(healthy().findings[0], cure="nothing to cure")
    whole, part = healthy(), replace(healthy(), not_examined={"vanishing": "no lag is known"})
    assert words.finding(found, whole).title == "healthy"
    assert words.finding(found, part).title == "healthy, as far as it was judged"
    assert words.finding(found, whole).compared == "151 steps, 64 needed"
    assert words.finding(replace(found, threshold=0.0), whole).compared == "151 steps"
    page = diagnosis_page(replace(whole, findings=[found]))
    assert "nothing to cure" not in Read(page).text
    assert 'class="command"' not in page


def test_one_of_something_is_no_plural(capsys, monkeypatch):
    assert [words.counted(n, "steps") for n in (0, 1, 2, 1500)] == [
        "0 steps", "1 step", "2 steps", "1,500 steps"
    ]  # fmt: skip
    one = replace(layer("a", 9, units=1, rows=1, horizon_steps=1, gates=[]), steps=1)
    wanted = replace(vanishing().needs_lag, steps=1)
    record = replace(
        healthy(9, 1), layers=[one], needs_lag=wanted,
        findings=[replace(healthy().findings[0], value=1.0)],
    )  # fmt: skip
    for text in (said(diagnosis_page(record)), shown(record, capsys, monkeypatch)):
        text = text.replace("layers 1 steps 1 sequences 1 mode", "")  # a name, then its number
        assert not re.search(r"\b1 (steps|sequences|units|readings|layers|updates)\b", text)
        assert "1 step" in text


def test_one_reading_of_the_gauge_is_no_course_of_training():
    record = healthy(9, 1)
    assert "Error by lag over training" in said(diagnosis_page(record))
    one = replace(record, history=record.history[:1])
    assert "Error by lag over training" not in said(diagnosis_page(one))


def test_reverse_layers_say_how_their_steps_are_counted():
    record = replace(healthy(9, 1), layers=[layer("rnn", 9), layer("rnn reverse", 9)])
    assert "as it takes them" in unfolded(record).caption
    assert "as it takes them" not in unfolded(healthy(9, 2)).caption


@pytest.mark.parametrize("name", ["rnn", "encoder.layers.0.recurrent l1 reverse"])
def test_names_have_the_room_that_numbers_leave(name, capsys, monkeypatch):
    record = replace(healthy(9, 1), layers=[layer(name, 9, kind="Recurrent(skip(gru))")])
    out = shown(record, capsys, monkeypatch)
    row = next(line for line in out.splitlines() if line.startswith(name[:9]))
    assert len(row) <= 80
    assert ("Recurrent(skip(gru))" in row) is (name == "rnn")


@pytest.mark.parametrize("make", [healthy, vanishing, empty, hostile])
def test_the_terminal_shows_all_in_80_columns(make, capsys, monkeypatch):
    record = make()
    out = shown(record, capsys, monkeypatch)
    assert "\x1b" not in out
    own = [line for line in out.splitlines() if "<script>" not in line and "xxxx" not in line]
    assert max(map(len, own)) <= 80
    assert record.findings[0].code.replace("_", " ") in out
    assert record.findings[0].cure in " ".join(out.replace("\\\n", " ").split())


def test_a_terminal_without_utf8_gets_ascii(capsys, monkeypatch):
    out = shown(vanishing(), capsys, monkeypatch, "ascii")
    assert out.isascii()
    assert "^ horizon 9 steps, ! needed lag 100 steps" in out


def test_the_chart_falls_as_the_error_does():
    lines = list(chart(layer("a", 60, 0.5), 10, is_plain=True))
    filled = [line[9:].count("#") for line in lines[:6]]
    assert filled == sorted(filled)
    assert filled[0] < 10
    assert lines[7].index("!") == 9 + 10
    assert lines[7].index("^") == 9 + 6
    thirds = list(chart(layer("a", 3, error_by_lag=[1.0, 1e-3, 1e-6]), None, is_plain=False))
    assert thirds[:7] == [
        "   1e+00 █",
        "         █",
        "         █▁",
        "         ██",
        "         ██",
        "   1e-06 ██▁",
        "         0 2",
    ]
    assert list(chart(layer("a", 3, error_by_lag=[0.0, None, 0.0]), None, is_plain=True)) == []
