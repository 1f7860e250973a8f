"""Which gated cells were stripped down? One gate (MGU), or no past in the gates (minGRU, minLSTM).

Where gates and candidate read x alone, they are known for all steps before the loop, and what is
left is linear in the state: h_t = a_t h_{t-1} + b_t.
"""

from throughtime.declare import affine, cell, sigmoid, tanh
from throughtime.declare.symbols import Symbol


@cell("h", source="Zhou et al. 2016, arXiv:1603.09420")
def mgu(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (1 - f) h_{t-1} + f n, n = tanh(W_n x_t + U_n (f h_{t-1}) + b); one gate does both."""
    f = sigmoid(affine("f", x, h))
    n = tanh(affine("n", x, f * h))
    return (1.0 - f) * h + f * n


@cell(
    "h", source="Feng et al. 2024, arXiv:2410.01201. Differs: the plain form, not the log-space one"
)
def mingru(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (1 - z) h_{t-1} + z n, z = sigmoid(W_z x_t + b), n = W_n x_t + b."""
    z, n = affine("z n", x)
    z = sigmoid(z)
    return (1.0 - z) * h + z * n


@cell(
    "h", source="Feng et al. 2024, arXiv:2410.01201. Differs: the plain form, not the log-space one"
)
def minlstm(x: Symbol, h: Symbol) -> Symbol:
    """h_t = (f h_{t-1} + i n) / (f + i), with f and i sigmoids, n linear, all in x_t alone."""
    f, i, n = affine("f i n", x)
    f, i = sigmoid(f), sigmoid(i)
    total = f + i
    return (f / total) * h + (i / total) * n
