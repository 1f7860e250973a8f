"""Is a packed batch the same batch? In, out, order, and back."""

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same
from throughtime.errors import ConfigError

T, B, I, H = 6, 4, 3, 5
SHUFFLED, SORTED = [4, 6, 1, 5], [6, 5, 4, 1]
NAMES = ["lstm", "gru", "delayed_lstm", "emitting"]


def made(name, **options):
    return tt.Recurrent(CELLS[name], I, H, 2, bidirectional=True, dtype=torch.float64, **options)


@pytest.mark.parametrize("lengths", [SHUFFLED, SORTED], ids=["shuffled", "sorted"])
@pytest.mark.parametrize("name", NAMES)
def test_a_packed_batch_equals_one_with_lengths(name, lengths):
    layer, x = made(name), torch.randn(T, B, I).double().requires_grad_()
    packed = pack_padded_sequence(x, lengths, enforce_sorted=lengths is SORTED)
    got, last = layer(packed)
    assert isinstance(got, PackedSequence)
    output, got_lengths = pad_packed_sequence(got)
    want, wanted_last = layer(x, lengths=lengths)
    assert got_lengths.tolist() == lengths
    assert_same([output, last], [want, wanted_last])
    leaves = [x, *layer.parameters()]
    found = torch.autograd.grad(got.data.sin().sum(), leaves)
    assert_same(found, torch.autograd.grad(want.sin().sum(), leaves))


@pytest.mark.parametrize("lengths", [SHUFFLED, SORTED], ids=["shuffled", "sorted"])
def test_a_packed_batch_goes_through_as_in_torch(lengths):
    torch.manual_seed(0)
    ours, theirs = (kind(I, H, 2, bidirectional=True).double() for kind in (tt.LSTM, torch.nn.LSTM))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(T, B, I).double()
    hx = tuple(torch.randn(4, B, H).double() for _ in "hc")
    packed = pack_padded_sequence(x, lengths, enforce_sorted=lengths is SORTED)
    got, last = ours(packed, hx)
    want, wanted_last = theirs(packed, hx)
    assert_same([got.data, last], [want.data, wanted_last])
    assert torch.equal(got.batch_sizes, want.batch_sizes)
    for order in ("sorted_indices", "unsorted_indices"):
        a, b = getattr(got, order), getattr(want, order)
        assert a is b is None or torch.equal(a, b)


def test_batch_first_does_not_matter_to_a_packed_batch():
    layer, x = made("gru"), torch.randn(T, B, I).double()
    packed = pack_padded_sequence(x, SHUFFLED, enforce_sorted=False)
    other = made("gru", batch_first=True)
    other.load_state_dict(layer.state_dict())
    assert_same(other(packed)[0].data, layer(packed)[0].data)


def test_every_state_comes_with_a_packed_batch():
    layer, x = made("lstm"), torch.randn(T, B, I).double()
    packed = pack_padded_sequence(x, SHUFFLED, enforce_sorted=False)
    _, _, every = layer(packed, return_all_states=True)
    assert_same(every, layer(x, lengths=SHUFFLED, return_all_states=True)[2])


def test_lengths_beside_a_packed_batch_are_refused():
    packed = pack_padded_sequence(torch.randn(T, B, I).double(), SORTED)
    with pytest.raises(ConfigError, match="lengths came with a PackedSequence"):
        made("gru")(packed, lengths=SORTED)


def test_a_batch_that_torch_packs_wrongly_is_refused_or_right():
    # lengths [5, 1] for three steps: torch packs them without a word
    packed = pack_padded_sequence(torch.randn(3, 2, I).double(), [5, 1])
    with pytest.raises((RuntimeError, ValueError)):
        made("gru")(packed)
