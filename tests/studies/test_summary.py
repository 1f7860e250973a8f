"""Are means, intervals and success rates those of statistics?"""

import math

import numpy as np
import pytest

from throughtime.studies.summary import Row, interval, share_interval, summaries


def row(cell, length, seed, score, *, solved=False, error=None):
    return Row(cell, length, seed, score, solved, 10, 1.0, error)


def test_the_interval_holds_the_mean_in_95_of_100_draws():
    rng = np.random.default_rng(0)
    for size in (3, 5, 40):
        draws = rng.normal(100.0, 1.0, (4000, size))
        ends = [interval(list(draw)) for draw in draws]
        held = np.mean([low <= 100.0 <= high for low, high in ends])
        assert held == pytest.approx(0.95, abs=0.015), size


def test_an_interval_by_hand():
    """t(2 degrees of freedom) = 4.303: 4.303 * 1 / sqrt 3 = 2.484 on either side of 12."""
    assert interval([11.0, 12.0, 13.0]) == pytest.approx((12 - 2.484, 12 + 2.484), abs=1e-3)
    assert interval([0.0, 1.0, 2.0])[0] == 0.0  # no score is below zero


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, math.inf], [math.nan, 1.0]])
def test_there_is_no_interval_of_too_little(scores):
    assert interval(scores) == (None, None)


def test_runs_are_grouped_by_cell_and_length_and_broken_ones_count_as_failures():
    rows = [
        row("rnn", 20, 0, 1.0),
        row("rnn", 20, 1, 3.0, solved=True),
        row("rnn", 20, 2, None, error="broken"),
        row("rnn", 50, 0, 5.0),
        row("lstm", 20, 0, None, error="broken"),
    ]
    found = summaries(rows)
    assert [(s.cell, s.length, s.mean, s.runs) for s in found] == [
        ("rnn", 20, 2.0, 3), ("rnn", 50, 5.0, 1), ("lstm", 20, None, 1)
    ]  # fmt: skip
    assert found[0].success_rate == pytest.approx(1 / 3)
    assert (found[1].low, found[1].high) == (None, None)


def test_the_interval_of_a_share_by_hand():
    # Wilson's score for 3 of 6, 0 of 10 and 10 of 10.
    assert share_interval([0.0, 1.0] * 3) == pytest.approx((0.1876, 0.8124), abs=1e-4)
    assert share_interval([0.0] * 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert share_interval([1.0] * 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert share_interval([1.0]) == (None, None)
