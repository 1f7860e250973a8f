"""What `tt.diagnose` gives, what it leaves as it was, and what it refuses in one line."""

import json
import math

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.errors import ConfigError, DataError, ShapeError
from throughtime.records.diagnosis import CODES, diagnosis_from


class Loop(nn.Module):
    """A cell in the user's own loop."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state, out = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            out.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(out), state


def at_the_end(model, x):
    return model(x)[0][-1].square().mean()


def everywhere(model, x):
    return model(x)[0].square().mean()


MODELS = {
    "nn.RNN": lambda: nn.RNN(3, 6),
    "nn.GRU stacked": lambda: nn.GRU(3, 6, num_layers=2),
    "nn.LSTM bidirectional": lambda: nn.LSTM(3, 6, bidirectional=True),
    "nn.LSTM projected": lambda: nn.LSTM(3, 6, proj_size=4),
    "nn.LSTMCell": lambda: Loop(nn.LSTMCell(3, 6)),
    "tt.GRUCell": lambda: Loop(tt.GRUCell(3, 6)),
    "tt.LSTM": lambda: tt.LSTM(3, 6),
    "tt.Recurrent": lambda: tt.Recurrent(tt.skip(tt.cells.CATALOGUE["gru"], [4]), 3, 6),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own, of oneDNN
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", [at_the_end, everywhere], ids=["at the end", "everywhere"])
def test_every_kind_of_model_is_diagnosed(name, loss):
    found = tt.diagnose(MODELS[name](), torch.randn(17, 5, 3), loss, rows=3)
    assert found.findings[0].code in CODES
    for layer in found.layers:
        assert (layer.steps, layer.rows) == (17, 3)
        # The reverse direction has only begun at the last step, where that loss asks.
        is_begun = loss is at_the_end and layer.name.endswith("reverse")
        assert len(layer.error_by_lag) == (1 if is_begun else 17)
        assert layer.replay_error <= 1e-6
        assert layer.error_by_lag[0] > 0.0
    assert found.record.context.steps == [1, 2, 4, 8, 16, 17]
    assert found.record.context.loss[-1] == pytest.approx(found.record.loss)


def test_a_cell_in_a_loop_is_the_layer():
    torch.manual_seed(3)
    layer = nn.LSTM(3, 6)
    cell = nn.LSTMCell(3, 6)
    cell.load_state_dict({n.removesuffix("_l0"): w for n, w in layer.state_dict().items()})
    x = torch.randn(17, 4, 3)
    a, b = (tt.diagnose(m, x, everywhere) for m in (layer, Loop(cell)))
    assert a.layers[0].error_by_lag == pytest.approx(b.layers[0].error_by_lag, rel=1e-4)
    assert a.layers[0].lyapunov == pytest.approx(b.layers[0].lyapunov, abs=1e-4)
    assert a.record.context.loss == pytest.approx(b.record.context.loss, rel=1e-5)


def test_the_error_by_lag_is_what_backpropagation_uses():
    torch.manual_seed(4)
    cell, x = nn.LSTMCell(3, 6).double(), torch.randn(12, 1, 3, dtype=torch.float64)
    state, states = None, []
    for x_t in x:
        state = cell(x_t, state)
        state = tuple(s.clone() for s in state)  # h and c apart: each with the other held fixed
        for s in state:
            s.retain_grad()
        states.append(state)
    states[-1][0].square().mean().backward()
    truth = [math.hypot(*(float(s.grad.norm()) for s in pair)) for pair in states[-2::-1]]
    found = tt.diagnose(Loop(cell), x, at_the_end).layers[0].error_by_lag
    assert found[1:] == pytest.approx(truth, rel=1e-9)


def test_a_plain_step_is_a_model():
    weight = (torch.eye(4) * 0.9).requires_grad_()

    def step(x, h):
        return x + h @ weight.T

    def loss(model, xs):
        h = torch.zeros(5, 4)
        for x in xs:
            h = model(x, h)
        return h.sum()

    layer = tt.diagnose(step, torch.randn(20, 5, 4), loss).layers[0]
    assert layer.lyapunov == pytest.approx([math.log(0.9)] * 4, abs=1e-5)
    assert layer.error_by_lag[10] / layer.error_by_lag[0] == pytest.approx(0.9**10, rel=1e-5)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(5), nn.LSTM(3, 6, num_layers=2, dropout=0.3)).train()
    weights = {n: w.clone() for n, w in model.state_dict().items()}
    found = tt.diagnose(model, torch.randn(17, 5, 3), lambda m, x: m(x)[0].square().mean())
    assert found.record.mode == "train"
    assert model.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    assert all(p.grad is None for p in model.parameters())
    assert not model[1]._forward_hooks


def test_the_generator_is_left_as_it_was():
    model = nn.LSTM(3, 6, num_layers=2, dropout=0.3)
    x = torch.randn(17, 5, 3)
    before = torch.get_rng_state()
    tt.diagnose(model, x, everywhere)
    assert torch.equal(torch.get_rng_state(), before)


def test_json_comes_back_as_the_record():
    found = tt.diagnose(nn.GRU(3, 6), torch.randn(17, 5, 3), everywhere, needs_lag=9)
    again = diagnosis_from(json.loads(found.to_json()))
    assert again.as_json() == found.record.as_json()
    layer = json.loads(found.to_json())["layers"][0]
    names = "name kind replay_error horizon_steps lyapunov error_by_lag bound_by_lag"
    assert layer.keys() >= set(names.split())
    finding = json.loads(found.to_json())["findings"][0]
    assert finding.keys() >= {"code", "layer", "value", "threshold", "cure", "falsify"}


def test_what_is_not_known_is_not_examined():
    torch.manual_seed(0)
    model, x = nn.RNN(3, 6), torch.randn(30, 5, 3)
    found = tt.diagnose(model, x, everywhere)
    assert {"truncated", "state_not_carried", "clipped_always"} <= found.record.not_examined.keys()
    training = tt.Training(window_steps=8, state_carried=False)
    found = tt.diagnose(model, x, everywhere, training=training, needs_lag=20)
    assert found.findings[0].code == "state_not_carried"
    assert "state_not_carried" not in found.record.not_examined


def test_the_needed_lag_decides_what_is_vanishing():
    torch.manual_seed(0)
    model, x = nn.RNN(3, 16), torch.randn(60, 5, 3)
    found = tt.diagnose(model, x, at_the_end, needs_lag=50)
    assert found.findings[0].code == "vanishing"
    assert found.findings[0].value < found.findings[0].threshold == 50
    short = tt.diagnose(model, x, at_the_end, needs_lag=2)
    assert "vanishing" not in [f.code for f in short.findings]


def test_another_model_is_diagnosed_again():
    torch.manual_seed(0)
    x = torch.randn(40, 5, 3)
    found = tt.diagnose(nn.RNN(3, 16), x, at_the_end, needs_lag=30)
    again = found.again(nn.LSTM(3, 16))
    assert again.layers[0].kind == "nn.LSTM"
    assert again.record.needs_lag == found.record.needs_lag


# --- What cannot be diagnosed -----------------------------------------------------------------


def refused(error, model, batch, loss, **options):
    with pytest.raises(error) as caught:
        tt.diagnose(model, batch, loss, **options)
    return str(caught.value)


X = torch.randn(9, 4, 3)


def test_a_model_without_recurrence():
    message = refused(ConfigError, nn.Linear(3, 2), X, lambda m, x: m(x).sum())
    assert "no recurrent layer" in message
    assert "nn.LSTM" in message


def test_a_batch_that_does_not_fit():
    message = refused(ConfigError, nn.LSTM(5, 6), X, everywhere)
    assert "input" in message
    assert "batch must fit" in message


def test_a_loss_that_is_no_scalar():
    assert "[4, 6]" in refused(ShapeError, nn.LSTM(3, 6), X, lambda m, x: m(x)[0][-1])
    assert "float" in refused(ShapeError, nn.LSTM(3, 6), X, lambda m, x: m(x)[0].sum().item())


def test_a_loss_without_a_graph():
    message = refused(ConfigError, nn.LSTM(3, 6), X, lambda m, x: m(x)[0].sum().detach())
    assert "graph" in message


def test_nan_in_the_weights():
    model = nn.Sequential(nn.LSTM(3, 6))
    model[0].weight_hh_l0.data[2, 1] = math.nan
    message = refused(DataError, model, X, lambda m, x: m(x)[0].sum())
    assert "0.weight_hh_l0" in message
    assert "1 value" in message


def test_a_loss_that_is_not_deterministic():
    calls = iter(range(100))
    message = refused(
        ConfigError, nn.LSTM(3, 6), X, lambda m, x: everywhere(m, x) * (1 + next(calls))
    )
    assert "not deterministic" in message


def test_dropout_is_deterministic_enough():
    model = nn.LSTM(3, 6, num_layers=2, dropout=0.5).train()
    assert tt.diagnose(model, X, everywhere).record.mode == "train"


@pytest.mark.parametrize("options", [{"rows": 0}, {"needs_lag": 0}, {"exponents": "some"}])
def test_numbers_without_a_meaning(options):
    name = next(iter(options))
    assert name in refused(ConfigError, nn.LSTM(3, 6), X, everywhere, **options)


def test_a_training_that_is_none():
    assert "Training" in refused(ConfigError, nn.LSTM(3, 6), X, everywhere, training=3)
    with pytest.raises(ConfigError, match="state_carried"):
        tt.Training(window_steps=8)
    with pytest.raises(ConfigError, match="window_steps"):
        tt.Training(window_steps=0, state_carried=True)


def test_infinite_inputs_are_a_finding_not_a_fault():
    x = X.clone()
    x[3, 0, 0] = math.nan
    found = tt.diagnose(nn.LSTM(3, 6), x, everywhere)
    assert found.findings[0].code == "non_finite"
    json.loads(found.to_json())
