"""Which cells are deep within one step? Layers before, between and after the hidden states.

Recurrent networks are made deep in three ways (Goodfellow et al. 2016, sec. 10.5): by stacking
recurrent layers, which is `num_layers` of a layer, by layers within the three maps of a step, and
by these with a shortcut, because a longer step is a longer path through time:

    rnn_deep_input                 x_t to h_t
    rnn_deep_transition            h_{t-1} to h_t
    rnn_deep_transition_shortcut   the same, and a matrix past the layers between
    rnn_deep_output                h_t to the output
    rhn                            h_{t-1} to h_t, with gates that carry past each layer
"""

from throughtime.declare import Cell, affine, cell, now, sigmoid, tanh
from throughtime.declare.data import check_count
from throughtime.declare.surgery import made_to_order
from throughtime.declare.symbols import Symbol

_PASCANU = "Pascanu et al. 2014, arXiv:1312.6026; Goodfellow et al. 2016, sec. 10.5"


@cell("h", source=_PASCANU)
def rnn_deep_input(x: Symbol, h: Symbol) -> Symbol:
    """h_t = tanh(V tanh(W x_t + b') + U h_{t-1} + b)."""
    return tanh(affine("a", tanh(affine("e", x)), h))


@cell("h", emit=lambda h: tanh(affine("o", h)), source=_PASCANU)
def rnn_deep_output(x: Symbol, h: Symbol) -> Symbol:
    """h_t = tanh(W x_t + U h_{t-1} + b), emits tanh(V h_t + b')."""
    return tanh(affine("a", x, h))


def rnn_deep_transition(depth: int = 2) -> Cell:
    """A tanh layer whose step from h_{t-1} to h_t has several layers.

        s_1 = tanh(W x_t + U h_{t-1} + b_1),  s_l = tanh(V_l s_{l-1} + b_l),  h_t = s_depth

    Args:
        depth: Layers of one step, from 2; with one it would be `rnn`.

    Raises:
        DeclarationError: not a whole number from 2.

    Source:
        Pascanu et al. 2014, arXiv:1312.6026, DT-RNN. Differs: x enters the first layer, without
        layers of its own.
    """
    check_count("rnn_deep_transition: depth", depth, 2)
    source = f"{_PASCANU}. Differs: x enters the first layer"

    @cell("h", name=made_to_order(rnn_deep_transition, depth=depth), source=source)
    def transition(x: Symbol, h: Symbol) -> Symbol:
        s = tanh(affine("a1", x, h))
        for layer in range(2, depth + 1):
            s = tanh(affine(f"a{layer}", s))
        return s

    return transition


def rnn_deep_transition_shortcut(depth: int = 2) -> Cell:
    """A deep transition with a matrix from h_{t-1} to the last layer, past all others.

        s_1, .., s_{depth-1} as in `rnn_deep_transition`
        h_t = tanh(V s_{depth-1} + R h_{t-1} + b)

    The shortest path from h_{t-1} to h_t then has one nonlinearity, as in `rnn`.

    Args:
        depth: Layers of one step, from 2; with one there is nothing to pass.

    Raises:
        DeclarationError: not a whole number from 2.

    Source:
        Pascanu et al. 2014, arXiv:1312.6026, DT(S)-RNN. Differs: x enters the first layer alone.
    """
    check_count("rnn_deep_transition_shortcut: depth", depth, 2)
    source = f"{_PASCANU}. Differs: x enters the first layer alone"

    @cell("h", name=made_to_order(rnn_deep_transition_shortcut, depth=depth), source=source)
    def transition(x: Symbol, h: Symbol) -> Symbol:
        s = tanh(affine("a1", x, h))
        for layer in range(2, depth):
            s = tanh(affine(f"a{layer}", s))
        return tanh(affine(f"a{depth}", s, h))

    return transition


def rhn(depth: int = 2) -> Cell:
    """A recurrent highway: several layers a step, each mixing what it makes with what it reads.

        s_l = t_l tanh(a_l) + (1 - t_l) s_{l-1},  s_0 = h_{t-1},  h_t = s_depth

    a_l and the argument of the gate t_l are pre-activations of s_{l-1}, in the first layer of x_t
    too.

    Args:
        depth: Layers of one step.

    Raises:
        DeclarationError: not a whole number from 1.

    Source:
        Zilly et al. 2017, arXiv:1607.03474, with their coupled carry gate c = 1 - t. Differs: the
        biases of t start as all others do.
    """
    check_count("rhn: depth", depth, 1)

    @cell(
        "h",
        name=made_to_order(rhn, depth=depth),
        source="Zilly et al. 2017, arXiv:1607.03474; carry gate c = 1 - t",
    )
    def highway(x: Symbol, h: Symbol) -> Symbol:
        t, a = affine("t1 a1", x, h)
        s = _highway(t, a, h)
        for layer in range(2, depth + 1):
            # s holds the past unit by unit; now() keeps delays to the first layer's matrices.
            t, a = affine(f"t{layer} a{layer}", now(s))
            s = _highway(t, a, s)
        return s

    return highway


def _highway(t: Symbol, a: Symbol, s: Symbol) -> Symbol:
    t = sigmoid(t)
    return t * tanh(a) + (1.0 - t) * s
