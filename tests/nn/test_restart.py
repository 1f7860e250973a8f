"""Do layers that exist start anew as those that are made with an initialiser?"""

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.errors import ConfigError
from throughtime.nn.restart import restart

THEIRS = {
    "rnn": (lambda: nn.RNN(3, 4, 2, bidirectional=True), tt.RNN),
    "relu": (lambda: nn.RNN(3, 4, nonlinearity="relu"), tt.RNN),
    "gru": (lambda: nn.GRU(3, 4, 2, batch_first=True), tt.GRU),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), tt.LSTM),
    "projection": (lambda: nn.LSTM(3, 4, proj_size=2), tt.LSTM),
    "float64": (lambda: nn.LSTM(3, 4, dtype=torch.float64), tt.LSTM),
    "rnn cell": (lambda: nn.RNNCell(3, 4), tt.RNNCell),
    "lstm cell": (lambda: nn.LSTMCell(3, 4), tt.LSTMCell),
    "gru cell": (lambda: nn.GRUCell(3, 4), tt.GRUCell),
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", THEIRS)
def test_orthogonal_replaces_the_recurrent_blocks_alone(name):
    layer = THEIRS[name][0]()
    before = copied(layer)
    restart(layer, "orthogonal")
    for key, value in layer.state_dict().items():
        if "weight_hh" not in key:
            assert torch.equal(value, before[key])
            continue
        for block in value.split(4):
            square = block.T @ block if block.shape[0] >= block.shape[1] else block @ block.T
            torch.testing.assert_close(square, torch.eye(len(square), dtype=square.dtype))


@pytest.mark.parametrize(("kind", "gate", "sign"), [(nn.LSTM, 1, 1), (nn.GRU, 1, 1)])
def test_chrono_sets_the_gates_of_torchs_layers(kind, gate, sign):
    layer = kind(3, 400)
    restart(nn.ModuleDict({"deep": nn.Sequential(layer)}), "chrono:50")
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0)[400 * gate : 400 * (gate + 1)] * sign
    kept = torch.sigmoid(bias.detach().double())
    steps = 1.0 / (1.0 - kept)
    assert 1.9 < steps.min() < 3.0
    assert 48.0 < steps.max() < 50.1
    assert abs(steps.mean() - 26.0) < 2.0


@pytest.mark.parametrize("kind", [tt.LSTM, nn.LSTM])
def test_the_draw_is_that_of_torchs_generator(kind):
    first, second = kind(3, 4), kind(3, 4)
    second.load_state_dict(first.state_dict())
    for layer in (first, second):
        torch.manual_seed(7)
        restart(layer, "orthogonal,chrono:9")
    assert same(copied(first), copied(second))
    before = torch.get_rng_state()
    restart(first, "forget:1")  # draws nothing
    assert torch.equal(torch.get_rng_state(), before)


def test_idle_elements_of_masked_matrices_stay_idle():
    layer = tt.Recurrent(tt.clockwork(tt.cells.rnn, periods=(1, 2)), 3, 4)
    idle = {name: value == 0 for name, value in layer.state_dict().items() if "weight" in name}
    assert any(bool(mask.any()) for mask in idle.values())
    restart(layer, "normal:1")
    for name, mask in idle.items():
        assert bool((layer.state_dict()[name][mask] == 0).all())


def test_the_names_of_all_layers_come_back():
    model = nn.ModuleDict({"a": nn.LSTM(3, 4), "b": nn.Sequential(tt.GRU(4, 4), nn.Linear(4, 2))})
    assert restart(model, "forget:1") == ["a", "b.0"]
    assert restart(nn.GRUCell(3, 4), "forget:1") == ["GRUCell"]


def test_what_cannot_be_started_is_refused():
    with pytest.raises(ConfigError, match="no recurrent layer"):
        restart(nn.Linear(3, 4), "orthogonal")
    with pytest.raises(ConfigError, match="no gate that keeps"):
        restart(nn.RNN(3, 4), "chrono:9")
