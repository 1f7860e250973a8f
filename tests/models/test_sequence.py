"""Does the model of a task answer at the steps where it is asked, and count nothing else?"""

import copy
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from throughtime.cells import CATALOGUE
from throughtime.errors import ConfigError, ShapeError
from throughtime.models import SequenceModel

T, B, I, O = 7, 4, 3, 5


def make(answer="class", cell="gru", **options):
    torch.manual_seed(0)
    return SequenceModel(CATALOGUE[cell], I, O, 6, answer=answer, **options).double()


def asked():
    torch.manual_seed(1)
    inputs = torch.randn(T, B, I, dtype=torch.float64)
    is_counted = torch.rand(T, B) < 0.4
    targets = {
        "class": torch.randint(O, (T, B)),
        "value": torch.randn(T, B, O, dtype=torch.float64),
        "keys": (torch.rand(T, B, O) < 0.3).double(),
    }
    return inputs, targets, is_counted


def by_hand(answer, output, target):
    if answer == "class":
        return -log_softmax(output, -1)[target]
    if answer == "value":
        return sum((output[o] - target[o]) ** 2 for o in range(O)) / O
    return binary_cross_entropy_with_logits(output, target, reduction="none").sum()


@pytest.mark.parametrize("answer", ["class", "value", "keys"])
def test_the_loss_is_that_of_the_counted_steps(answer):
    inputs, targets, is_counted = asked()
    model = make(answer)
    outputs, _ = model(inputs)
    want = [
        by_hand(answer, outputs[t, b], targets[answer][t, b])
        for t in range(T)
        for b in range(B)
        if is_counted[t, b]
    ]
    found = model.loss(inputs, targets[answer], is_counted)
    assert 3 < len(want) < T * B
    torch.testing.assert_close(found, torch.stack(want))


def test_keys_that_are_as_likely_as_not_cost_ln_2_each():
    model = make("keys")
    found = model.losses(torch.zeros(2, O), torch.tensor([[0.0] * O, [1.0] * O]))
    assert found.tolist() == pytest.approx([O * math.log(2)] * 2)


def test_lengths_keep_padding_out():
    inputs, targets, _ = asked()
    lengths = torch.tensor([7, 2, 0, 5])
    is_counted = torch.arange(T)[:, None] < lengths
    model = make(num_layers=2)
    want = model.loss(inputs, targets["class"], is_counted, lengths)
    padded = torch.where(is_counted[..., None], inputs, math.nan)
    assert torch.equal(model.loss(padded, targets["class"], is_counted, lengths), want)


def test_dropout_falls_in_training_alone():
    inputs, targets, is_counted = asked()
    model = make(dropout=0.5)
    losses = [model.loss(inputs, targets["class"], is_counted) for _ in range(2)]
    assert not torch.equal(*losses)
    model.eval()
    losses = [model.loss(inputs, targets["class"], is_counted) for _ in range(2)]
    assert torch.equal(*losses)


def test_the_state_is_carried():
    inputs, _, _ = asked()
    model = make(cell="lstm")
    whole, _ = model(inputs)
    first, hx = model(inputs[:3])
    second, _ = model(inputs[3:], hx)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_a_cell_that_emits_several_vectors_has_a_head_that_fits():
    model = copy.deepcopy(make(cell="lru"))
    assert model(asked()[0])[0].shape == (T, B, O)


def test_what_does_not_fit_is_refused():
    inputs, targets, is_counted = asked()
    with pytest.raises(
        ConfigError, match=r"answer is 'number'; expected one of class, value, keys"
    ):
        make("number")
    with pytest.raises(ShapeError, match=r"targets has shape \[6, 4\].*T, B = \[7, 4\]"):
        make().loss(inputs, targets["class"][1:], is_counted)
    with pytest.raises(ShapeError, match=r"is_counted has shape \[7, 3\]"):
        make().loss(inputs, targets["class"], is_counted[:, 1:])
