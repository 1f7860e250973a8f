"""Is what cannot be diagnosed refused in one line that says why?"""

import json

import numpy as np
import pytest
import torch
from test_diagnose import at_the_end, everywhere, refused
from torch import nn
from users_models import Step, Wrapped, X

import throughtime as tt
from throughtime.errors import ConfigError


def test_weights_that_are_not_there_yet():
    with torch.device("meta"):
        model = Wrapped(nn.GRU(3, 6))
    assert "rnn.weight_ih_l0 are on the meta device" in refused(ConfigError, model, X, everywhere)
    model = nn.Sequential(nn.GRU(3, 6), nn.LazyLinear(2))
    assert "1.weight have no shape yet" in refused(ConfigError, model, X, everywhere)


@pytest.mark.filterwarnings("ignore")  # torch would have us use other tools for all of these
def test_what_was_compiled_away_is_named():
    plain = Wrapped(nn.LSTM(3, 6)).eval()
    script = torch.jit.script(plain)
    traced = torch.jit.trace(plain, X, check_trace=False)
    exported = torch.export.export(plain, (X,)).module()
    quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.LSTM})
    for model, word in {
        script: "TorchScript",
        traced: "TorchScript",
        exported: "exported",
        quantised: "quantised",
    }.items():
        message = refused(ConfigError, model, X, everywhere)
        assert word in message, message
        assert "give the module it was made from" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_a_part_that_was_compiled_away_is_not_examined():
    with_both = nn.Sequential(nn.GRU(3, 3), quantised := nn.Module())
    quantised.inner = torch.jit.trace(nn.Linear(3, 3), X)
    found = tt.diagnose(with_both, X, lambda m, x: m[1].inner(m[0](x)[0]).sum())
    assert "TorchScript" in found.record.not_examined["1.inner"]


def test_a_layer_that_is_kept_in_a_list():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.LSTM(3, 6)]

        def forward(self, x):
            return self.layers[0](x)

    message = refused(ConfigError, Hidden(), X, everywhere)
    assert "nn.LSTM ran, but is no part of it" in message
    assert "ModuleList" in message


def test_a_step_written_out_in_a_loop():
    class WrittenOut(Step):
        def forward(self, xs):
            h = torch.zeros(5, 6)
            for x in xs:
                h = torch.tanh(self.on_x(x) + self.on_h(h))
            return h.unsqueeze(0), h

    assert "f(x_t, state)" in refused(ConfigError, WrittenOut(), X, at_the_end)


def test_a_batch_that_can_be_read_once():
    message = refused(ConfigError, nn.GRU(3, 6), iter([X]), lambda m, b: everywhere(m, next(b)))
    assert "next(batch)" in message


def test_a_loss_that_trains():
    model = nn.GRU(3, 6)
    rule = torch.optim.SGD(model.parameters(), 0.1)

    def step(model, x):
        rule.zero_grad()
        loss = everywhere(model, x)
        loss.backward()
        rule.step()
        return loss

    assert "changed weight_ih_l0" in refused(ConfigError, model, X, step)


def test_a_loss_that_is_backpropagated_already():
    def loss(model, x):
        found = everywhere(model, x)
        found.backward()
        return found

    model = nn.GRU(3, 6)
    assert "backward()" in refused(ConfigError, model, X, loss)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda m, x: 0.0 * everywhere(m, x), "exactly zero"),
        (lambda m, x: m.fc(m.rnn(x)[0].detach()).sum(), "detached"),
        (lambda m, x: m.fc(torch.no_grad()(m.rnn)(x)[0]).sum(), "no_grad"),
        (lambda m, x: m.fc(m.rnn(x[:, :0])[0]).sum(), "no rows"),
    ],
)
def test_why_no_error_comes_to_a_layer(loss, why):
    model = Wrapped(nn.GRU(3, 6))
    model.fc = nn.Linear(6, 1)
    message = refused(ConfigError, model, X, loss)
    assert "rnn: " in message
    assert why in message


def test_a_message_is_one_line():
    def broken(model, x):
        raise ValueError("one\n  two.")

    assert "ValueError: one two. Call" in refused(ConfigError, nn.GRU(3, 6), X, broken)


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_seed_is_a_whole_number(seed):
    assert "seed" in refused(ConfigError, nn.GRU(3, 6), X, everywhere, seed=seed)


def test_whole_numbers_of_numpy():
    found = tt.diagnose(
        nn.GRU(3, 6), X, everywhere, needs_lag=np.int64(9), rows=np.int32(3), seed=np.int64(4)
    )
    plain = json.loads(found.to_json())
    assert (plain["needs_lag"]["steps"], plain["layers"][0]["rows"]) == (9, 3)
    assert "needs_lag is 9.0" in refused(ConfigError, nn.GRU(3, 6), X, everywhere, needs_lag=9.0)


def test_a_training_that_is_none_is_refused_before_anything_is_computed():
    def loss(model, x):
        pytest.fail("it was computed")

    assert "holds no run" in refused(ConfigError, nn.GRU(3, 6), X, loss, training="/nowhere")
