"""Do calls that go the shortest way give what the general way gives, and do only they go there?"""

import pytest
import torch
from nested import flattened
from torch.autograd import forward_ad
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

import throughtime as tt
from throughtime import Param, State
from throughtime.errors import DtypeError, EngineError, ShapeError, ThroughtimeError
from throughtime.nn import plain as ways
from throughtime.nn import recurrent, single

LSTM = tt.cells.CATALOGUE["lstm"]


@tt.cell(
    ("h", State("c", initial=0.5), State("k", width=1, clock=True)),
    params=(Param("keep", 0.4, low=0.0, high=1.0), Param("gain", 2.0, trainable=False)),
)
def rich(x, h, c, k, keep, gain):
    a = tt.tanh(gain * tt.affine("a", x, h, tt.ago(c, 2)))
    return a, keep * c + (1.0 - keep) * a, k + 1.0


def through(layer, x, hx, *, shortest, monkeypatch):
    """Output, states and gradients; whether the shortest way was taken."""
    taken = []

    def watched(*args):
        found = ways.plain(*args) if shortest else None
        taken.append(found is not None)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(recurrent, "plain", watched)
        x = x.clone().requires_grad_()
        y, last = layer(x, hx)
    last = flattened(last)
    live = [s for s in (y, *last) if s.requires_grad]
    leaves = [x, *layer.parameters()]
    found = torch.autograd.grad([(s * s).sum() for s in live], leaves, allow_unused=True)
    return [y, *last, *found], taken == [True]


@pytest.mark.parametrize("engine", ["auto", "llvm", "reference"])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (LSTM, {}),
        (LSTM, {"num_layers": 3, "bidirectional": True, "batch_first": True}),
        (LSTM, {"num_layers": 2, "dropout": 0.5, "weight_drop": 0.5}),
        (tt.cells.CATALOGUE["gru"], {"bias": False, "batch_first": True}),
        (rich, {"num_layers": 2}),
        (LSTM, {"hidden_size": [4, 3], "num_layers": 2}),
    ],
)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_bits_are_those_of_the_general_way(cell, options, engine, steps, monkeypatch):
    torch.manual_seed(0)
    layer = tt.Recurrent(cell, 3, engine=engine, **{"hidden_size": 4} | options).eval()
    x = torch.randn(2, steps, 3) if layer.batch_first else torch.randn(steps, 2, 3)
    short, taken = through(layer, x, None, shortest=True, monkeypatch=monkeypatch)
    whole, _ = through(layer, x, None, shortest=False, monkeypatch=monkeypatch)
    assert taken
    for a, b in zip(short, whole, strict=True):
        assert a is b is None or (torch.equal(a, b) and a.dtype == b.dtype)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_a_state_that_is_given_counts(options, monkeypatch):
    torch.manual_seed(0)
    layer = tt.LSTM(3, 4, **options)
    count = 4 if options else 1
    hx = tuple(torch.randn(count, 2, 4, requires_grad=True) for _ in range(2))
    short, taken = through(layer, torch.ones(5, 2, 3), hx, shortest=True, monkeypatch=monkeypatch)
    whole, _ = through(layer, torch.ones(5, 2, 3), hx, shortest=False, monkeypatch=monkeypatch)
    bare, _ = through(layer, torch.ones(5, 2, 3), None, shortest=True, monkeypatch=monkeypatch)
    assert taken
    assert all(torch.equal(a, b) for a, b in zip(short, whole, strict=True))
    assert not torch.equal(short[0], bare[0])
    y, _ = layer(torch.ones(5, 2, 3), hx)
    assert all(g.abs().min() > 0 for g in torch.autograd.grad(y.sum(), hx))


X = torch.ones(5, 2, 3)
STATE = torch.zeros(1, 2, 4)
UNUSUAL = {
    "omega": ({"omega": 1.0}, X, None),
    "activation_l1": ({"activation_l1": 1.0}, X, None),
    "connections": ({"connections": "residual", "num_layers": 2}, X, None),
    "recompute": ({"recompute": True}, X, None),
    "learned start": ({"learn_initial_state": True}, X, None),
    "dropout": ({"dropout": 0.5, "num_layers": 2}, X, None),
    "weight_drop": ({"weight_drop": 0.5}, X, None),
    "no batch": ({}, X[:, 0], None),
    "parameter": ({}, torch.nn.Parameter(X), None),
    "no tensor": ({}, X.tolist(), None),
    "other features": ({}, torch.ones(5, 2, 2), None),
    "other dtype": ({}, X.double(), None),
    "other place": ({}, X.to("meta"), None),
    "whole numbers": ({}, X.long(), None),
    "states as a list": ({}, X, [STATE, STATE]),
    "one state": ({}, X, STATE),
    "three states": ({}, X, (STATE, STATE, STATE)),
    "states of another batch": ({}, X, (STATE, STATE[:, :1])),
    "states of another dtype": ({}, X, (STATE.double(), STATE)),
    "states elsewhere": ({}, X, (STATE, STATE.to("meta"))),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_or_wrong_goes_the_general_way(name):
    options, x, hx = UNUSUAL[name]
    assert ways.plain(tt.LSTM(3, 4), X, (STATE, STATE)) is not None
    assert ways.plain(tt.LSTM(3, 4, **options), x, hx) is None


def test_weights_of_whole_numbers_go_the_general_way():
    layer = tt.LSTM(3, 4).requires_grad_(False)
    for weight in layer.parameters():
        weight.data = weight.data.long()
    assert ways.plain(layer, X.long(), None) is None
    with pytest.raises(DtypeError, match=r"input dtype torch\.int64 does not match"):
        layer(X.long())


def test_extras_masks_and_observers_go_the_general_way():
    noisy = tt.cell("h", extras=(tt.Extra("seen", tt.Bernoulli(0.5), eval=1.0),))(
        lambda x, h, seen: tt.tanh(seen * tt.affine("a", x, h))
    )
    for layer in (
        tt.Recurrent(noisy, 3, 4),
        tt.Recurrent(tt.clockwork(tt.cells.rnn, periods=(1, 2)), 3, 4),
    ):
        assert ways.plain(layer, X, None) is None
    layer = tt.LSTM(3, 4)
    layer.observer = lambda stack, number, job, inputs, sequence: sequence(job, inputs)
    assert ways.plain(layer, X, None) is None


def test_what_is_active_around_a_call_sends_it_the_general_way():
    layer = tt.LSTM(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ways.plain(layer, X, None) is None
    found = []

    def look(x):
        found.append(ways.plain(layer, x, None))
        return x.sum()

    torch.func.grad(look)(X)
    with forward_ad.dual_level():
        look(X)
    with FlopCounterMode(display=False):
        look(X)
    assert found == [None] * 3


def test_weights_are_looked_up_at_each_call():
    layer = tt.LSTM(3, 4)
    before, _ = layer(X)
    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros(16, 4))
    replaced, _ = layer(X)

    class Negative(torch.nn.Module):
        def forward(self, weight):
            return -weight

    parametrize.register_parametrization(layer, "weight_ih_l0", Negative())
    negative, _ = layer(X)
    with torch.no_grad():
        layer.parametrizations.weight_ih_l0.original.neg_()
    assert not torch.equal(before, replaced)
    assert not torch.equal(replaced, negative)
    assert torch.equal(layer(X)[0], replaced)


def test_the_declared_state_is_kept_for_calls_alike_and_stays_as_it_was():
    layer = tt.Recurrent(rich, 3, 4, engine="reference")
    job = layer._runs[0].jobs[False, None]
    with torch.inference_mode():
        layer(X)
        kept = job.memo["declared"][1]
        layer(X)
        assert job.memo["declared"][1] is kept
    y, last = layer(X)
    mine = job.memo["declared"][1]
    assert mine is not kept, "a tensor of inference mode cannot take part in training"
    for state in last:
        state.detach().fill_(7.0)
    y.sum().backward()
    assert [s.unique().tolist() for s in mine] == [[0.0], [0.5], [0.0]]
    layer(X[:, :1])
    assert [s.shape[1] for s in job.memo["declared"][1]] == [1, 1, 1]
    layer.double()(X[:, :1].double())
    assert {s.dtype for s in job.memo["declared"][1]} == {torch.float64}


def test_large_declared_states_are_not_kept():
    layer = tt.LSTM(3, 4)
    layer(torch.ones(1, ways._SMALL, 3))
    assert "declared" not in layer._runs[0].jobs[False, None].memo


def test_messages_are_those_of_the_general_way():
    layer = tt.LSTM(3, 4)
    layer(X)
    with pytest.raises(ShapeError, match=r"Expected hidden\[1\] size \(1, 2, 4\), got \[1, 1, 4\]"):
        layer(X, (STATE, STATE[:, :1]))
    with pytest.raises(DtypeError, match="does not match weight dtype"):
        layer(X.double())


def test_a_choice_that_was_kept_holds_for_its_kind_of_call_only():
    layer = tt.LSTM(3, 4, engine="llvm")
    layer(X)
    with torch.no_grad():
        layer.weight_hh_l0.data = layer.weight_hh_l0.double()
    with pytest.raises(EngineError, match="this is float32, float64"):
        layer(X)
    halves = tt.LSTM(3, 4, engine="llvm")
    halves(X)
    with pytest.raises(EngineError, match="and this is bfloat16"):
        halves.bfloat16()(X.bfloat16())
    vendor = tt.LSTM(3, 4, engine="vendor")
    vendor(X)
    with pytest.raises(EngineError, match="refuses sequences of no steps"):
        vendor(X[:0])


CELLS = {"rnn": tt.RNNCell, "gru": tt.GRUCell, "lstm": tt.LSTMCell}


@pytest.mark.parametrize("engine", ["auto", "llvm", "reference"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_single_step_has_the_bits_of_the_general_way(name, given, engine, monkeypatch):
    torch.manual_seed(0)
    module = CELLS[name](3, 4, engine=engine)
    states = torch.randn(2, 2, 4, requires_grad=True)
    hx = tuple(states) if name == "lstm" else states[0]
    results = []
    for shortest in (True, False):
        taken = []

        def step(*args, shortest=shortest, taken=taken):
            taken.append(found := ways.plain_step(*args) if shortest else None)
            return found

        monkeypatch.setattr(single, "plain_step", step)
        x = torch.linspace(-1.0, 1.0, 6).view(2, 3).requires_grad_()
        new = flattened(module(x, hx if given else None))
        assert (taken[0] is not None) == shortest
        leaves = [x, *module.parameters(), *([states] if given else [])]
        results.append([*new, *torch.autograd.grad(sum((s * s).sum() for s in new), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


ROW = torch.ones(2, 3)
ROW_STATE = torch.zeros(2, 4)
UNUSUAL_STEPS = {
    "no batch": (ROW[0], None),
    "parameter": (torch.nn.Parameter(ROW), None),
    "other features": (torch.ones(2, 2), None),
    "other dtype": (ROW.double(), None),
    "other place": (ROW.to("meta"), None),
    "second state alone": (ROW, (None, ROW_STATE)),
    "first state alone": (ROW, (ROW_STATE, None)),
    "another batch": (ROW, (ROW_STATE, ROW_STATE[:1])),
    "another dtype": (ROW, (ROW_STATE.double(), ROW_STATE)),
    "elsewhere": (ROW, (ROW_STATE, ROW_STATE.to("meta"))),
}


@pytest.mark.parametrize("name", UNUSUAL_STEPS)
def test_a_single_step_that_is_unusual_or_wrong_goes_the_general_way(name, monkeypatch):
    module, taken = tt.LSTMCell(3, 4), []

    def step(*args):
        taken.append(found := ways.plain_step(*args))
        return found

    monkeypatch.setattr(single, "plain_step", step)
    x, states = UNUSUAL_STEPS[name]
    try:
        module(x, states)
    except ThroughtimeError:
        wrong = True
    else:
        wrong = False
    assert taken == [None]
    assert wrong == (
        name not in {"no batch", "parameter", "second state alone", "first state alone"}
    )


def test_what_is_active_around_a_single_step_counts():
    module = tt.LSTMCell(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h, c = module(ROW)
    assert torch.equal(h, module(ROW)[0]) is False
    assert c.dtype == torch.float32
