"""Do cells that are deep within a step compute their equations, and what are their limits?"""

import pytest
import torch
from torch import sigmoid, tanh

from cells.by_hand import BOUND, SIZES, H, given_to, largest_error, split
from graph_loop import forward
from throughtime.cells import (
    CATALOGUE,
    rhn,
    rnn,
    rnn_deep_input,
    rnn_deep_output,
    rnn_deep_transition,
    rnn_deep_transition_shortcut,
)
from throughtime.declare.graph import terms
from throughtime.errors import DeclarationError
from throughtime.testing import check_cell


def deep_input(x, w, p, h):
    b_e, b_a = w["bias"].split(H)
    for x_t in x:
        e = tanh(x_t @ w["weight_ih"].T + b_e)
        h = tanh(e @ w["weight_a"].T + h @ w["weight_hh"].T + b_a)
        yield h, (h,)


def deep_output(x, w, p, h):
    b_a, b_o = w["bias"].split(H)
    for x_t in x:
        h = tanh(x_t @ w["weight_ih"].T + h @ w["weight_hh"].T + b_a)
        yield tanh(h @ w["weight_o"].T + b_o), (h,)


def transition(depth, *, shortcut=False):
    def loop(x, w, p, h):
        b = w["bias"].split(H)
        U, *past = w["weight_hh"].split(H)
        for x_t in x:
            s = tanh(x_t @ w["weight_ih"].T + h @ U.T + b[0])
            for layer in range(2, depth + 1):
                a = s @ w[f"weight_a{layer}"].T + b[layer - 1]
                s = tanh(a + h @ past[0].T if shortcut and layer == depth else a)
            h = s
            yield h, (h,)

    return loop


def highway(depth):
    def loop(x, w, p, h):
        (W_t, W_a), (U_t, U_a) = split(w, "weight_ih", "weight_hh", gates=2)
        b = w["bias"].split(H)
        for x_t in x:
            for layer in range(1, depth + 1):
                b_t, b_a = b[2 * layer - 2 : 2 * layer]
                if layer == 1:
                    t = sigmoid(x_t @ W_t.T + h @ U_t.T + b_t)
                    new = tanh(x_t @ W_a.T + h @ U_a.T + b_a)
                else:
                    t = sigmoid(h @ w[f"weight_t{layer}"].T + b_t)
                    new = tanh(h @ w[f"weight_a{layer}"].T + b_a)
                h = new * t + h * (1 - t)
            yield h, (h,)

    return loop


LOOPS = {
    "rnn_deep_input": deep_input,
    "rnn_deep_output": deep_output,
    "rnn_deep_transition": transition(2),
    "rnn_deep_transition_shortcut": transition(2, shortcut=True),
    "rhn": highway(2),
}
DEEPER = {
    "transition": (rnn_deep_transition(4), transition(4)),
    "shortcut": (rnn_deep_transition_shortcut(4), transition(4, shortcut=True)),
    "rhn, one layer": (rhn(1), highway(1)),
    "rhn": (rhn(3), highway(3)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_cell_is_its_equation(name):
    assert largest_error(CATALOGUE[name], LOOPS[name]) <= BOUND


@pytest.mark.parametrize("name", DEEPER)
def test_a_deeper_cell_is_its_equation(name):
    assert largest_error(*DEEPER[name]) <= BOUND


@pytest.mark.parametrize("name", DEEPER)
def test_a_deeper_cell_keeps_the_contract(name):
    check_cell(DEEPER[name][0])


@pytest.mark.parametrize(
    ("cell", "recurrent"),
    [
        (rnn_deep_input, "a"),
        (rnn_deep_output, "a"),
        (rnn_deep_transition(3), "a1"),
        (rnn_deep_transition_shortcut(3), "a1 a3"),
        (rhn(3), "t1 a1"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_only_matrices_that_read_the_last_step_get_delays(cell, recurrent):
    found = [g for g, n in cell.affines.items() if any(t.kind == "recurrent" for t in terms(n))]
    assert " ".join(found) == recurrent


def test_a_shortcut_of_zero_is_none():
    cell = rnn_deep_transition_shortcut(3)
    given = given_to(cell)
    U, R = given.weights["weight_hh"].split(H)
    with_it = forward(cell, SIZES, given).out
    given.weights["weight_hh"] = torch.cat([U, torch.zeros_like(R)])
    without = forward(cell, SIZES, given).out
    given.weights["weight_hh"] = U
    assert torch.equal(forward(rnn_deep_transition(3), SIZES, given).out, without)
    assert (with_it - without).abs().max() > 1e-3


def driven(cell, bias):
    """Inputs to a highway whose gates all have this bias."""
    given = given_to(cell)
    b = given.weights["bias"].view(-1, 2, H).clone()
    b[:, 0] = bias
    given.weights["bias"] = b.flatten()
    return given


def test_a_highway_with_open_gates_is_a_deep_transition():
    given = driven(rhn(3), 50.0)
    seen = forward(rhn(3), SIZES, given).out
    candidates = {"weight_ih": H, "weight_hh": H}
    given.weights |= {name: given.weights[name][rows:] for name, rows in candidates.items()}
    given.weights["bias"] = given.weights["bias"].view(-1, 2, H)[:, 1].flatten()
    given.weights = {name: w for name, w in given.weights.items() if "weight_t" not in name}
    deep = forward(rnn_deep_transition(3), SIZES, given).out
    torch.testing.assert_close(seen, deep, rtol=0, atol=BOUND)


def test_a_highway_with_closed_gates_carries_its_state():
    given = driven(rhn(3), -50.0)
    seen = forward(rhn(3), SIZES, given).states["h"]
    start = given.histories["h"].expand_as(seen)
    torch.testing.assert_close(seen, start, rtol=0, atol=BOUND)


def test_a_layer_before_the_input_alone_is_a_network_on_x():
    """rnn_deep_input is rnn on x mapped by one layer."""
    given = given_to(rnn_deep_input)
    seen = forward(rnn_deep_input, SIZES, given).out
    b_e, b_a = given.weights["bias"].split(H)
    given.x = tanh(given.x @ given.weights["weight_ih"].T + b_e)
    given.weights = {
        "weight_ih": given.weights["weight_a"],
        "weight_hh": given.weights["weight_hh"],
        "bias": b_a,
    }
    torch.testing.assert_close(forward(rnn, SIZES, given).out, seen, rtol=0, atol=BOUND)


REFUSED = [
    (rnn_deep_transition, 1, 2),
    (rnn_deep_transition_shortcut, 1, 2),
    (rhn, 0, 1),
    (rhn, True, 1),
    (rhn, 2.0, 1),
    (rhn, "2", 1),
]


@pytest.mark.parametrize(("factory", "depth", "least"), REFUSED)
def test_a_depth_that_makes_no_cell_is_refused(factory, depth, least):
    wanted = rf"{factory.__name__}: depth is {depth!r}; a whole number from {least} was expected"
    with pytest.raises(DeclarationError, match=wanted):
        factory(depth)
