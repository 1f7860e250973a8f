"""Does the batch's place matter to the numbers? time first, batch first, no batch."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same

T, B, I, H = 6, 3, 2, 4
NAMES = ["lstm", "gru", "delayed_lstm", "projected"]


def twins(name):
    projection = 2 if name == "projected" else 0
    options = {"num_layers": 2, "proj_size": projection, "bidirectional": True}
    layer = tt.Recurrent(CELLS[name], I, H, dtype=torch.float64, **options)
    other = tt.Recurrent(CELLS[name], I, H, batch_first=True, dtype=torch.float64, **options)
    other.load_state_dict(layer.state_dict())
    return layer, other


def states(layer, x):
    with torch.no_grad():
        return layer(x)[1]


def without_rows(hx):
    return tuple(h.squeeze(-2) for h in hx) if isinstance(hx, tuple) else hx.squeeze(-2)


@pytest.mark.parametrize("name", NAMES)
def test_batch_first_turns_inputs_and_outputs_not_states(name):
    layer, other = twins(name)
    x, reset = torch.randn(T, B, I).double(), torch.rand(T, B) < 0.3
    hx = states(layer, x)
    want, last = layer(x, hx, lengths=[6, 0, 4], reset=reset)
    got, got_last = other(x.transpose(0, 1), hx, lengths=[6, 0, 4], reset=reset.T)
    assert_same([got, got_last], [want.transpose(0, 1), last])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_batch_it_is_a_batch_of_one(name, batch_first):
    layer = twins(name)[batch_first]
    x, reset = torch.randn(T, I).double(), torch.rand(T) < 0.3
    where = 0 if batch_first else 1
    batched = states(layer, x.unsqueeze(where))
    want, last = layer(x.unsqueeze(where), batched, reset=reset.unsqueeze(where))
    got, got_last = layer(x, without_rows(batched), reset=reset)
    assert_same([got, got_last], [want.squeeze(where), without_rows(last)])


@pytest.mark.parametrize("kind", [list, torch.tensor, lambda n: torch.tensor(n, dtype=torch.int32)])
def test_lengths_of_any_kind(kind):
    layer, _ = twins("gru")
    x = torch.randn(T, B, I).double()
    assert_same(layer(x, lengths=kind([6, 0, 4])), layer(x, lengths=[6, 0, 4]))


def test_full_lengths_are_no_lengths():
    layer, _ = twins("lstm")
    x = torch.randn(T, B, I).double()
    assert_same(layer(x, lengths=[T] * B), layer(x))


def test_the_order_of_rows_does_not_matter():
    layer, _ = twins("lstm")
    x, lengths = torch.randn(T, B, I).double(), torch.tensor([2, 6, 0])
    order = torch.tensor([2, 0, 1])
    want, (h, c) = layer(x, lengths=lengths)
    got, (got_h, got_c) = layer(x[:, order], lengths=lengths[order])
    assert_same([got, got_h, got_c], [want[:, order], h[:, order], c[:, order]])
