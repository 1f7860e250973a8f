"""Which recurrences have one matrix, one nonlinearity and no gate? Both conventions of the RNN.

The state is the activation (`rnn`: Elman, torch, Goodfellow et al.) or the pre-activation
(`rnn_notes`: Pascanu et al.):

    activation       h_t = f(W x_t + U h_{t-1} + b)       emits h_t
    pre-activation   a_t = W x_t + U f(a_{t-1})           emits f(a_t)

They are one network. With the same weights, b = 0 and h_0 = f(a_0), the map

    h_t = f(a_t)

holds at every step, so outputs and the gradients of W, U and x are equal. From pre-activations to
activations the map always exists; back only where f can be inverted. Two things to mind: a zero
start a_0 = 0 is the start h_0 = f(0), which is 1/2 for the sigmoid; and step Jacobians are
U diag(f'(a_{t-1})) here, diag(f'(a_t)) U there, so their norms over finite lags differ while the
Lyapunov exponents agree.
"""

from throughtime.declare import affine, cell, relu, sigmoid, tanh
from throughtime.declare.symbols import Symbol

_ELMAN = "Elman 1990; Goodfellow et al. 2016, eq. 10.8-10.9"
_PASCANU = "Pascanu et al. 2013, arXiv:1211.5063, eq. 2. Differs: no bias"


@cell("h", source=_ELMAN)
def rnn(x: Symbol, h: Symbol) -> Symbol:
    """h_t = tanh(W x_t + U h_{t-1} + b)."""
    return tanh(affine("a", x, h))


@cell("h", source=f"{_ELMAN}. Differs: relu, as Le et al. 2015, arXiv:1504.00941")
def rnn_relu(x: Symbol, h: Symbol) -> Symbol:
    """h_t = max(0, W x_t + U h_{t-1} + b)."""
    return relu(affine("a", x, h))


@cell("h", source=f"{_ELMAN}. Differs: the logistic sigmoid")
def rnn_sigmoid(x: Symbol, h: Symbol) -> Symbol:
    """h_t = sigmoid(W x_t + U h_{t-1} + b)."""
    return sigmoid(affine("a", x, h))


@cell("h", emit=lambda h: tanh(h), source=_PASCANU)
def rnn_notes(x: Symbol, h: Symbol) -> Symbol:
    """h_t = W x_t + U tanh(h_{t-1}), emits tanh(h_t)."""
    return affine("a", x, tanh(h), bias=False)


@cell("h", emit=lambda h: relu(h), source=_PASCANU)
def rnn_notes_relu(x: Symbol, h: Symbol) -> Symbol:
    """h_t = W x_t + U max(0, h_{t-1}), emits max(0, h_t)."""
    return affine("a", x, relu(h), bias=False)


@cell("h", emit=lambda h: sigmoid(h), source=_PASCANU)
def rnn_notes_sigmoid(x: Symbol, h: Symbol) -> Symbol:
    """h_t = W x_t + U sigmoid(h_{t-1}), emits sigmoid(h_t)."""
    return affine("a", x, sigmoid(h), bias=False)
