"""Are the marked numbers where the sources mark them, and is the answer made of them?"""

import numpy as np
import pytest

from throughtime.tasks.adding import Adding, AddingPascanu, AddingTCN, Multiplication

ANSWERS = {
    Adding: lambda a, b: a + b,
    AddingTCN: lambda a, b: a + b,
    AddingPascanu: lambda a, b: (a + b) / 2,
    Multiplication: lambda a, b: a * b,
}
every = pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.name)


def rng(seed=0):
    return np.random.default_rng(seed)


def places(batch):
    """The two marked steps of each row, in order, [2, B]."""
    marked = batch.inputs[..., 0]
    assert set(np.unique(marked)) <= {0.0, 1.0}
    assert (marked.sum(0) == 2).all()
    return np.stack([marked.argmax(0), len(marked) - 1 - marked[::-1].argmax(0)])


@every
@pytest.mark.parametrize("length", [20, 47])
def test_the_answer_is_made_of_the_two_marked_numbers(kind, length):
    batch = kind(length).batch(rng(), 50)
    (first, second), each = places(batch), np.arange(50)
    a, b = batch.inputs[first, each, 1], batch.inputs[second, each, 1]
    np.testing.assert_allclose(batch.targets[-1, :, 0], ANSWERS[kind](a, b), rtol=1e-6)
    assert batch.is_counted[-1].all()
    assert not batch.is_counted[:-1].any()
    assert (batch.lengths == len(batch.inputs)).all()


@every
def test_numbers_are_uniform(kind):
    numbers = kind(30).batch(rng(), 4_000).inputs[..., 1]
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    counts = np.histogram(numbers, 20, (0.0, 1.0))[0] / numbers.size
    np.testing.assert_allclose(counts, 0.05, atol=0.005)


def reached(kind, length, steps=None):
    batches = [kind(length).batch(rng(seed), 4_000) for seed in range(12)]
    found = [places(b) for b in batches if steps is None or len(b.inputs) == steps]
    first, second = np.concatenate(found, axis=1)
    return set(first.tolist()), set(second.tolist())


def test_one_marker_in_each_half():
    assert reached(Adding, 9) == (set(range(4)), set(range(4, 9)))
    assert reached(Adding, 2) == ({0}, {1})


def test_markers_anywhere_are_as_likely_in_every_pair():
    batch = AddingTCN(5).batch(rng(), 20_000)
    pairs, counts = np.unique(places(batch), axis=1, return_counts=True)
    assert len(counts) == 10
    assert (pairs[0] < pairs[1]).all()
    np.testing.assert_allclose(counts / 20_000, 0.1, atol=0.01)


@pytest.mark.parametrize("kind", [AddingPascanu, Multiplication])
@pytest.mark.parametrize("steps", [36, 37, 38])
def test_markers_of_pascanu_are_in_the_first_half(kind, steps):
    # 10 % of 36 ... 38 are 3 whole steps, 40 % are 14 or 15.
    first, second = reached(kind, 36, steps)
    assert first == set(range(3))
    assert second == set(range(3, 3 + {36: 14, 37: 14, 38: 15}[steps]))


def test_steps_of_pascanu_vary_from_batch_to_batch():
    seen = {len(AddingPascanu(40).batch(rng(seed), 2).inputs) for seed in range(60)}
    assert seen == {40, 41, 42, 43}
    assert AddingPascanu(40).most_steps == 43


@every
def test_the_baseline_is_the_error_of_the_best_constant(kind):
    middles = (np.arange(1_000) + 0.5) / 1_000
    answers = ANSWERS[kind](middles[:, None], middles)
    assert kind().baseline() == pytest.approx(float(answers.var()), abs=5e-7)
    drawn = np.concatenate([b.targets[-1, :, 0] for b in kind().held_out("test")])
    assert drawn.var() == pytest.approx(kind().baseline(), rel=0.05)


@pytest.mark.parametrize("kind", [Adding, AddingPascanu, Multiplication])
def test_every_row_needs_the_lag(kind):
    lags = []
    for seed in range(40):
        batch = kind(23).batch(rng(seed), 500)
        lags.append(len(batch.inputs) - 1 - places(batch)[0].max())
    assert min(lags) == kind(23).needs_lag


def test_half_of_the_rows_need_the_lag_where_markers_are_anywhere():
    batch = AddingTCN(200).batch(rng(), 20_000)
    assert np.median(199 - places(batch)[0]) == pytest.approx(AddingTCN(200).needs_lag, abs=3)


def test_a_squared_error_above_four_hundredths_is_wrong():
    batch = AddingPascanu(20).batch(rng(), 4)
    outputs = batch.targets + np.array([0.199, -0.199, 0.201, -0.201])[:, None]
    assert AddingPascanu(20).is_wrong(outputs, batch).tolist() == [False, False, True, True]


def test_of_constant_answers_to_pascanu_36_percent_are_wrong():
    # The mean of two uniform numbers is more than 0.2 from 1/2 with probability 2 * 0.3^2 * 2.
    task = AddingPascanu(20)
    wrong = [task.is_wrong(np.full_like(b.targets, 0.5), b) for b in task.held_out("test")]
    assert np.concatenate(wrong).mean() == pytest.approx(0.36, abs=0.02)
