"""Do weights travel? In state dicts, between our layers and torch's, under stable names."""

import pytest
import safetensors.torch
import torch

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same

T, B, I, H = 5, 3, 3, 6
X = torch.randn(T, B, I, generator=torch.Generator().manual_seed(0))
KINDS = {
    "LSTM": (tt.LSTM, torch.nn.LSTM, {}),
    "LSTM with projection": (tt.LSTM, torch.nn.LSTM, {"proj_size": 2}),
    "GRU": (tt.GRU, torch.nn.GRU, {}),
    "RNN": (tt.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "GRU without bias": (tt.GRU, torch.nn.GRU, {"bias": False}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_they_load_from_torch_and_back(kind):
    ours, theirs, options = KINDS[kind]
    options = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64, **options}
    a, b = ours(I, H, **options), theirs(I, H, **options)
    assert list(a.state_dict()) == list(b.state_dict())
    a.load_state_dict(b.state_dict())
    assert_same(a(X.double()), b(X.double()))
    c = ours(I, H, **options)
    b.load_state_dict(c.state_dict())
    assert_same(b(X.double()), c(X.double()))


@pytest.mark.parametrize("name", ["lstm", "bounded", "delayed_lstm", "emitting", "gated_feedback"])
def test_a_layer_is_all_in_its_state_dict(name, tmp_path):
    options = {"num_layers": 2, "bidirectional": True, "learn_initial_state": True}
    a, b = (tt.Recurrent(CELLS[name], I, H, **options) for _ in range(2))
    assert not torch.equal(a(X)[0], b(X)[0])
    safetensors.torch.save_file(a.state_dict(), tmp_path / "weights.safetensors")
    b.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(a(X)[0], b(X)[0])


def test_names_of_a_cell_with_delays_and_emit():
    layer = tt.Recurrent(CELLS["delayed_lstm"], I, H)
    found = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert found == {
        "weight_ih_l0": (4 * H, I),
        "weight_hh_l0": (4 * H, H),
        "weight_hh_2_l0": (4 * H, H),
        "bias_l0": (4 * H,),
    }
    emitting = tt.Recurrent(CELLS["emitting"], I, H, bidirectional=True)
    assert {n for n, _ in emitting.named_parameters() if "weight_" in n and "_ih" not in n} == {
        f"{name}_l0{suffix}"
        for name in ("weight_hh", "weight_y", "weight_y_2", "weight_z")
        for suffix in ("", "_reverse")
    }


def test_a_missing_or_strange_name_is_refused():
    layer = tt.LSTM(I, H)
    state = layer.state_dict()
    state["weight_ho_l0"] = state.pop("weight_hh_l0")
    with pytest.raises(RuntimeError, match=r"weight_hh_l0(.|\n)*weight_ho_l0"):
        layer.load_state_dict(state)


def test_assigned_tensors_are_used():
    layer, other = tt.LSTM(I, H), tt.LSTM(I, H)
    layer.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(layer(X)[0], other(X)[0])


def test_a_layer_made_on_the_meta_device_comes_to_life():
    layer, other = tt.GRU(I, H, device="meta"), tt.GRU(I, H)
    layer.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(layer(X)[0], other(X)[0])
    empty = tt.GRU(I, H, device="meta").to_empty(device="cpu")
    empty.reset_parameters()
    assert empty(X)[0].isfinite().all()
