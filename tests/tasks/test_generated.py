"""Does every generated task keep the promises of the interface?"""

import dataclasses
import math

import numpy as np
import pytest

from tasks.judging import perfect, score, symbols
from throughtime.errors import ConfigError
from throughtime.tasks import TASKS
from throughtime.tasks.generated import GeneratedTask, ask_at_end, has_left_plateau, one_hot

GENERATED = [kind for kind in TASKS.values() if issubclass(kind, GeneratedTask)]
KNOWN_BASELINES = {
    "recall": math.log(7),
    "adding": 1 / 6,
    "adding-tcn": 1 / 6,
    "adding-pascanu": 1 / 24,
    "multiplication": 7 / 144,
    "temporal-order": math.log(4),
    "temporal-order-3": math.log(8),
    "random-permutation": math.log(2),
    "memorisation": 10 * math.log(5) / 70,
    "copy": 10 * math.log(8) / 120,
    "copy-tcn": 10 * math.log(8) / 120,
    "copy-variable": 10 * math.log(8) / 71.5,
    "warp-uniform": math.log(8),
    "warp-variable": math.log(8),
    "pad-uniform": math.log(8) / 20,
}
HAVE_CRITERIA = {
    *("adding-pascanu", "multiplication", "temporal-order", "temporal-order-3"),
    *("random-permutation", "memorisation", "recall"),
}

every = pytest.mark.parametrize("task", [kind() for kind in GENERATED], ids=lambda t: t.name)


def rng(update=0):
    return np.random.default_rng([7, update])  # as a run with seed 7 draws its batches


def arrays_are_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@every
def test_a_batch_has_the_promised_shapes(task):
    batch = task.batch(rng(), 6)
    T, B = batch.is_counted.shape
    assert B == 6
    assert task.most_steps >= T
    assert batch.inputs.shape == (T, B, task.input_size)
    assert batch.inputs.dtype == np.float32
    assert batch.is_counted.dtype == np.bool_
    assert batch.lengths.dtype == np.int64
    assert batch.lengths.max() == T
    if task.answer == "value":
        assert batch.targets.shape == (T, B, task.output_size)
        assert batch.targets.dtype == np.float32
    else:
        assert batch.targets.shape == (T, B)
        assert batch.targets.dtype == np.int64
        assert batch.targets.min() >= 0
        assert batch.targets.max() < task.output_size


@every
def test_symbols_are_one_hot_up_to_the_end_of_a_row_and_nothing_after(task):
    batch = task.batch(rng(), 6)
    is_real = np.arange(len(batch.inputs))[:, None] < batch.lengths
    assert not batch.is_counted[~is_real].any()
    assert batch.is_counted.any(0).all()
    if task.answer == "class":
        assert np.array_equal(batch.inputs.sum(-1), is_real)
        assert np.array_equal(symbols(batch) >= 0, is_real)


@every
def test_the_state_of_the_generator_decides_alone(task):
    first = task.batch(rng(), 4)
    np.random.default_rng().random()
    assert arrays_are_equal(first, task.batch(rng(), 4))
    assert arrays_are_equal(first, dataclasses.replace(task).batch(rng(), 4))
    assert not np.array_equal(
        first.inputs, task.batch(rng(update=1), 4).inputs[: len(first.inputs)]
    )


@every
def test_parts_are_always_the_same_and_in_pieces_that_fit_into_memory(task):
    rows = dict.fromkeys(("valid", "test"), 0)
    for part in rows:
        again = task.held_out(part)
        for number, batch in enumerate(task.held_out(part)):
            rows[part] += len(batch.lengths)
            assert batch.is_counted.size <= 100_000
            if number < 2:
                assert arrays_are_equal(batch, next(again))
    assert rows == {"valid": task.valid_rows, "test": task.test_rows}
    assert rows["test"] == 10_000 or task.name not in HAVE_CRITERIA


@every
def test_no_part_is_drawn_as_another_or_as_training_batches(task, monkeypatch):
    # Pools, of which all that is drawn follows: those of two parts and of runs with any seed.
    drawn = []
    original = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: drawn.append(seed) or original(seed))
    for part in ("valid", "test"):
        next(task.held_out(part))
    pools = [tuple(seed.generate_state(4)) for seed in drawn]
    seeds = [(s, u) for s in (0, 1, 2, 7, 2**32 - 1, 2**63) for u in (0, 1, 2, 10**6, 2**40)]
    pools += [tuple(np.random.SeedSequence(list(pair)).generate_state(4)) for pair in seeds]
    assert len(set(pools)) == len(pools) == 2 + 30


@every
def test_who_knows_the_answers_solves_it_and_who_remembers_nothing_does_not(task):
    batch = task.batch(rng(), 40)
    outputs = perfect(task, batch)
    assert not task.is_wrong(outputs, batch).any()
    assert score(task, outputs, batch) < 1e-6
    assert task.is_solved(0.0, 0.0)
    # Ever the same answer, that of the first row.
    constant = np.broadcast_to(outputs[:, :1], outputs.shape)
    wrong_share = task.is_wrong(constant, batch).mean()
    assert 0.2 < wrong_share < 1.0
    assert not task.is_solved(task.baseline(), wrong_share)


@every
def test_a_single_wrong_answer_makes_a_row_wrong_where_it_is_counted_alone(task):
    batch = task.batch(rng(), 5)
    outputs = perfect(task, batch)
    step = int(np.flatnonzero(batch.is_counted[:, 3])[-1])
    wrong = outputs.copy()
    wrong[step, 3] = outputs[step, 3][::-1] if task.answer == "class" else outputs[step, 3] + 0.21
    if task.answer == "class":
        wrong[step, 3] = np.roll(outputs[step, 3], 1)
    assert task.is_wrong(wrong, batch).tolist() == [False, False, False, True, False]
    uncounted = np.where(batch.is_counted[..., None], outputs, -outputs - 1)
    assert not task.is_wrong(uncounted, batch).any()


@every
def test_the_criterion_is_that_of_the_source_or_a_tenth_of_the_plateau(task):
    if task.name in HAVE_CRITERIA:
        assert task.is_solved(9.0, 0.0099)
        assert not task.is_solved(0.0, 0.01)
    else:
        assert task.is_solved(0.0999 * task.baseline(), 1.0)
        assert not task.is_solved(0.1001 * task.baseline(), 0.0)
        assert has_left_plateau(task, 0.0999 * task.baseline())


def test_baselines_are_those_of_theory():
    found = {kind.name: kind().baseline() for kind in GENERATED if kind.name in KNOWN_BASELINES}
    assert found == pytest.approx(KNOWN_BASELINES, rel=1e-12)
    assert {kind.name for kind in GENERATED} - set(found) == {"pad-variable", "programs"}


@every
def test_too_short_a_length_is_refused(task):
    kind = type(task)
    kind(task.shortest).batch(rng(), 3)
    message = (
        rf"{task.name} is {task.shortest - 1}; expected {task.shortest} at least. Give --length"
    )
    with pytest.raises(ConfigError, match=message):
        kind(task.shortest - 1)


@every
def test_equal_tasks_are_equal_and_say_what_they_ask(task):
    assert task == type(task)(task.length)
    assert hash(task) == hash(type(task)(task.length))
    assert task != type(task)(task.length + 1)
    assert task.what
    assert task.source
    assert 0 < task.needs_lag < task.most_steps


def test_one_hot_vectors():
    vectors = one_hot(np.array([[2, 0], [1, 2]]), 3)
    assert vectors.tolist() == [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]]


def test_a_question_at_the_end():
    batch = ask_at_end(np.ones((4, 2, 3), np.float32), np.array([5, 6]))
    assert batch.targets.tolist() == [[0, 0]] * 3 + [[5, 6]]
    assert batch.is_counted.tolist() == [[False, False]] * 3 + [[True, True]]
    assert batch.lengths.tolist() == [4, 4]
