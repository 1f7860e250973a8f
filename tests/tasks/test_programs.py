"""Does Python print what the task says that a program prints?"""

import contextlib
import io
import math
import re
from collections import Counter

import numpy as np
import pytest

from tasks.judging import symbols
from throughtime.errors import ConfigError
from throughtime.tasks.programs import ProgramEvaluation, write_program

SIZES = [(1, 1), (2, 3), (4, 3), (6, 5), (15, 10)]


def printed(text):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(text, {})
    return out.getvalue()


@pytest.mark.parametrize(("digits", "nesting"), SIZES)
def test_python_prints_the_answer(digits, nesting):
    rng = np.random.default_rng(0)
    for _ in range(150):
        program = write_program(rng, digits, nesting)
        assert printed(program.text) == f"{program.value}\n"
        assert program.answer == f"{program.value}."


@pytest.mark.parametrize(("digits", "nesting"), SIZES)
def test_programs_are_as_hard_as_told(digits, nesting):
    rng = np.random.default_rng(1)
    seen, numbers, small = Counter(), [], []
    for _ in range(300):
        text = write_program(rng, digits, nesting).text
        # Loops hide behind their += and -=, and a variable of its own ends its line after a number
        # or an expression; the sum or difference that reads it is part of the same operation.
        loops = len(re.findall(r"range\(", text))
        assigned = len(re.findall(r"^[a-j]=", text, re.MULTILINE)) - loops
        chosen, products = text.count(" if "), text.count("*")
        sums = len(re.findall(r"[+-](?!=)", text)) - assigned
        assert loops + assigned + chosen + products + sums == nesting
        assert sums >= 0
        seen.update(loops=loops, assigned=assigned, chosen=chosen, products=products, sums=sums)
        small += map(int, re.findall(r"range\((\d+)\)", text))
        without = re.sub(r"range\(\d+\)", "", text)
        numbers += map(int, re.findall(r"\d+", without))
    assert max(numbers) <= max(10**digits - 1, 4 * digits)
    assert min(numbers) >= 1
    assert set(small) == set(range(1, 4 * digits + 1))
    shares = np.array(list(seen.values())) / seen.total()
    np.testing.assert_allclose(shares, 0.2, atol=0.08)


def test_a_variable_is_assigned_once():
    rng = np.random.default_rng(2)
    for _ in range(100):
        assigned = re.findall(r"^([a-j])=", write_program(rng, 3, 10).text, re.MULTILINE)
        assert len(set(assigned)) == len(assigned)


def test_the_answer_is_read_one_character_behind():
    task = ProgramEvaluation(4, nesting=3)
    batch = task.batch(np.random.default_rng(0), 80)
    read = symbols(batch)
    for row, steps in enumerate(batch.lengths):
        text = task.text(batch, row)
        program, answer = text.rsplit("\n", 1)
        assert printed(program + "\n") == answer.removesuffix(".") + "\n"
        assert "".join(task.symbols[i] for i in read[:steps, row]) == text[:-1]
        asked = np.flatnonzero(batch.is_counted[:, row])
        assert asked.tolist() == list(range(len(program), steps))
        assert "".join(task.symbols[i] for i in batch.targets[asked, row]) == answer
    assert len(set(batch.lengths.tolist())) > 10


def test_training_programs_are_easy_and_hard_held_out_ones_hard():
    task = ProgramEvaluation(3, nesting=4)

    def longest_numbers(batch):
        texts = [task.text(batch, row).rsplit("\n", 1)[0] for row in range(len(batch.lengths))]
        return [max(map(len, re.findall(r"\d+", text))) for text in texts]

    train = Counter(longest_numbers(task.batch(np.random.default_rng(0), 900)))
    held_out = Counter(longest_numbers(next(task.held_out("test"))))
    # A third of the programs has one digit, apart from factors and loops of up to 4 times as many.
    assert 0.2 < train[1] / train.total() < 0.4
    assert held_out[1] == 0
    assert held_out[3] / held_out.total() > 0.95
    lengths = task.batch(np.random.default_rng(0), 900).lengths
    assert lengths.mean() < 0.75 * next(task.held_out("test")).lengths.mean()


def test_the_baseline_is_the_entropy_given_the_character_before():
    task = ProgramEvaluation(2, nesting=1)
    pairs = Counter()
    for batch in task.held_out("test"):
        for row in range(len(batch.lengths)):
            answer = task.text(batch, row).rsplit("\n", 1)[1]
            pairs.update(zip("\n" + answer, answer, strict=False))
    before = Counter()
    for (a, _), count in pairs.items():
        before[a] += count
    nats = -sum(n * math.log(n / before[a]) for (a, _), n in pairs.items()) / pairs.total()
    assert task.baseline() == pytest.approx(nats, rel=1e-12)
    assert 1.5 < task.baseline() < math.log(12)


@pytest.mark.parametrize(("digits", "nesting"), SIZES)
def test_no_row_is_longer_than_told(digits, nesting):
    task = ProgramEvaluation(digits, nesting=nesting)
    longest = max(len(batch.inputs) for batch in task.held_out("valid"))
    assert 0.5 * task.most_steps < longest <= task.most_steps


def test_half_of_the_programs_are_longer_than_the_lag():
    task = ProgramEvaluation(5, nesting=2)
    lengths = [
        len(task.text(batch, row).rsplit("\n", 1)[0])
        for batch in task.held_out("valid")
        for row in range(len(batch.lengths))
    ]
    assert task.needs_lag == int(np.median(lengths))


@pytest.mark.parametrize(("length", "nesting"), [(16, 3), (4, 0), (4, 11)])
def test_programs_that_cannot_be_are_refused(length, nesting):
    message = f"length {length} and nesting {nesting}; expected 15 digits at most, and 1 to 10"
    with pytest.raises(ConfigError, match=message):
        ProgramEvaluation(length, nesting=nesting)
