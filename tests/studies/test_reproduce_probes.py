"""Do the probes count what they say, on models whose answers are known?"""

import gzip

import pytest
import torch
from torch import nn

from throughtime.errors import DataError
from throughtime.studies.reproduce.agreement_probe import Item, agreement, read_items
from throughtime.studies.reproduce.programs_probe import program_accuracy
from throughtime.tasks.programs import ProgramEvaluation
from throughtime.tasks.vocabulary import build_vocabulary
from throughtime.train.saved import Writer

WORDS = "the dog dogs barks bark near old"


class Liking(nn.Module):
    """Finds one word more probable than all others, and remembers what it has read."""

    def __init__(self, size, liked):
        super().__init__()
        self.size, self.liked, self.read = size, liked, []

    def forward(self, tokens):
        self.read.append(tokens[:, 0].tolist())
        found = torch.zeros(*tokens.shape, self.size)
        found[..., self.liked] = 1.0
        return found, None


def writer(liked):
    vocabulary = build_vocabulary(WORDS + "\n", "word")
    place = vocabulary.encode(liked)[0]
    return Writer(Liking(vocabulary.size, int(place)), vocabulary)


ITEMS = [
    Item(("the", "dog"), "barks", "bark", 0),
    Item(("the", "dogs"), "bark", "barks", 0),
    Item(("the", "dog", "near", "dogs"), "barks", "bark", 1),
    Item(("the", "cat"), "barks", "bark", 1),
    Item(("the", "dog"), "barks", "meow", 2),
]


def test_items_are_judged_by_the_form_that_is_more_probable():
    found = agreement(writer("barks"), iter(ITEMS))
    assert found == {
        "percent_right_0": 50.0,
        "percent_right_1": 100.0,  # that with a cat is left out
        "percent_right": pytest.approx(200 / 3),
        "items": 3,
    }


def test_the_words_before_the_verb_are_read_after_an_end_of_sentence():
    model = writer("barks")
    agreement(model, iter(ITEMS[2:3]))
    decoded = model.vocabulary.decode(model.model.read[0])
    assert decoded.split() == ["the", "dog", "near", "dogs"]
    assert len(model.model.read[0]) == 5


def test_no_known_item_is_an_error():
    with pytest.raises(DataError, match="known words"):
        agreement(writer("barks"), iter(ITEMS[3:]))


def pack(folder, text, gold):
    (folder / "subj_agr_filtered.text.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "subj_agr_filtered.gold.gz").write_bytes(gzip.compress(gold.encode()))


def test_items_are_read_from_their_files(tmp_path):
    pack(
        tmp_path,
        "The dog near dogs Barks . <eos>\nDogs bark\n",
        "4\tBarks\tbark\t1\n1\tbark\tbarks\t0\n",
    )
    assert list(read_items(tmp_path)) == [
        Item(("the", "dog", "near", "dogs"), "barks", "bark", 1),
        Item(("dogs",), "bark", "barks", 0),
    ]


@pytest.mark.parametrize("gold", ["4\tbarks\tbark\n", "x\tbarks\tbark\t0\n", ""])
def test_files_that_do_not_fit_are_refused(tmp_path, gold):
    pack(tmp_path, "the dog barks\n", gold)
    with pytest.raises(DataError, match="Give the folder of both"):
        list(read_items(tmp_path))
    with pytest.raises(DataError, match="Give the folder of both"):
        list(read_items(tmp_path / "nowhere"))


class Answering(nn.Module):
    """Answers the character that is given, or every program right by looking it up."""

    device = torch.device("cpu")

    def __init__(self, answers=None):
        super().__init__()
        self.answers = answers or {}

    def forward(self, inputs, *, lengths=None):
        found = torch.zeros(inputs.shape)
        found[..., 0] = 1.0
        right = self.answers.get(tuple(inputs.shape[:2]))
        return (found if right is None else right), None


def test_no_answer_is_right_and_every_answer_is():
    task = ProgramEvaluation(length=2, nesting=2)
    none = program_accuracy(Answering(), task)
    assert set(none) == {
        "percent_right", "percent_right_1_1", "percent_right_1_2", "percent_right_2_1",
        "percent_right_2_2",
    }  # fmt: skip
    assert none["percent_right"] == 0.0  # the first symbol, a line's end, is no answer


def test_the_share_of_right_characters_is_counted_over_all_answers(monkeypatch):
    task = ProgramEvaluation(length=1, nesting=1)
    batches = list(task.held_out("test"))
    counted = sum(int(b.is_counted.sum()) for b in batches)
    stops = sum(int((b.targets[b.is_counted] == task.symbols.index(".")).sum()) for b in batches)

    class Stopping(Answering):
        def forward(self, inputs, *, lengths=None):
            found = torch.zeros(inputs.shape)
            found[..., task.symbols.index(".")] = 1.0
            return found, None

    found = program_accuracy(Stopping(), task)
    assert found["percent_right_1_1"] == pytest.approx(100 * stops / counted)
    assert 10 < found["percent_right_1_1"] < 60
