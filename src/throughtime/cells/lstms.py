"""Which cells keep their memory behind an input and a forget gate? The LSTM and its variants.

All share the cell path c_t = f c_{t-1} + i g and the output h_t = o tanh(c_t), products taken
unit by unit. i, f, o are the sigmoids of pre-activations W x_t + U h_{t-1} + b; what varies is the
candidate g, what the gates see, and what is carried on. Gates stand in torch's order, i f g o.
"""

from throughtime.declare import Param, State, affine, cell, sigmoid, tanh
from throughtime.declare.symbols import Symbol

_LSTM = "Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000"


@cell("h c", source=f"{_LSTM}; as torch.nn.LSTM")
def lstm(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """Candidate g = tanh(W_g x_t + U_g h_{t-1} + b_g)."""
    i, f, g, o = affine("i f g o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell("h c", source=f"{_LSTM}. Differs: the candidate has no bias, as lecture notes print it")
def lstm_notes(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """Candidate g = tanh(W_g x_t + U_g h_{t-1}); the gates keep their biases."""
    i, f = affine("i f", x, h)
    g = affine("g", x, h, bias=False)
    o = affine("o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell("h c", source="Goodfellow et al. 2016, eq. 10.40-10.44")
def lstm_sigmoid(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """Candidate g = sigmoid(W_g x_t + U_g h_{t-1} + b_g), never negative."""
    i, f, g, o = affine("i f g o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * sigmoid(g)
    return sigmoid(o) * tanh(c), c


@cell(
    "h c",
    params=(Param("p_i"), Param("p_f"), Param("p_o")),
    source="Gers & Schmidhuber 2000; Gers et al. 2002. Differs: tanh for both squashing functions, "
    "as ONNX's LSTM; gradients are not truncated",
)
def lstm_peephole(
    x: Symbol, h: Symbol, c: Symbol, p_i: Symbol, p_f: Symbol, p_o: Symbol
) -> tuple[Symbol, Symbol]:
    """Gates i and f also see p c_{t-1}; o sees p_o c_t, the memory just written."""
    i, f, g, o = affine("i f g o", x, h)
    i, f = sigmoid(i + p_i * c), sigmoid(f + p_f * c)
    c = f * c + i * tanh(g)
    return sigmoid(o + p_o * c) * tanh(c), c


@cell(
    "h c", source="Greff et al. 2017, arXiv:1503.04069, CIFG. Differs: f kept, not i; no peepholes"
)
def lstm_coupled(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """Gate i = 1 - f: the memory is a convex mix, so it stays in [-1, 1] if it starts there."""
    f, g, o = affine("f g o", x, h)
    f = sigmoid(f)
    c = f * c + (1.0 - f) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell(
    (State("h", width="projection"), "c"),
    source="Sak et al. 2014, arXiv:1402.1128; as torch.nn.LSTM with proj_size. Differs from the "
    "paper: no peepholes, no projection beside the recurrent one",
)
def lstm_projection(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """h_t = P (o tanh(c_t)), with fewer units than the memory."""
    i, f, g, o = affine("i f g o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return affine("hr", sigmoid(o) * tanh(c), bias=False, width="projection"), c
