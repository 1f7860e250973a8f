"""Models as their users write them: is each diagnosed, and left as it was?"""

import copy
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from test_diagnose import Loop, at_the_end, everywhere
from torch import nn
from torch.autograd import grad
from torch.utils.checkpoint import checkpoint
from users_models import Kept, Step, Wrapped, X

import throughtime as tt
from throughtime.flow.capture import watching


def as_plain(found):
    record = found.record.as_json()
    return {name: value for name, value in record.items() if name != "elapsed_s"}


# --- The same each time -----------------------------------------------------------------------


def test_the_same_call_gives_the_same_whatever_was_drawn_before():
    model = nn.LSTM(3, 6, num_layers=2, dropout=0.5)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(as_plain(tt.diagnose(model, X, everywhere)))
    assert found[0] == found[1]
    assert as_plain(tt.diagnose(model, X, everywhere, seed=7))["loss"] != found[0]["loss"]


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["random", "numpy"])
def test_a_loss_may_draw_from_python_and_numpy(draw):
    def forced_at_times(model, x):
        return everywhere(model, x if draw() < 0.5 else 2 * x) * draw()

    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = nn.GRU(3, 6)
    first, second = (as_plain(tt.diagnose(model, X, forced_at_times)) for _ in range(2))
    assert first == second
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("buffer", [False, True])
def test_a_model_that_keeps_its_state_starts_from_it_every_time(buffer):
    model = Kept(buffer=buffer)
    model(torch.randn(4, 5, 3))
    state = model.state
    found = tt.diagnose(model, X, everywhere)
    want = model.rnn(X, state)[0].square().mean()
    assert found.record.loss == pytest.approx(want.item(), rel=1e-5)
    assert model.state is state
    assert model.seen == [4]


# --- Left as it was ---------------------------------------------------------------------------


def test_gradients_and_modes_are_left_as_they_were():
    model = nn.LSTM(3, 6).train()
    everywhere(model, X).backward()
    before = [p.grad.clone() for p in model.parameters()]

    def in_evaluation(model, x):
        model.eval()
        model.zero_grad()
        loss = everywhere(model, x)
        loss.backward(retain_graph=True)
        return loss

    assert tt.diagnose(model, X, in_evaluation).record.mode == "eval"
    assert model.training
    for p, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(p.grad, gradient)


def test_a_loss_that_asks_for_gradients_itself():
    def with_a_penalty(model, x):
        x = x.clone().requires_grad_()
        output = model(x)[0]
        (slope,) = grad(output.sum(), x, create_graph=True)
        return output.square().mean() + slope.square().mean()

    found = tt.diagnose(tt.LSTM(3, 6), X, with_a_penalty)
    assert found.record.context.loss[-1] == pytest.approx(found.record.loss)


@pytest.mark.parametrize("model", [Loop(Step()), Wrapped(nn.GRU(3, 6)), Loop(nn.LSTMCell(3, 6))])
def test_a_frozen_model_is_followed_all_the_same(model):
    learning = tt.diagnose(model, X, everywhere)
    model.requires_grad_(False)
    assert as_plain(tt.diagnose(model, X, everywhere)) == as_plain(learning)
    assert not any(p.requires_grad for p in model.parameters())


def test_normalisation_after_the_layer_keeps_what_its_graph_needs():
    model = nn.Sequential(Wrapped(nn.GRU(3, 6)), nn.BatchNorm1d(17)).eval()

    def loss(model, x):
        return model[1](model[0](x)[0].transpose(0, 1)).square().mean()

    assert tt.diagnose(model, X, loss).layers[0].error_by_lag[0] > 0.0


# --- Where errors are -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-32, 1e28])
def test_the_horizon_does_not_depend_on_the_scale_of_the_loss(scale):
    model = nn.LSTM(3, 6)
    plain, scaled = (
        tt.diagnose(model, X, lambda m, x, by=by: everywhere(m, x) * by).layers[0]
        for by in (1.0, scale)
    )
    assert plain.horizon_steps == scaled.horizon_steps > 0
    assert [e / scale for e in scaled.error_by_lag] == pytest.approx(plain.error_by_lag, rel=1e-4)


def test_rows_that_no_error_comes_to_are_not_looked_at():
    x = torch.randn(17, 40, 3)

    def of_the_last_two(model, x):
        return model(x)[0][-1, -2:].square().mean()

    for model in (nn.GRU(3, 6), Loop(Step())):
        layer = tt.diagnose(model, x, of_the_last_two).layers[0]
        assert layer.rows == 2
        assert layer.error_by_lag[0] > 0.0


# --- Names ------------------------------------------------------------------------------------


def test_a_part_that_is_compiled_keeps_its_name():
    model = Wrapped(torch.compile(nn.GRU(3, 6), backend="eager"))
    assert tt.diagnose(model, X, everywhere).layers[0].name == "rnn"


def test_a_step_goes_by_its_name():
    def leaky(x, h):
        return 0.9 * h + x

    def loss(model, xs):
        h = torch.zeros(5, 3)
        for x in xs:
            h = model(x, h)
        return h.sum()

    assert tt.diagnose(leaky, X, loss).record.title == "leaky"


# --- Called from anywhere ---------------------------------------------------------------------


@pytest.mark.parametrize("model", [Wrapped(nn.LSTM(3, 6)), Wrapped(tt.LSTM(3, 6)), Loop(Step())])
def test_the_callers_inference_mode_changes_nothing(model):
    want = as_plain(tt.diagnose(model, X, everywhere))
    with torch.inference_mode():
        assert as_plain(tt.diagnose(model, X, everywhere)) == want
    with torch.no_grad():
        assert as_plain(tt.diagnose(model, X, everywhere)) == want


def test_the_callers_autocast_is_for_the_loss_alone():
    model = nn.GRU(3, 6)

    def in_half(model, x):
        with torch.autocast("cpu", torch.bfloat16):
            return everywhere(model, x)

    want = as_plain(tt.diagnose(model, X, in_half))
    with torch.autocast("cpu", torch.bfloat16):
        assert as_plain(tt.diagnose(model, X, everywhere)) == want


def test_threads_take_turns():
    def work(model):
        found.append(as_plain(tt.diagnose(model, X, everywhere)))

    model = nn.LSTM(3, 6, num_layers=2, dropout=0.5)
    models = [copy.deepcopy(model) for _ in range(4)]
    forward, found = nn.LSTM.forward, []
    threads = [threading.Thread(target=work, args=[m]) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.LSTM.forward is forward
    assert len(found) == 4
    assert all(one == found[0] for one in found)


class Straight(torch.autograd.Function):
    """A threshold whose gradient looks at its numbers, which no batch of them can do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        largest = gradient.abs().max().item()
        return gradient.clamp(-largest, largest) * (x.abs() < 1.0)


class Spiking(Step):
    def forward(self, x, h=None):
        h = super().forward(x, h)
        return h + 0.5 * Straight.apply(h)


def test_a_backward_pass_of_the_users_own():
    model = Loop(Spiking())
    layer = tt.diagnose(model, X, at_the_end).layers[0]
    states, h = [], None
    for x in X:
        h = model.cell(x, h)
        h.retain_grad()
        states.append(h)
    h.square().mean().backward()
    want = [float((s.grad.norm(dim=-1) / h.grad.norm(dim=-1)).median()) for s in states[:0:-1]]
    got = [error / layer.error_by_lag[0] for error in layer.error_by_lag]
    assert got == pytest.approx(want, rel=1e-4)


def test_errors_without_a_batched_form_are_followed_one_by_one(monkeypatch):
    model = Loop(Spiking())
    slow = as_plain(tt.diagnose(model, X, everywhere))
    monkeypatch.setattr(Straight, "backward", lambda ctx, g: g * (ctx.saved_tensors[0].abs() < 1.0))
    fast = as_plain(tt.diagnose(model, X, everywhere))
    for a, b in zip(slow["layers"], fast["layers"], strict=True):
        for name in ("error_by_lag", "lyapunov"):
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5)


def test_anomaly_detection_is_no_obstacle():
    with warnings.catch_warnings(record=True) as said, torch.autograd.set_detect_anomaly(mode=True):
        warnings.simplefilter("always")
        assert tt.diagnose(Loop(Step()), X, everywhere).layers[0].error_by_lag[1] > 0.0
    assert not [w for w in said if "Error detected" in str(w.message)]


class Part(nn.Module):
    """Calls a part, which may be computed again on the way back."""

    def __init__(self, part, *, again):
        super().__init__()
        self.part, self.again = part, again

    def forward(self, *args):
        return checkpoint(self.part, *args, use_reentrant=False) if self.again else self.part(*args)


@pytest.mark.parametrize("part", [nn.GRU(3, 6), nn.GRUCell(3, 6), Step()])
def test_a_checkpoint_changes_nothing(part):
    plain, checkpointed = (
        as_plain(tt.diagnose(model if isinstance(part, nn.GRU) else Loop(model), X, everywhere))
        for model in (Part(part, again=False), Part(part, again=True))
    )
    for name in ("layers", "context", "loss"):
        assert checkpointed[name] == plain[name]


def test_layers_are_watched_by_one_thread_at_a_time():
    def work():
        with watching(nn.LSTM(3, 6)):
            entered.set()
            leave.wait()

    forward, entered, leave = nn.LSTM.forward, threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    with watching(nn.LSTM(3, 6)):
        thread.start()
        has_entered = entered.wait(0.2)
    leave.set()
    thread.join()
    assert not has_entered
    assert nn.LSTM.forward is forward
