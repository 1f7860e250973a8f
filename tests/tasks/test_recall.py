"""Is the answer exactly as far back as the dial says, and nowhere else?"""

import numpy as np
import pytest

from tasks.judging import entropy_given, symbols
from throughtime.tasks.recall import Recall

NAMES = {"Jane", "John", "Anna", "Lucy", "Mark", "Mary", "Paul", "Tom"}
NOTES = (
    "Jane walked into the room . John walked in too . It was late in the day . Jane said hi to John"
)


def stories(length, rows=300, seed=0):
    task = Recall(length)
    batch = task.batch(np.random.default_rng(seed), rows)
    return [task.text(batch, row).split() for row in range(rows)]


@pytest.mark.parametrize("length", [*range(5, 30), 50, 101])
def test_the_answer_is_named_exactly_so_far_back(length):
    for tokens in stories(length, 60):
        *told, answer = tokens
        last = len(told) - 1 - told[::-1].index(answer)
        assert len(told) - last == length
        assert told.count(answer) == 1


@pytest.mark.parametrize("length", [5, 6, 7, 8, 9, 10, 11, 12, 16, 50])
def test_two_people_walk_in_and_the_first_greets_the_other(length):
    for tokens in stories(length):
        first, second = tokens[0], tokens[6]
        assert tokens[1:6] == ["walked", "into", "the", "room", "."]
        assert {first, second} < NAMES
        assert tokens[-1] == second != first
        sentences = " ".join(tokens).split(" . ")
        assert sentences[1].removeprefix(second) in {" walked in too", " came too", " too"}
        greeting = sentences[-1].removeprefix(first).removesuffix(second)
        assert greeting in {" said hi to ", " waved to ", " greeted "}
        # Nobody is named in between.
        assert not NAMES & set(" ".join(sentences[2:-1]).split())


def test_the_notes_example_is_one_of_them_and_its_answer_is_john():
    found = {" ".join(story) for seed in range(10) for story in stories(16, 3_000, seed)}
    assert NOTES in found
    *told, answer = NOTES.split()
    assert answer == "John"
    assert [len(told) - i for i, word in enumerate(told) if word in NAMES] == [22, 16, 4]


def test_from_the_notes_length_on_the_wording_is_that_of_the_notes():
    for length in (9, *range(12, 40)):
        for tokens in stories(length, 3):
            assert tokens[7:11] == ["walked", "in", "too", "."]
            assert tokens[-4:-1] == ["said", "hi", "to"]


def test_who_knows_who_greets_knows_no_more_than_the_baseline():
    task, known, answers = Recall(16), [], []
    for batch in task.held_out("test"):
        known.append(symbols(batch)[-4])
        answers.append(batch.targets[-1])
    known, answers = np.concatenate(known), np.concatenate(answers)
    assert {task.words[i] for i in np.unique(answers)} == NAMES
    assert entropy_given(known, answers) == pytest.approx(task.baseline(), abs=0.005)
    assert task.baseline() == pytest.approx(1.9459, abs=5e-5)


def test_every_sentence_between_can_come():
    sentences = {s for story in stories(50, 2_000) for s in " ".join(story).split(" . ")[2:-1]}
    assert len(sentences) == 10
    assert {len(s.split()) + 1 for s in sentences} == {3, 4, 5, 6, 7, 8}


def test_it_is_asked_one_step_before_the_blank():
    task = Recall(20)
    batch = task.batch(np.random.default_rng(0), 4)
    read = symbols(batch)
    asked = np.flatnonzero(batch.is_counted[:, 0])
    assert asked.tolist() == [len(read) - 1]
    assert np.array_equal(read[asked[0] - task.needs_lag], batch.targets[-1])
