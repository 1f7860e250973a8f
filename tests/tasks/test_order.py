"""Are the symbols to remember where the source puts them, and is their order the class?"""

import numpy as np
import pytest

from tasks.judging import entropy_given, symbols
from throughtime.tasks.order import RandomPermutation, TemporalOrder, TemporalOrder3

RANGES = {
    # First and last step of each symbol in sequences of 37 steps, 10 % of which are 3
    TemporalOrder: [(3, 5), (18, 20)],
    TemporalOrder3: [(3, 5), (11, 13), (22, 24)],
}
ordered = pytest.mark.parametrize("kind", RANGES, ids=lambda kind: kind.name)


@ordered
def test_the_class_is_the_order_of_the_symbols(kind):
    batch = kind(37).batch(np.random.default_rng(0), 4_000)
    read = symbols(batch)
    steps, row = np.nonzero(read.T < 2)[::-1]
    steps, row = steps.reshape(4_000, -1), row.reshape(4_000, -1)
    assert steps.shape[1] == len(RANGES[kind])
    classes = sum(read[steps[:, k], row[:, k]] << k for k in range(steps.shape[1]))
    np.testing.assert_array_equal(batch.targets[-1], classes)
    for k, (first, last) in enumerate(RANGES[kind]):
        assert set(steps[:, k].tolist()) == set(range(first, last + 1))


@ordered
def test_all_else_is_distractors_as_likely(kind):
    read = symbols(kind(37).batch(np.random.default_rng(0), 2_000))
    numbers, counts = np.unique(read[read >= 2], return_counts=True)
    assert numbers.tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.01)


@ordered
@pytest.mark.parametrize("length", [10, 50, 99])
def test_symbols_never_meet_and_never_leave_the_sequence(kind, length):
    read = symbols(kind(length).batch(np.random.default_rng(0), 500))
    assert ((read < 2).sum(0) == len(RANGES[kind])).all()


@pytest.mark.parametrize("kind", [*RANGES, RandomPermutation], ids=lambda kind: kind.name)
def test_the_baseline_is_that_of_who_reads_the_last_symbol(kind):
    task = kind(30)
    pairs = [(symbols(b)[-1], b.targets[-1]) for b in task.held_out("test")]
    known, answers = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert entropy_given(known * 0, answers) == pytest.approx(task.baseline(), abs=0.002)
    # Many symbols and few rows: knowing the last one seems to help a little.
    assert entropy_given(known, answers) == pytest.approx(task.baseline(), abs=0.006)


@ordered
def test_every_row_needs_the_lag(kind):
    read = symbols(kind(37).batch(np.random.default_rng(0), 2_000))
    latest = (read < 2).argmax(0).max()
    assert 36 - latest == kind(37).needs_lag == 31


@pytest.mark.parametrize("length", [2, 3, 40])
def test_the_first_symbol_is_to_come_again(length):
    task = RandomPermutation(length)
    batch = task.batch(np.random.default_rng(0), 3_000)
    read = symbols(batch)
    np.testing.assert_array_equal(batch.targets[-1], read[0])
    assert set(read[0].tolist()) == {0, 1}
    assert set(read[1:].ravel().tolist()) == set(range(2, 100))
    assert task.needs_lag == length - 1
