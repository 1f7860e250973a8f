"""Is Omega's gradient that of its formula, written as loops, and does it do what it is for?"""

import copy
import pickle

import pytest
import torch
from nested import assert_same
from omega_by_hand import (
    CELLS,
    DOUBLE,
    LENGTHS,
    NEAR,
    RESET,
    WEIGHT,
    B,
    H,
    I,
    T,
    by_formula,
    drawn,
    gradients,
    loss,
)

import throughtime as tt
from throughtime.errors import ConfigError, EngineError
from tolerances import error_to_largest


@pytest.mark.parametrize("masks", ["whole rows", "lengths and resets"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "both directions"])
@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_is_that_of_the_formula(kind, reverse, masks):
    torch.manual_seed(0)
    layer = CELLS[kind][0](bidirectional=reverse)
    x = drawn(T, B, I)
    shape = (1 + reverse, B, H) if layer.cell.depth == 1 else (layer.cell.depth, 1 + reverse, B, H)
    hx = [drawn(*shape, seed=1 + i) for i in range(len(layer.cell.states))]
    lengths, reset = (LENGTHS, RESET) if masks != "whole rows" else ([T] * B, RESET & False)
    given = tuple(hx) if len(hx) > 1 else hx[0]

    def call(layer):
        return loss(layer(x, given, lengths=lengths, reset=reset)[0])

    got, plain = gradients(layer.train(), call), gradients(layer.eval(), call)
    values, expected = [], {}
    for direction in (False, True)[: 1 + reverse]:
        omega, found = by_formula(kind, layer, x, hx, lengths, reset, reverse=direction)
        values.append(omega.item())
        expected |= found
    for name, gradient in got.items():
        want = plain[name]
        if name in expected:
            assert (expected[name].abs().max() / want.abs().max()) > 1e-4
            want = want + WEIGHT * expected[name]
        assert error_to_largest(gradient, want) < NEAR, name
    assert sum(name in expected for name in got) == len(expected) > 0
    assert layer.penalties() == {"omega": pytest.approx(sum(values))}


def only(state, layer):
    """The parameters of one layer of a stack, as those of a layer of its own."""
    return {k.replace(layer, "_l0"): v for k, v in state.items() if layer in k}


def test_layers_add_up():
    """Each layer's Omega is that of the layer alone, given its input and the signal from above."""
    layer = tt.RNN(I, H, 2, omega=WEIGHT, **DOUBLE)
    upper, lower = tt.RNN(H, H, omega=WEIGHT, **DOUBLE), tt.RNN(I, H, omega=WEIGHT, **DOUBLE)
    upper.load_state_dict(only(layer.state_dict(), "_l1"))
    lower.load_state_dict(only(layer.state_dict(), "_l0"))
    x = drawn(T, B, I)
    got = gradients(layer, lambda n: loss(n(x)[0]))
    middle = lower(x)[0].detach().requires_grad_()
    of_upper = gradients(upper, lambda n: loss(n(middle)[0]))
    (signal,) = torch.autograd.grad(loss(upper(middle)[0]), middle)
    of_lower = gradients(lower, lambda n: (n(x)[0] * signal).sum())
    for found, suffix in ((of_lower, "_l0"), (of_upper, "_l1")):
        assert_same([got[k.replace("_l0", suffix)] for k in found], list(found.values()))
    both = upper.penalties()["omega"] + lower.penalties()["omega"]
    assert layer.penalties()["omega"] == pytest.approx(both)


def mean_ratio(layer, x, loss_of):
    """The mean of |g_t dh_t/dh_{t-1}| / |g_t| over steps and rows, by hand, of a plain RNN."""
    weight, bias = layer.weight_hh_l0.detach(), (layer.bias_ih_l0 + layer.bias_hh_l0).detach()
    states = [torch.zeros(x.shape[1], weight.shape[0], dtype=x.dtype, requires_grad=True)]
    for step in x @ layer.weight_ih_l0.detach().T + bias:
        states.append(torch.tanh(step + states[-1] @ weight.T))
    signals = torch.autograd.grad(loss_of(states[-1]), states)
    pairs = zip(signals[1:], states[1:], strict=True)
    ratios = [((g * (1 - h * h)) @ weight).norm(dim=-1) / g.norm(dim=-1) for g, h in pairs]
    return torch.stack(ratios).mean().item()


def test_training_with_it_hands_errors_on_as_large_as_they_come():
    """Where without it each step back makes them four times smaller."""
    x, target = drawn(T, 8, I), drawn(8, H, seed=1)
    found = {}
    for weight in (0.0, 4.0):
        torch.manual_seed(0)
        layer = tt.RNN(I, H, init="pascanu-tanh", omega=weight, **DOUBLE)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(150):
            optimiser.zero_grad()
            (layer(x)[1][0] - target).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimiser.step()
        found[weight] = mean_ratio(layer, x, lambda h: (h - target).square().mean())
    assert found[0.0] < 0.4
    assert 0.8 < found[4.0] < 1.2


def test_a_signal_of_nothing_is_left_out():
    """With a loss of the first step alone only that step counts."""
    layer = tt.RNN(I, H, omega=WEIGHT, **DOUBLE)
    x, h = drawn(T, B, I), drawn(1, B, H, seed=1)
    got = gradients(layer, lambda n: loss(n(x, h)[0][:1]))
    single = gradients(layer, lambda n: loss(n(x[:1], h)[0]))
    assert_same(list(got.values()), list(single.values()))
    assert gradients(layer, lambda n: 0.0 * loss(n(x, h)[0]))["weight_hh_l0"].abs().max() == 0
    assert layer.penalties() == {"omega": 0.0}


def test_padding_counts_for_nothing_even_if_it_is_no_number():
    layer = tt.LSTM(I, H, omega=WEIGHT, **DOUBLE)
    x = drawn(T, B, I)
    want = gradients(layer, lambda n: loss(n(x, lengths=LENGTHS)[0]))
    x[4:, 1], x[:, 2] = float("nan"), float("inf")
    assert_same(
        list(gradients(layer, lambda n: loss(n(x, lengths=LENGTHS)[0])).values()),
        list(want.values()),
    )


CURED = {
    "skip": tt.skip(tt.cells.lstm, [1, 3]),
    "leaky": tt.leaky(tt.cells.gru, rate="learned"),
    "zoneout": tt.zoneout(tt.cells.lstm, 0.5),
    "clockwork": tt.clockwork(tt.cells.rnn, [1, 2]),
    "projection": tt.cells.lstm_projection,
    "feedback": tt.cells.gf_gru(layers=2),
    "dilated": tt.dilate(tt.cells.rnn, 2),
}


@pytest.mark.parametrize("name", CURED)
def test_any_cell_gets_a_gradient_on_its_recurrent_matrices_alone(name):
    proj = 3 if name == "projection" else 0
    layer = tt.Recurrent(CURED[name], I, H, proj_size=proj, omega=WEIGHT, **DOUBLE)
    plain = copy.deepcopy(layer)
    plain.omega = 0.0
    x = drawn(T, B, I)
    found = []
    for net in (layer, plain):
        torch.manual_seed(0)
        found.append(gradients(net, lambda n: loss(n(x, lengths=LENGTHS)[0])))
    got, want = found
    for key in got:
        same = error_to_largest(got[key], want[key]) < NEAR
        assert same != key.startswith("weight_hh"), key
    assert 0 < layer.penalties()["omega"] < float("inf")


def test_states_and_outputs_are_those_of_a_plain_layer():
    layer = tt.LSTM(I, H, 2, bidirectional=True, omega=WEIGHT, **DOUBLE)
    x = drawn(T, B, I)
    options = {"lengths": LENGTHS, "reset": RESET, "return_all_states": True}
    got = layer(x, **options)
    layer.omega = 0.0
    assert_same(got, layer(x, **options))


def test_it_acts_on_the_matrix_that_weight_drop_leaves():
    layer = tt.RNN(I, H, omega=100.0, weight_drop=0.5, **DOUBLE)
    gradient = gradients(layer, lambda n: loss(n(drawn(T, B, I))[0]))["weight_hh_l0"]
    assert 0 < (gradient == 0).sum() < H * H


def test_eval_mode_and_no_grad_have_no_part_in_it():
    layer = tt.RNN(I, H, omega=WEIGHT, engine="vendor")
    x = torch.randn(T, B, I)
    layer.eval()(x)[0].sum().backward()
    with torch.no_grad():
        layer.train()(x)
    assert layer.penalties() == {}
    with pytest.raises(EngineError, match=r"engine='vendor' cannot do this: .*probed\(rnn\)"):
        layer(x)
    assert "not vendor: the equations of probed(rnn)" in tt.RNN(I, H, omega=WEIGHT).explain(x)


def test_a_frozen_matrix_and_a_second_backward_pass():
    layer = tt.RNN(I, H, omega=WEIGHT, **DOUBLE)
    total = loss(layer(drawn(T, B, I))[0])
    total.backward(retain_graph=True)
    once = layer.weight_hh_l0.grad.clone()
    total.backward()
    assert_same(layer.weight_hh_l0.grad, 2 * once)
    layer.weight_hh_l0.requires_grad_(False)
    loss(layer(drawn(T, B, I))[0]).backward()


def test_a_matrix_changed_before_the_backward_pass_is_refused():
    layer = tt.RNN(I, H, omega=WEIGHT)
    total = layer(torch.randn(T, B, I))[0].sum()
    with torch.no_grad():
        layer.weight_hh_l0.add_(1.0)
    with pytest.raises(RuntimeError, match="modified"):
        total.backward()


def test_second_derivatives_hold_it_constant():
    layer = tt.RNN(I, H, omega=WEIGHT, **DOUBLE)
    x = drawn(T, B, I).requires_grad_()

    def twice(layer):
        (first,) = torch.autograd.grad(loss(layer(x)[0]), x, create_graph=True)
        return first.square().sum()

    second = gradients(layer, twice)
    assert all(g.isfinite().all() for g in second.values())


def test_torch_func_and_batched_gradients_are_refused():
    layer = tt.RNN(I, H, omega=WEIGHT)
    x = torch.randn(T, B, I)
    with pytest.raises(EngineError, match=r"omega=2 adds to gradients in a backward pass, which"):
        torch.func.grad(lambda x: layer(x)[0].sum())(x)
    y = layer(x)[0]
    with pytest.raises(EngineError, match=r"omega cannot be added to many gradients at once"):
        torch.autograd.grad(
            y, layer.weight_hh_l0, torch.stack([y, y]).detach(), is_grads_batched=True
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_room_for_the_squares_of_small_signals(dtype):
    """1e-4 squared is nothing in float16."""
    layer = tt.GRU(I, H, omega=WEIGHT, dtype=dtype)
    (layer(torch.randn(T, B, I, dtype=dtype))[0] * 1e-4).sum().backward()
    assert layer.weight_hh_l0.grad.dtype == dtype
    assert layer.weight_hh_l0.grad.isfinite().all()
    assert layer.penalties()["omega"] > 0.01


def test_autocast():
    layer = tt.GRU(I, H, omega=WEIGHT)
    with torch.autocast("cpu", torch.bfloat16):
        total = layer(torch.randn(T, B, I))[0].sum()
    total.backward()
    assert layer.penalties()["omega"] > 0


@pytest.mark.parametrize("shape", [(0, B, I), (T, 0, I), (1, 1, I)], ids=str)
def test_sizes_at_the_edge(shape):
    layer = tt.LSTM(I, H, omega=WEIGHT, learn_initial_state=True)
    layer(torch.randn(shape))[1][0].sum().backward()
    found = layer.weight_hh_l0.grad
    if shape[0] == 0:  # no step has used it
        assert found is None or not found.any()
    else:
        assert found is not None
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of dynamo's, at the break
def test_compiled_with_a_break_in_the_graph():
    layer = tt.RNN(I, H, omega=WEIGHT, **DOUBLE)
    x = drawn(T, B, I)
    want = gradients(layer, lambda n: loss(n(x)[0]))
    got = gradients(layer, lambda n: loss(torch.compile(n, backend="aot_eager")(x)[0]))
    assert_same(list(got.values()), list(want.values()))


def test_copies_text_and_refusals():
    layer = tt.RNN(I, H, omega=0.5)
    layer(torch.randn(T, B, I))[0].sum().backward()
    assert "omega=0.5" in repr(layer)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.penalties() == layer.penalties() != {}
        twin(torch.randn(T, B, I))[0].sum().backward()
        assert twin.penalties() != layer.penalties()
    for value in (-1, "much", float("inf")):
        with pytest.raises(ConfigError, match=r"omega=.*; expected a finite number from 0"):
            tt.RNN(I, H, omega=value)
    with pytest.raises(ConfigError, match=r"omega=1 acts on recurrent matrices, and mingru has"):
        tt.Recurrent(tt.cells.mingru, I, H, omega=1)
