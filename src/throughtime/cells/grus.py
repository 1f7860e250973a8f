"""Which cells mix the past with a candidate by one gate, and reset what the candidate sees?

Published GRUs differ in two ways, and weights of one do not fit the other:

                     what z keeps     where r acts              candidate's bias
    gru              the past         after the product         one on each side of r
    gru_reset_before the past         before the product        one
    gru_notes        the candidate    after the product         none

From `gru_notes` to `gru`: negate the z rows of W, U and b (sigmoid(-a) = 1 - sigmoid(a)) and set
the candidate's biases to zero. Gates stand in torch's order, r z n.
"""

from throughtime.declare import affine, cell, sigmoid, tanh
from throughtime.declare.symbols import Symbol


@cell("h", source="Cho et al. 2014, arXiv:1406.1078v1. Differs: biases; as torch.nn.GRU")
def gru(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(W_n x_t + b + r (U_n h_{t-1} + b'))."""
    r, z = affine("r z", x, h)
    n = tanh(affine("n_x", x) + sigmoid(r) * affine("n_h", h))
    z = sigmoid(z)
    return (1.0 - z) * n + z * h


@cell("h", source="Cho et al. 2014, arXiv:1406.1078v3, eq. 5-8. Differs: biases")
def gru_reset_before(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(W_n x_t + U_n (r h_{t-1}) + b)."""
    r, z = affine("r z", x, h)
    n = tanh(affine("n", x, sigmoid(r) * h))
    z = sigmoid(z)
    return (1.0 - z) * n + z * h


@cell("h", source="Chung et al. 2015, arXiv:1502.02367, sec. 2. Differs: the gates have biases")
def gru_notes(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (1 - z) h_{t-1} + z n, n = tanh(W_n x_t + r U_n h_{t-1})."""
    r, z = affine("r z", x, h)
    n = tanh(affine("n_x", x, bias=False) + sigmoid(r) * affine("n_h", h, bias=False))
    z = sigmoid(z)
    return (1.0 - z) * h + z * n
