"""Do cells with layer norm compute their equations? Against torch's layer norm, by hand."""

import pytest
import torch
from torch import sigmoid, tanh
from torch.nn.functional import layer_norm

import throughtime as tt
from cells.by_hand import BOUND, SIZES, H, given_to, largest_error
from graph_loop import forward
from throughtime.cells import CATALOGUE
from throughtime.testing import check_cell
from tolerances import TOLERANCE, error_to_largest


def normal(a):
    return layer_norm(a, a.shape[-1:])


def gain(p, side, gates):
    """One long vector for all gates."""
    return torch.cat([p[f"gain_{side}_{gate}"] for gate in gates])


def lstm(x, w, p, h, c):
    shift = torch.cat([p[f"shift_{gate}"] for gate in "ifgo"])
    for x_t in x:
        of_x = gain(p, "ih", "ifgo") * normal(x_t @ w["weight_ih"].T)
        of_h = gain(p, "hh", "ifgo") * normal(h @ w["weight_hh"].T)
        i, f, g, o = (of_x + of_h + shift).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(p["gain_c"] * normal(c) + p["shift_c"])
        yield h, (h, c)


def gru(x, w, p, h):
    units = h.shape[-1]
    (W, W_n), (U, U_n) = ([m[: 2 * units], m[2 * units :]] for m in w.values())
    shift = torch.cat([p["shift_r"], p["shift_z"]])
    for x_t in x:
        of_x = gain(p, "ih", "rz") * normal(x_t @ W.T)
        of_h = gain(p, "hh", "rz") * normal(h @ U.T)
        r, z = sigmoid(of_x + of_h + shift).chunk(2, -1)
        n_x = p["gain_ih_n"] * normal(x_t @ W_n.T) + p["shift_ih_n"]
        n_h = p["gain_hh_n"] * normal(h @ U_n.T) + p["shift_hh_n"]
        h = z * h + (1 - z) * tanh(n_x + r * n_h)
        yield h, (h,)


LOOPS = {"lstm_layer_norm": lstm, "gru_layer_norm": gru}


@pytest.mark.parametrize("name", LOOPS)
def test_the_cell_is_its_equation(name):
    # A norm divides by the spread of its products, 0.1 or more here: a digit more than elsewhere.
    assert largest_error(CATALOGUE[name], LOOPS[name]) <= 10 * BOUND


def test_gates_are_normalised_as_one_vector(monkeypatch):
    def by_gate(a):
        return torch.cat([layer_norm(part, (H,)) for part in a.split(H, -1)], -1)

    assert largest_error(CATALOGUE["lstm_layer_norm"], lstm) < 1e-3
    monkeypatch.setitem(globals(), "normal", by_gate)
    assert largest_error(CATALOGUE["lstm_layer_norm"], lstm) > 1e-3


@pytest.mark.parametrize("name", LOOPS)
def test_a_new_layer_starts_with_a_plain_norm(name):
    layer = tt.Recurrent(CATALOGUE[name], 3, H)
    start = {k: set(p.tolist()) for k, p in layer.named_parameters() if "weight" not in k}
    assert start
    assert all(v == {1.0 if k.startswith("gain") else 0.0} for k, v in start.items())


@pytest.mark.parametrize("name", LOOPS)
def test_gradients_from_a_zero_start_are_those_of_torchs_norm(name):
    """Where the norm of U h is zero and steepest."""
    layer = tt.Recurrent(CATALOGUE[name], 3, 5, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -1.0, 1.0)
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [s.name for s in layer.cell.states]
    hx = [torch.zeros(1, 2, 5, dtype=torch.float64, requires_grad=True) for _ in states]
    own = {k.removesuffix("_l0"): p for k, p in layer.named_parameters()}
    weights = {k: p for k, p in own.items() if k.startswith("weight")}
    out = layer(x, tuple(hx) if len(hx) > 1 else hx[0])[0]
    by_hand = torch.stack([y for y, _ in LOOPS[name](x, weights, own, *(h[0] for h in hx))])
    entering = torch.randn_like(out)
    leaves = {"x": x} | dict(zip(states, hx, strict=True)) | own
    found = [torch.autograd.grad(y, list(leaves.values()), entering) for y in (out, by_hand)]
    errors = dict(zip(leaves, map(error_to_largest, *found), strict=True))
    assert max(errors.values()) <= TOLERANCE["loop", torch.float64].bound, errors


@pytest.mark.parametrize("name", LOOPS)
def test_large_weights_saturate_no_gate(name):
    given = given_to(CATALOGUE[name])
    seen = forward(CATALOGUE[name], SIZES, given)
    given.weights = {k: 1e3 * w for k, w in given.weights.items()}
    assert (forward(CATALOGUE[name], SIZES, given).out - seen.out).abs().max() < 1e-3


@pytest.mark.parametrize("name", LOOPS)
def test_a_single_unit_has_a_norm(name):
    check_cell(CATALOGUE[name], input_size=2, hidden_size=1)
