"""Does the page of the demo show both pictures and only what was measured?"""

import json
import re
from html import unescape

import pytest

from throughtime.report.vanishing import vanishing_page
from throughtime.report.vanishing_words import cells_of, cliff_sentence, sentences
from throughtime.studies.cliff import cliff

LAGS = 12


def row(cell, name, keep, after, *, solved, bound=None):
    def curve(a):
        return [a**lag for lag in range(LAGS)]

    found = {"cell": cell, "name": name, "score": 0.0 if solved else 1.2, "train_s": 1.0}
    found |= {"wrong_share": 0.0 if solved else 0.6, "is_solved": solved}
    for when, a in (("before", keep), ("after", after)):
        horizon = max(lag for lag, share in enumerate(curve(a)) if share >= 0.01)
        found |= {
            f"horizon_{when}_steps": horizon,
            f"is_beyond_{when}": horizon == LAGS - 1,
            f"share_by_lag_{when}": curve(a),
            f"share_at_need_{when}": a**10,
            f"bound_factor_{when}": bound,
            f"bound_by_lag_{when}": curve(bound) if bound else [None] * LAGS,
        }
    return found


@pytest.fixture
def results():
    rows = [
        row("rnn", "tanh <RNN>", 0.5, 1.05, solved=False, bound=0.8),
        row("gru", "GRU", 0.6, 0.9, solved=True),
    ]
    return {
        "task": "temporal-order", "length": 12, "needs_lag": 10, "baseline": 1.386,
        "updates": 100, "seed": 0, "units": 32, "rows": rows, "bound_factor": 0.8,
        "elapsed_s": 1.0, "cliff": cliff().as_json(),
    }  # fmt: skip


def test_the_page_has_both_pictures_and_asks_for_nothing(results):
    page = vanishing_page(results, cliff().surface())
    assert page.count("<svg") == 2
    for shown in (
        "The error by lag",
        "The cliff",
        "lag, steps back",
        "share of the error at lag 0",
    ):
        assert shown in page
    assert "tanh <RNN>" not in page
    assert "tanh &lt;RNN&gt;" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "http" not in page
    embedded = re.search(r'<script type="application/json" id="record">(.*?)</script>', page)[1]
    assert [r["cell"] for r in json.loads(unescape(embedded))["rows"]] == ["rnn", "gru"]
    assert len(page) < 300_000


def test_the_same_results_make_the_same_bytes(results):
    first, second = (vanishing_page(results, cliff().surface()) for _ in range(2))
    assert first == second
    results["rows"][0]["share_by_lag_before"][3] *= 2
    assert vanishing_page(results, cliff().surface()) != first


def test_sentences_say_what_was_measured(results):
    said = " ".join(sentences(results))
    assert "Before training the horizon covers the 10 steps needed in: none." in said
    assert "After 100 updates the horizon covers the 10 steps needed in: tanh <RNN>, GRU." in said
    assert "is 0.8 a step, below one, which proves that errors vanish" in said
    assert "over 10 steps it allows 0.11 times an error, and 1.6 times was measured" in said
    assert "Solved (under 1 % of 10,000 test sequences wrong): GRU." in said
    assert "Not solved: tanh <RNN> 1.200 nats" in said
    assert "a long horizon is needed, not enough" in said


def test_a_horizon_that_just_covers_the_need_is_counted(results):
    results["needs_lag"] = results["rows"][0]["horizon_before_steps"]
    said = f"covers the {results['needs_lag']} steps needed in: tanh <RNN>, GRU."
    assert said in sentences(results)[0]
    results["needs_lag"] += 1
    assert "tanh <RNN>" not in sentences(results)[0]


def test_a_bound_above_one_is_said_to_prove_nothing(results):
    results["rows"][0]["bound_factor_before"] = 1.0
    assert "is 1 a step, not below one, which proves nothing" in " ".join(sentences(results))
    results["rows"][0]["bound_factor_before"] = None
    assert "No bound was found for the tanh <RNN> before training." in sentences(results)


def test_where_all_is_solved_nothing_is_said_of_failures(results):
    results["rows"][0]["is_solved"] = True
    said = " ".join(sentences(results))
    assert "Not solved" not in said
    assert "not enough" not in said


def test_horizons_at_the_largest_lag_are_lower_bounds(results):
    table = {cells[0]: cells for cells in cells_of(results)}
    assert table["tanh <RNN>"][1:3] == ("6", "≥ 11")
    assert table["GRU"][-2:] == ("0.0%", "yes")


def test_the_cliff_is_told_by_its_numbers(results):
    said = cliff_sentence(results["cliff"])
    leap = results["cliff"]["plain"][results["cliff"]["leap"]]
    assert f"the gradient is {leap['gradient_norm']:.1f} long" in said
    assert "after 60 updates the error is 0.09" in said
