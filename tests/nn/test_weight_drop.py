"""Does weight drop zero elements of recurrent matrices, and leave the parameters parameters?"""

import copy
import pickle

import pytest
import torch
from nested import assert_same
from torch.func import functional_call

import throughtime as tt
from throughtime.errors import ConfigError

T, B, I, H = 6, 4, 3, 5
DOUBLE = {"dtype": torch.float64}


def data():
    return torch.randn(T, B, I, dtype=torch.float64)


@tt.cell("h")
def sums(x, h):
    return tt.affine("a", x, h, bias=False)


def test_a_mask_holds_for_all_steps_and_is_scaled():
    """From h_0 = I and no input, h_1 is U' transposed, h_2 that of U' U', and so on."""
    layer = tt.Recurrent(sums, I, 40, weight_drop=0.25)
    torch.nn.init.constant_(layer.weight_hh_l0, 0.01)
    _, _, [(h,)] = layer(torch.zeros(3, 40, I), torch.eye(40)[None], return_all_states=True)
    drawn = h[0].T  # row b of the batch read column b
    assert drawn.unique().tolist() == pytest.approx([0.0, 0.01 / 0.75])
    assert 0.15 < (drawn == 0).float().mean() < 0.35
    assert torch.allclose(h[1].T, drawn @ drawn)
    assert torch.allclose(h[2].T, drawn @ drawn @ drawn, rtol=1e-4)


@pytest.mark.parametrize("engine", ["vendor", "llvm", "reference"])
@pytest.mark.parametrize("kind", [tt.RNN, tt.LSTM, tt.GRU])
def test_every_engine_sees_the_mask(kind, engine):
    """What is dropped is the recurrent weights: the rest of the layer is as it was."""
    layer = kind(I, H, 2, bidirectional=True, weight_drop=0.5, engine=engine, **DOUBLE)
    x = data()
    torch.manual_seed(3)
    got = layer(x)
    torch.manual_seed(3)
    weights = {
        name: torch.nn.functional.dropout(w, 0.5) if "weight_hh" in name else w
        for name, w in layer.named_parameters()
    }
    assert_same(got, functional_call(layer.eval(), weights, (x,)))
    assert not torch.allclose(got[0], layer(x)[0])


@pytest.mark.parametrize("engine", ["vendor", "llvm", "reference"])
def test_gradients_reach_the_stored_weight_where_it_was_used(engine):
    layer = tt.LSTM(I, H, weight_drop=0.5, engine=engine, **DOUBLE)
    layer(data())[0].square().sum().backward()
    idle = layer.weight_hh_l0.grad == 0
    assert 0.3 < idle.double().mean() < 0.7
    assert layer.weight_ih_l0.grad.abs().min() > 0


def test_an_update_changes_the_next_call():
    """In other libraries the layer kept computing with a copy of the weight."""
    layer, x = tt.LSTM(I, H, weight_drop=0.5, **DOUBLE), data()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    before = layer.eval()(x)[0]
    layer.train()(x)[0].square().sum().backward()
    stored = layer.weight_hh_l0.detach().clone()
    optimiser.step()
    assert not torch.equal(layer.weight_hh_l0, stored)
    assert not torch.allclose(layer.eval()(x)[0], before)


def test_parameters_and_state_dict_are_those_of_a_plain_layer():
    dropping, plain = tt.LSTM(I, H, 2, weight_drop=0.5), tt.LSTM(I, H, 2)
    assert list(dropping.state_dict()) == list(plain.state_dict())
    stored = {k: v.clone() for k, v in dropping.state_dict().items()}
    dropping(torch.randn(T, B, I))[0].sum().backward()
    assert all(torch.equal(v, stored[k]) for k, v in dropping.state_dict().items())
    assert [n for n, _ in dropping.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert all(p.grad is not None for p in dropping.parameters())
    torch.nn.LSTM(I, H, 2).load_state_dict(dropping.state_dict())


def test_eval_mode_is_the_plain_layer():
    layer, x = tt.GRU(I, H, weight_drop=0.9, **DOUBLE), data()
    plain = tt.GRU(I, H, **DOUBLE)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x)[0], plain(x)[0])


def test_a_call_draws_anew_and_the_generator_decides():
    layer, x = tt.RNN(I, H, weight_drop=0.5), torch.randn(T, B, I)
    torch.manual_seed(0)
    first, second = layer(x)[0], layer(x)[0]
    torch.manual_seed(0)
    assert torch.equal(layer(x)[0], first)
    assert not torch.equal(first, second)


def test_all_recurrent_matrices_are_dropped_and_no_other():
    cell = tt.skip(tt.cells.rnn_deep_transition(), [3])
    layer = tt.Recurrent(cell, I, H, weight_drop=1.0, **DOUBLE)
    layer(data())[0].sum().backward()
    for name, weight in layer.named_parameters():
        assert (weight.grad.abs().max() == 0) == name.startswith("weight_hh"), name


def test_it_acts_within_the_masks_of_a_cure():
    layer = tt.Recurrent(tt.clockwork(tt.cells.rnn, [1, 2]), I, 6, weight_drop=0.5, **DOUBLE)
    layer(data())[0].sum().backward()
    assert layer.weight_hh_l0.grad[3:, :3].abs().max() == 0
    assert (layer.weight_hh_l0.grad[:3] != 0).any()


def test_compiled():
    layer = tt.LSTM(I, H, weight_drop=0.5)
    x = torch.randn(T, B, I)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    first, second = compiled(x)[0], compiled(x)[0]
    assert not torch.equal(first, second)
    first.sum().backward()
    assert 0.2 < (layer.weight_hh_l0.grad == 0).float().mean() < 0.8
    layer.eval()
    assert torch.allclose(compiled(x)[0], layer(x)[0], atol=1e-6)


def test_copies_and_text():
    layer = tt.LSTM(I, H, weight_drop=0.5)
    assert "weight_drop=0.5" in repr(layer)
    assert "weight_drop" not in repr(tt.LSTM(I, H))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = torch.randn(T, B, I)
        assert not torch.equal(twin(x)[0], twin(x)[0])
        twin(x)[0].sum().backward()
        assert twin.weight_hh_l0.grad is not None
    assert layer.weight_hh_l0.grad is None


@pytest.mark.parametrize("value", [-0.1, 1.5, "half", None, True, float("nan")])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ConfigError, match=r"weight_drop=.*; expected a probability, a number in"):
        tt.RNN(I, H, weight_drop=value)


def test_a_cell_without_recurrent_matrices_is_refused():
    with pytest.raises(ConfigError, match=r"weight_drop=0.5 acts on recurrent .*mingru has none"):
        tt.Recurrent(tt.cells.mingru, I, H, weight_drop=0.5)
