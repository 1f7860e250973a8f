"""Which gated cells normalise their pre-activations? LSTM and GRU with layer norm.

What x brings and what the past brings is normalised apart, over all units of all gates that one
matrix makes, and scaled by a gain a unit:

    N(a) = (a - mean(a)) / sqrt(var(a) + 1e-5)
    LN(a) = gain N(a) + shift

Products have no biases: what these do, shifts do after the norm. Gains start at one, shifts at
zero. Where the state is all zero, as at the start, N(U h) is zero and its derivative by h is that
of the product over sqrt(1e-5).
"""

from collections.abc import Iterable
from functools import reduce
from operator import add

from throughtime.declare import Param, affine, cell, layer_norm, row_mean, sigmoid, sqrt, tanh
from throughtime.declare.symbols import Symbol

_BA = "Ba et al. 2016, arXiv:1607.06450"
_EPS = 1e-5  # under the root, as in their code


def _mean(parts: Iterable[Symbol]) -> Symbol:
    found = [row_mean(part) for part in parts]
    return reduce(add, found) / float(len(found))


def _normal(*parts: Symbol) -> list[Symbol]:
    """Several vectors of one width, normalised as one long vector."""
    mean = _mean(parts)
    centred = [part - mean for part in parts]
    scale = sqrt(_mean(part * part for part in centred) + _EPS)
    return [part / scale for part in centred]


def _params(gains: str, shifts: str) -> tuple[Param, ...]:
    gain = [Param(f"gain_{name}", 1.0) for name in gains.split()]
    return (*gain, *(Param(f"shift_{name}") for name in shifts.split()))


@cell(
    "h c",
    params=_params("ih_i ih_f ih_g ih_o hh_i hh_f hh_g hh_o c", "i f g o c"),
    source=f"{_BA}, eq. 20-22. Differs: one shift a gate where theirs has three that add up",
)
def lstm_layer_norm(x: Symbol, h: Symbol, c: Symbol, **p: Symbol) -> tuple[Symbol, Symbol]:
    """(i f g o) = gain_ih N(W x_t) + gain_hh N(U h_{t-1}) + shift; h_t = o tanh(LN(c_t)).

    c_t = f c_{t-1} + i tanh(g) is carried as it is: the norm stands only before the output.
    """
    of_x = _normal(*affine("i_x f_x g_x o_x", x, bias=False))
    of_h = _normal(*affine("i_h f_h g_h o_h", h, bias=False))
    i, f, g, o = (
        p[f"gain_ih_{gate}"] * a + p[f"gain_hh_{gate}"] * b + p[f"shift_{gate}"]
        for gate, a, b in zip("ifgo", of_x, of_h, strict=True)
    )
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(layer_norm(c, p["gain_c"], p["shift_c"], _EPS)), c


@cell(
    "h",
    params=_params("ih_r ih_z ih_n hh_r hh_z hh_n", "r z ih_n hh_n"),
    source=f"{_BA}. Differs: one shift a gate where theirs has two that add up; z keeps the past, "
    "as in their code",
)
def gru_layer_norm(x: Symbol, h: Symbol, **p: Symbol) -> Symbol:
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(LN(W_n x_t) + r LN(U_n h_{t-1})).

    (r z) = gain_ih N(W x_t) + gain_hh N(U h_{t-1}) + shift, both gates normalised as one vector.
    """
    of_x = _normal(*affine("r_x z_x", x, bias=False))
    of_h = _normal(*affine("r_h z_h", h, bias=False))
    r, z = (
        sigmoid(p[f"gain_ih_{gate}"] * a + p[f"gain_hh_{gate}"] * b + p[f"shift_{gate}"])
        for gate, a, b in zip("rz", of_x, of_h, strict=True)
    )
    n_x = layer_norm(affine("n_x", x, bias=False), p["gain_ih_n"], p["shift_ih_n"], _EPS)
    n_h = layer_norm(affine("n_h", h, bias=False), p["gain_hh_n"], p["shift_hh_n"], _EPS)
    return (1.0 - z) * tanh(n_x + r * n_h) + z * h
