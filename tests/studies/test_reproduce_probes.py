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
    """Answers the same symbol at every step."""

    device = torch.device("cpu")

    def __init__(self, symbol):
        super().__init__()
        self.place = ProgramEvaluation.symbols.index(symbol)

    def forward(self, inputs, *, lengths=None):
        found = torch.zeros(inputs.shape)
        found[..., self.place] = 1.0
        return found, None


def test_each_number_of_operations_and_digits_is_told():
    found = program_accuracy(Answering("\n"), ProgramEvaluation(length=2, nesting=2))
    assert set(found) == {
        "percent_right", "percent_right_1_1", "percent_right_1_2", "percent_right_2_1",
        "percent_right_2_2",
    }  # fmt: skip
    assert found["percent_right"] == 0.0  # a line's end is in no answer


def test_the_share_of_right_characters_is_counted_over_all_answers():
    task = ProgramEvaluation(length=2, nesting=1)
    found = program_accuracy(Answering("."), task)
    for digits in (1, 2):
        batches = list(ProgramEvaluation(length=digits, nesting=1).held_out("test"))
        counted = sum(int(b.is_counted.sum()) for b in batches)
        rows = sum(len(b.lengths) for b in batches)  # each answer ends in one full stop
        assert found[f"percent_right_1_{digits}"] == pytest.approx(100 * rows / counted)
    assert found["percent_right_1_2"] < found["percent_right_1_1"]
    both = (found["percent_right_1_1"] + found["percent_right_1_2"]) / 2
    assert found["percent_right"] == pytest.approx(both)
