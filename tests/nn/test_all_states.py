"""What are the states of every step? Those a shorter call would end in."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same

T, B, I, H = 6, 3, 2, 4
LENGTHS = [4, 0, 6]
NAMES = ["lstm", "gru", "rnn", "delayed_lstm", "emitting", "clockwork"]


def made(name, **options):
    return tt.Recurrent(CELLS[name], I, H, dtype=torch.float64, **options)


def listed(hx):
    return hx if isinstance(hx, tuple) else (hx,)


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_the_last_one_of_a_shorter_call(name):
    layer, x = made(name), torch.randn(T, B, I).double()
    reset = torch.rand(T, B) < 0.3
    _, _, [every] = layer(x, reset=reset, return_all_states=True)
    for t in range(T):
        last = [h.unbind(0)[-1] for h in listed(layer(x[: t + 1], reset=reset[: t + 1])[1])]
        newest = [h[-1] if h.dim() == 3 else h for h in last]
        assert_same([state[t] for state in every], newest)


@pytest.mark.parametrize("name", NAMES)
def test_in_reverse_it_is_the_last_one_of_a_later_start(name):
    layer, x = made(name, bidirectional=True), torch.randn(T, B, I).double()
    _, _, [_, every] = layer(x, return_all_states=True)
    for t in range(T):
        last = [h.select(-3, 1) for h in listed(layer(x[t:])[1])]
        assert_same([state[t] for state in every], [h[-1] if h.dim() == 3 else h for h in last])


@pytest.mark.parametrize("name", NAMES)
def test_they_change_no_other_number_and_end_with_the_row(name):
    layer, x = made(name, num_layers=2), torch.randn(T, B, I).double()
    output, last, every = layer(x, lengths=LENGTHS, return_all_states=True)
    assert_same([output, last], layer(x, lengths=LENGTHS))
    assert len(every) == 2
    for states in every:
        for state in states:
            assert state.shape == (T, B, H)
            assert state[4:, 0].eq(0).all()
            assert state[:, 1].eq(0).all()


def test_gradients_flow_through_them():
    layer, x = made("gru"), torch.randn(T, B, I).double().requires_grad_()
    output, _, [(h,)] = layer(x, lengths=LENGTHS, return_all_states=True)
    leaves = [x, *layer.parameters()]
    found = torch.autograd.grad(h.sin().sum(), leaves, retain_graph=True)
    assert_same(found, torch.autograd.grad(output.sin().sum(), leaves))


def test_the_state_of_an_emitting_cell_is_not_its_output():
    layer, x = made("emitting"), torch.randn(T, B, I).double()
    output, h, [(every,)] = layer(x, return_all_states=True)
    assert output.shape[-1] == 2 + 2 * H
    assert_same(every[-1], h[0])
    assert_same(every, output[..., -H:])


def test_they_lie_as_the_input_does():
    layer = made("lstm", batch_first=True, bidirectional=True)
    x = torch.randn(B, T, I).double()
    output, _, every = layer(x, return_all_states=True)
    assert [s.shape for states in every for s in states] == [(B, T, H)] * 4
    assert torch.equal(torch.cat([every[0][0], every[1][0]], -1), output)
    alone, _, unbatched = layer(x[0], return_all_states=True)
    assert [s.shape for states in unbatched for s in states] == [(T, H)] * 4
    assert_same(alone, output[0])
