"""Does each declared cell compute its published equation? Against a loop written by hand.

The loops below take matrices by the tensors of the layer and write every product out; they share
nothing with the declarations but the names of the weights.
"""

import math

import pytest
import torch
from torch import nn, sigmoid, tanh

from cells.by_hand import BOUND, SIZES, H, given_to, largest_error, split
from graph_loop import draw_given, forward
from throughtime.cells import CATALOGUE
from throughtime.declare.slots import Sizes


def vanilla(f):
    def loop(x, w, p, h):
        for x_t in x:
            h = f(x_t @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias"])
            yield h, (h,)

    return loop


def pre_activation(f):
    def loop(x, w, p, a):
        for x_t in x:
            a = x_t @ w["weight_ih"].T + f(a) @ w["weight_hh"].T
            yield f(a), (a,)

    return loop


def lstm_like(candidate=tanh, biased="ifgo", peepholes=False, coupled=False, projected=False):
    order = "fgo" if coupled else "ifgo"

    def loop(x, w, p, h, c):
        W, U = split(w, "weight_ih", "weight_hh", gates=len(order))
        b = w["bias"].split(H)
        for x_t in x:
            a = {
                gate: x_t @ W[k].T
                + h @ U[k].T
                + (b[[g for g in order if g in biased].index(gate)] if gate in biased else 0.0)
                for k, gate in enumerate(order)
            }
            f = sigmoid(a["f"] + (p["p_f"] * c if peepholes else 0.0))
            i = 1.0 - f if coupled else sigmoid(a["i"] + (p["p_i"] * c if peepholes else 0.0))
            c = f * c + i * candidate(a["g"])
            h = sigmoid(a["o"] + (p["p_o"] * c if peepholes else 0.0)) * tanh(c)
            h = h @ w["weight_hr"].T if projected else h
            yield h, (h, c)

    return loop


def gru_like(keeps, reset_after, bias_of_candidate):
    def loop(x, w, p, h):
        (Wr, Wz, Wn), (Ur, Uz, Un) = split(w, "weight_ih", "weight_hh", gates=3)
        br, bz, *bn = w["bias"].split(H)
        b, b_inside = [*bn, 0.0, 0.0][:2] if bias_of_candidate else (0.0, 0.0)
        for x_t in x:
            r, z = sigmoid(x_t @ Wr.T + h @ Ur.T + br), sigmoid(x_t @ Wz.T + h @ Uz.T + bz)
            past = r * (h @ Un.T + b_inside) if reset_after else (r * h) @ Un.T
            n = tanh(x_t @ Wn.T + b + past)
            h = z * h + (1 - z) * n if keeps == "past" else (1 - z) * h + z * n
            yield h, (h,)

    return loop


def mgu(x, w, p, h):
    (Wf, Wn), (Uf, Un) = split(w, "weight_ih", "weight_hh", gates=2)
    bf, bn = w["bias"].split(H)
    for x_t in x:
        f = sigmoid(x_t @ Wf.T + h @ Uf.T + bf)
        h = (1 - f) * h + f * tanh(x_t @ Wn.T + (f * h) @ Un.T + bn)
        yield h, (h,)


def indrnn(x, w, p, h):
    for x_t in x:
        h = torch.relu(x_t @ w["weight_ih"].T + p["u"] * h + w["bias"])
        yield h, (h,)


def mingru(x, w, p, h):
    for x_t in x:
        z, n = (x_t @ w["weight_ih"].T + w["bias"]).chunk(2, -1)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * n
        yield h, (h,)


def minlstm(x, w, p, h):
    for x_t in x:
        f, i, n = (x_t @ w["weight_ih"].T + w["bias"]).chunk(3, -1)
        f, i = sigmoid(f), sigmoid(i)
        h = f / (f + i) * h + i / (f + i) * n
        yield h, (h,)


def lru(x, w, p, h_re, h_im):
    """In complex numbers, as printed."""
    h = torch.complex(h_re, h_im)
    turning = torch.exp(torch.complex(-p["log_nu"].exp(), p["log_phase"].exp()))
    gamma = torch.sqrt(1 - turning.abs() ** 2)
    B = torch.complex(*w["weight_ih"].split(H))
    C = torch.complex(w["weight_y"], -w["weight_y_2"])
    for x_t in x:
        h = turning * h + gamma * (x_t.to(B.dtype) @ B.T)
        yield (h @ C.T).real + x_t @ w["weight_y_3"].T, (h.real, h.imag)


LOOPS = {
    "rnn": vanilla(tanh),
    "rnn_relu": vanilla(torch.relu),
    "rnn_sigmoid": vanilla(sigmoid),
    "rnn_notes": pre_activation(tanh),
    "rnn_notes_relu": pre_activation(torch.relu),
    "rnn_notes_sigmoid": pre_activation(sigmoid),
    "lstm": lstm_like(),
    "lstm_notes": lstm_like(biased="ifo"),
    "lstm_sigmoid": lstm_like(candidate=sigmoid),
    "lstm_peephole": lstm_like(peepholes=True),
    "lstm_coupled": lstm_like(coupled=True),
    "lstm_projection": lstm_like(projected=True),
    "gru": gru_like("past", reset_after=True, bias_of_candidate=True),
    "gru_reset_before": gru_like("past", reset_after=False, bias_of_candidate=True),
    "gru_notes": gru_like("candidate", reset_after=True, bias_of_candidate=False),
    "mgu": mgu,
    "indrnn": indrnn,
    "mingru": mingru,
    "minlstm": minlstm,
    "lru": lru,
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_cell_is_its_equation(name):
    assert largest_error(CATALOGUE[name], LOOPS[name]) <= BOUND


LIKE = [  # with weights of the same names and shapes
    ("rnn", "rnn_relu"),
    ("rnn", "rnn_sigmoid"),
    ("rnn_notes", "rnn_notes_relu"),
    ("lstm", "lstm_sigmoid"),
]


@pytest.mark.parametrize(("name", "other"), LIKE)
def test_the_equations_are_told_apart(name, other):
    assert largest_error(CATALOGUE[other], LOOPS[name]) > 1e-3


TORCHS = {
    "rnn": nn.RNN(5, H),
    "rnn_relu": nn.RNN(5, H, nonlinearity="relu"),
    "lstm": nn.LSTM(5, H),
    "lstm_projection": nn.LSTM(5, H, proj_size=3),
    "gru": nn.GRU(5, H),
}


@pytest.mark.parametrize("name", TORCHS)
def test_the_cell_is_torchs_with_torchs_weights(name):
    cell, layer = CATALOGUE[name], TORCHS[name].double()
    given = given_to(cell)
    given.weights = {k.removesuffix("_l0"): v.detach() for k, v in layer.named_parameters()}
    seen = forward(cell, SIZES, given, biases="two")
    start = tuple(given.histories.values())
    with torch.no_grad():
        out, last = layer(given.x, start if len(start) > 1 else start[0])
    torch.testing.assert_close(seen.out, out, rtol=0, atol=BOUND)
    last = last if isinstance(last, tuple) else (last,)
    for got, want in zip(seen.histories.values(), last, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=BOUND)


# --- maps between conventions --------------------------------------------------------------------

PAIRS = {
    "tanh": ("rnn_notes", "rnn", tanh),
    "relu": ("rnn_notes_relu", "rnn_relu", torch.relu),
    "sigmoid": ("rnn_notes_sigmoid", "rnn_sigmoid", sigmoid),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pre_activations_map_to_activations(name):
    """h_t = f(a_t) at every step, with the same weights and b = 0, if h_0 = f(a_0)."""
    notes, elman, f = PAIRS[name]
    given = given_to(CATALOGUE[notes])
    seen = forward(CATALOGUE[notes], SIZES, given)
    given.histories = {"h": f(given.histories["h"])}
    given.weights |= {"bias": torch.zeros(H, dtype=torch.float64)}
    other = forward(CATALOGUE[elman], SIZES, given)
    torch.testing.assert_close(other.out, seen.out, rtol=0, atol=BOUND)
    torch.testing.assert_close(other.states["h"], f(seen.states["h"]), rtol=0, atol=BOUND)


def test_a_zero_start_is_not_a_zero_start_for_the_sigmoid():
    given = given_to(CATALOGUE["rnn_notes_sigmoid"])
    given.histories = {"h": torch.zeros_like(given.histories["h"])}
    seen = forward(CATALOGUE["rnn_notes_sigmoid"], SIZES, given)
    given.weights |= {"bias": torch.zeros(H, dtype=torch.float64)}
    from_zero = forward(CATALOGUE["rnn_sigmoid"], SIZES, given)
    given.histories = {"h": torch.full_like(given.histories["h"], 0.5)}
    from_half = forward(CATALOGUE["rnn_sigmoid"], SIZES, given)
    assert (from_zero.out - seen.out).abs().max() > 1e-3
    torch.testing.assert_close(from_half.out, seen.out, rtol=0, atol=BOUND)


def test_the_map_carries_gradients():
    """Outputs are one function of W, U and x in both conventions, so gradients are equal."""
    given = given_to(CATALOGUE["rnn_notes"])
    given.histories = {"h": torch.zeros_like(given.histories["h"])}  # tanh(0) = 0: both start there
    leaves = [given.x.requires_grad_(), *(w.requires_grad_() for w in given.weights.values())]
    found = []
    for name in ("rnn_notes", "rnn"):
        given.weights |= {"bias": torch.zeros(H, dtype=torch.float64)}
        out = forward(CATALOGUE[name], SIZES, given).out
        found.append(torch.autograd.grad((out**2).sum(), leaves))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_gru_of_the_notes_maps_to_torchs():
    """Negate the z rows; the candidate's biases are zero."""
    given = given_to(CATALOGUE["gru_notes"])
    seen = forward(CATALOGUE["gru_notes"], SIZES, given)

    def negated(w):
        r, z, *n = w.split(H)
        return torch.cat([r, -z, *n])

    r_and_z = negated(given.weights["bias"])
    bias = torch.cat([r_and_z, torch.zeros(2 * H, dtype=torch.float64)])
    given.weights = {k: negated(given.weights[k]) for k in ("weight_ih", "weight_hh")}
    given.weights["bias"] = bias
    torch.testing.assert_close(
        forward(CATALOGUE["gru"], SIZES, given).out, seen.out, rtol=0, atol=BOUND
    )


def test_lstm_of_the_notes_is_torchs_without_the_candidates_bias():
    given = given_to(CATALOGUE["lstm_notes"])
    seen = forward(CATALOGUE["lstm_notes"], SIZES, given)
    i, f, o = given.weights["bias"].split(H)
    given.weights["bias"] = torch.cat([i, f, torch.zeros(H, dtype=torch.float64), o])
    torch.testing.assert_close(
        forward(CATALOGUE["lstm"], SIZES, given).out, seen.out, rtol=0, atol=BOUND
    )


# --- what the docstrings claim -------------------------------------------------------------------


def test_a_coupled_memory_stays_within_one():
    given = given_to(CATALOGUE["lstm_coupled"])
    given.weights = {k: 50.0 * w for k, w in given.weights.items()}
    assert forward(CATALOGUE["lstm_coupled"], SIZES, given).states["c"].abs().max() <= 1.0


def test_peepholes_of_zero_are_an_lstm():
    given = given_to(CATALOGUE["lstm_peephole"])
    given.params = {k: torch.zeros_like(p) for k, p in given.params.items()}
    got = forward(CATALOGUE["lstm_peephole"], SIZES, given).out
    want = forward(CATALOGUE["lstm"], SIZES, given).out
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_the_output_gate_peeks_at_the_new_memory():
    given = given_to(CATALOGUE["lstm_peephole"])
    seen = forward(CATALOGUE["lstm_peephole"], SIZES, given)
    given.params["p_o"] = given.params["p_o"] + 1.0
    peeked = forward(CATALOGUE["lstm_peephole"], SIZES, given)
    torch.testing.assert_close(peeked.states["c"][0], seen.states["c"][0], rtol=0, atol=0)
    ratio = (peeked.out[0] / seen.out[0]).abs()
    c = seen.states["c"][0]
    assert ((ratio > 1) == (c > 0)).all()


def test_an_lru_keeps_its_size():
    """|h|^2 stays near |B x|^2 for white x: that is what gamma is for."""
    cell, sizes = CATALOGUE["lru"], Sizes(input=1, hidden=64, projection=1)
    given = draw_given(cell, sizes, steps=3000, batch=4, seed=0)
    source = torch.Generator().manual_seed(1)
    given.x = torch.randn(given.x.shape, generator=source, dtype=torch.float64)
    # Time constants from 1 to 50 steps, which 3000 steps let settle.
    given.params["log_nu"] = -torch.linspace(0.0, math.log(50.0), 64, dtype=torch.float64)
    seen = forward(cell, sizes, given)
    size = sum(s[500:].square().mean((0, 1)) for s in seen.states.values())
    b_re, b_im = given.weights["weight_ih"][:, 0].split(64)
    ratio = size / (b_re**2 + b_im**2)
    assert 0.8 < ratio.min() < ratio.max() < 1.25
