"""The gauge: what it shows is what a diagnosis shows, and the update is the same to the bit."""

import time

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.errors import ConfigError
from throughtime.flow.capture import watching
from throughtime.flow.measure import measure


class Loop(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state, out = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            out.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(out), state


MODELS = {
    "nn.LSTM": lambda: nn.LSTM(3, 6),
    "nn.GRU": lambda: nn.GRU(3, 6, num_layers=2, bidirectional=True, batch_first=True),
    "tt.LSTM": lambda: tt.LSTM(3, 6, num_layers=2),
    "tt.Recurrent": lambda: tt.Recurrent(tt.skip(tt.cells.CATALOGUE["gru"], [4]), 3, 6),
    "nn.LSTMCell": lambda: Loop(nn.LSTMCell(3, 6)),
    "tt.GRUCell": lambda: Loop(tt.GRUCell(3, 6)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("at_the_end", [True, False])
def test_it_shows_what_a_diagnosis_shows(name, at_the_end):
    model, x = MODELS[name](), torch.randn(17, 3, 3)
    axis = 1 if getattr(model, "batch_first", False) else 0
    x = x.movedim(0, axis)

    def loss(output):
        return (output.select(axis, -1) if at_the_end else output).square().mean()

    with watching(model) as watch:
        value = loss(model(x)[0])
    truth = {p.name: measure(p, at=4) for p in watch.passages(value)}
    monitor = tt.Monitor(model, lags=(1, 3, 7))
    with monitor:
        loss(model(x)[0]).backward()
    assert [r.layer for r in monitor.readings] == list(truth)
    for reading in monitor.readings:
        record = truth[reading.layer]
        assert reading.horizon_steps == record.horizon_steps
        shares = [record.error_by_lag[lag] / record.error_by_lag[0] for lag in reading.lags]
        assert reading.error_at_lags == pytest.approx(shares, rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_update_is_the_same_to_the_bit(name):
    model, x = MODELS[name](), torch.randn(17, 6, 3)
    found = []
    for monitor in (None, tt.Monitor(model, rows=2)):
        model.zero_grad()
        torch.manual_seed(1)
        if monitor is None:
            model(x)[0].square().mean().backward()
        else:
            with monitor:
                model(x)[0].square().mean().backward()
            assert monitor.readings
        found.append([p.grad.clone() for p in model.parameters()] + [torch.get_rng_state()])
    for plain, watched in zip(*found, strict=True):
        assert torch.equal(plain, watched)


def test_it_leaves_no_hook_behind_even_after_an_error():
    model = nn.LSTM(3, 6)
    monitor = tt.Monitor(model)
    with pytest.raises(RuntimeError, match="input"), monitor:
        model(torch.randn(5, 2, 4))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not monitor.readings


def read_at(monitor, model, updates, clock=None):
    """The updates at which it was read."""
    for _ in range(updates):
        with monitor:
            model(torch.randn(4, 1, 3))[0].sum().backward()
        if clock is not None:
            clock()
    return [r.update for r in monitor.readings]


def test_it_is_read_by_updates_and_by_the_clock(monkeypatch):
    model = nn.LSTM(3, 2)
    assert read_at(tt.Monitor(model, every_updates=3, most_share=1e9), model, 8) == [0, 3, 6]
    assert read_at(tt.Monitor(model, every_updates=10**6, most_share=1e9), model, 8) == [0]
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monitor = tt.Monitor(model, every_updates=10**6, every_s=10.0)

    def two_seconds_later():
        now[0] += 2.0

    assert read_at(monitor, model, 12, two_seconds_later) == [0, 5, 10]


def test_it_takes_no_more_than_its_share(monkeypatch):
    model = nn.LSTM(3, 2)
    now = [0.0]

    def tick():
        now[0] += 0.01  # whatever is done takes a hundredth of a second a look at the clock
        return now[0]

    monkeypatch.setattr(time, "perf_counter", tick)
    monitor = tt.Monitor(model, every_updates=1, most_share=0.1)
    read = read_at(monitor, model, 400)
    assert len(read) > 3
    assert monitor.cost_s <= 0.1 * now[0]


def test_clipped_updates_are_counted():
    model = nn.LSTM(3, 2)
    monitor = tt.Monitor(model, every_updates=4, most_share=1e9, clip_norm=1.0)
    for norm in (0.5, 2.0, 3.0, float("nan"), 0.1):
        with monitor:
            model(torch.randn(4, 1, 3))[0].sum().backward()
        monitor.noted(norm)
    assert [r.clipped_share for r in monitor.readings] == [None, 0.75]
    assert "clipped 75%" in repr(monitor)


def test_a_diagnosis_reads_it():
    model = nn.LSTM(3, 6)
    monitor = tt.Monitor(model, clip_norm=1.0, window_steps=8, state_carried=True)
    with monitor:
        model(torch.randn(9, 2, 3))[0].sum().backward()
    for _ in range(30):
        monitor.noted(5.0)
    found = tt.diagnose(
        model, torch.randn(9, 2, 3), lambda m, x: m(x)[0].sum(), training=monitor, needs_lag=2
    )
    assert found.record.training.clipped_share == 1.0
    assert found.record.training.window_steps == 8
    assert found.record.history == monitor.history
    assert "clipped_always" in [f.code for f in found.findings]


def test_a_packed_batch():
    model = nn.GRU(3, 4)
    packed = nn.utils.rnn.pack_sequence([torch.randn(9, 3), torch.randn(5, 3)])
    monitor = tt.Monitor(model)
    with monitor:
        model(packed)[0].data.square().sum().backward()
    assert monitor.readings[0].horizon_steps >= 1


@pytest.mark.parametrize("name", ["nn.LSTM", "tt.LSTM", "nn.LSTMCell"])
def test_mixed_precision(name):
    if name == "nn.LSTM" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("torch's own LSTM has no bfloat16 on this processor")
    model, x = MODELS[name](), torch.randn(17, 3, 3)
    found = []
    for autocast in (False, True):
        monitor = tt.Monitor(model, lags=(1, 3))
        with monitor, torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            model(x)[0].float().square().mean().backward()
        found.append(monitor.readings[0].error_at_lags)
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_what_cannot_be_watched():
    with pytest.raises(ConfigError, match="no recurrent layer"):
        tt.Monitor(nn.Linear(2, 3))
    with pytest.raises(ConfigError, match="rows"):
        tt.Monitor(nn.LSTM(2, 3), rows=0)
