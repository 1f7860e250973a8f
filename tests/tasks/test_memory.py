"""Are sequences to be repeated laid out as the sources lay them out?"""

import math

import numpy as np
import pytest

from tasks.judging import entropy_given, symbols
from throughtime.tasks.memory import Copy, CopyTCN, CopyVariable, Memorisation

KINDS = [Memorisation, Copy, CopyTCN, CopyVariable]


def expected(kind, shown, blanks):
    """Inputs and targets of a row, written down as the sources describe them."""
    wait = [0] * (10 + blanks)
    if kind is Memorisation:  # the sign is read at the step of the first answer
        return [*shown, *[0] * blanks, 6, *[0] * 9], [*wait, *shown]
    signs = [9] * 11 if kind is CopyTCN else [9, *[0] * 10]
    return [*shown, *[0] * blanks, *signs], [*wait, 0, *shown]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", [1, 2, 13])
def test_rows_are_laid_out_as_in_the_source(kind, length):
    batch = kind(length).batch(np.random.default_rng(0), 30)
    read = symbols(batch)
    for row, steps in enumerate(batch.lengths):
        blanks = {Memorisation: length, CopyVariable: steps - 21}.get(kind, length - 1)
        inputs, targets = expected(kind, read[:10, row].tolist(), blanks)
        assert read[:steps, row].tolist() == inputs
        assert batch.targets[:steps, row].tolist() == targets
        assert batch.is_counted[:, row].sum() == steps
        assert not batch.targets[steps:, row].any()
        assert steps == length + 20 or kind is CopyVariable


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_symbols_are_as_likely(kind):
    shown = symbols(kind(3).batch(np.random.default_rng(0), 4_000))[:10]
    numbers, counts = np.unique(shown, return_counts=True)
    assert numbers.tolist() == list(range(1, 6 if kind is Memorisation else 9))
    np.testing.assert_allclose(counts / shown.size, 1 / len(numbers), atol=0.006)


def test_the_number_of_blanks_is_drawn_for_every_row():
    lengths = CopyVariable(6).batch(np.random.default_rng(0), 6_000).lengths
    steps, counts = np.unique(lengths, return_counts=True)
    assert steps.tolist() == [22, 23, 24, 25, 26, 27]
    np.testing.assert_allclose(counts / 6_000, 1 / 6, atol=0.02)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_baseline_is_that_of_who_knows_the_step_alone(kind):
    task, known, answers = kind(40), [], []
    for batch in task.held_out("test"):
        from_end = batch.lengths - np.arange(len(batch.inputs))[:, None]
        known.append(from_end[batch.is_counted])
        answers.append(batch.targets[batch.is_counted])
    found = entropy_given(np.concatenate(known), np.concatenate(answers))
    assert found == pytest.approx(task.baseline(), rel=0.01)


def test_the_published_baseline():
    assert CopyTCN(1000).baseline() == pytest.approx(0.02039, abs=5e-6)
    assert Copy(500).baseline() == pytest.approx(10 * math.log(8) / 520, rel=1e-12)


@pytest.mark.parametrize("kind", [Memorisation, Copy, CopyTCN])
def test_every_answer_needs_the_lag(kind):
    batch = kind(7).batch(np.random.default_rng(0), 3)
    lag = kind(7).needs_lag
    assert np.array_equal(batch.targets[lag : lag + 10], symbols(batch)[:10])


def test_half_of_the_rows_need_the_lag_where_blanks_vary():
    lengths = CopyVariable(25).batch(np.random.default_rng(0), 9_000).lengths
    assert np.median(lengths - 10) == CopyVariable(25).needs_lag


def test_one_wrong_step_of_any_makes_a_sequence_wrong():
    task = Memorisation(4)
    batch = task.batch(np.random.default_rng(0), 2)
    outputs = np.eye(6, dtype=np.float32)[batch.targets]
    outputs[12, 1] = np.eye(6)[5]  # a blank was to be answered
    assert task.is_wrong(outputs, batch).tolist() == [False, True]
