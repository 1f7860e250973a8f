"""Is each character asked for while the next one lasts, warped and padded alike?"""

from itertools import groupby, pairwise

import numpy as np
import pytest

from tasks.judging import entropy_given, symbols
from throughtime.errors import ConfigError
from throughtime.tasks.warping import PadUniform, PadVariable, WarpUniform, WarpVariable

KINDS = [WarpUniform, WarpVariable, PadUniform, PadVariable]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def runs(kind, read):
    """The characters of a row and the steps each lasts, from what was read."""
    if kind in {WarpUniform, WarpVariable}:  # neighbours differ, so a change is a new character
        return [(c, len(list(same))) for c, same in groupby(read)]
    starts = [*np.flatnonzero(read), len(read)]
    return [(read[a], b - a) for a, b in pairwise(starts)]


@every
@pytest.mark.parametrize("length", [1, 3, 20])
def test_the_target_is_the_character_before(kind, length):
    batch = kind(length).batch(np.random.default_rng(0), 20)
    read, is_padded = symbols(batch), kind in {PadUniform, PadVariable}
    for row in range(20):
        found = runs(kind, read[:, row])
        characters, lasting = zip(*found, strict=True)
        assert set(characters) <= set(range(1, 10))
        assert all(a != b for a, b in pairwise(characters))
        assert sum(lasting) == 500
        targets = [0] * lasting[0]
        for before, steps in zip(characters, lasting[1:], strict=False):
            targets += [before, *[0] * (steps - 1)] if is_padded else [before] * steps
        assert batch.targets[:, row].tolist() == targets
        assert batch.is_counted[:, row].tolist() == [t >= lasting[0] for t in range(500)]
    assert (batch.lengths == 500).all()


@every
def test_characters_last_as_long_as_they_should(kind):
    batch = kind(4).batch(np.random.default_rng(0), 60)
    lasting = [steps for row in symbols(batch).T for _, steps in runs(kind, row)[:-1]]
    steps, counts = np.unique(lasting, return_counts=True)
    if kind in {WarpUniform, PadUniform}:
        assert steps.tolist() == [4]
    else:
        assert steps.tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.02)


@every
@pytest.mark.parametrize("length", [1, 7, 33])
def test_the_baseline_is_that_of_who_reads_one_symbol(kind, length):
    task, known, answers = kind(length), [], []
    for batch in task.held_out("test"):
        known.append(symbols(batch)[batch.is_counted])
        answers.append(batch.targets[batch.is_counted])
    found = entropy_given(np.concatenate(known), np.concatenate(answers))
    assert found == pytest.approx(task.baseline(), rel=0.01)


def test_all_characters_are_as_likely_to_follow():
    read = symbols(WarpUniform(1).batch(np.random.default_rng(0), 100))
    moves, counts = np.unique((read[1:] - read[:-1]) % 9, return_counts=True)
    assert moves.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 8, atol=0.005)
    np.testing.assert_allclose(np.bincount(read.ravel())[1:] / read.size, 1 / 9, atol=0.005)


@every
def test_the_lag_is_the_most_a_character_lasts(kind):
    read = symbols(kind(6).batch(np.random.default_rng(0), 40))
    longest = max(steps for row in read.T for _, steps in runs(kind, row))
    assert longest == kind(6).needs_lag == 6


@every
def test_two_characters_have_to_fit(kind):
    assert kind(250).batch(np.random.default_rng(0), 2).is_counted.any(0).all()
    with pytest.raises(ConfigError, match=r"is 251; expected 250 at most.*Give a smaller one"):
        kind(251)
