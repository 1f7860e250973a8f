"""Which stacks let the past of every layer into every layer? Gated feedback, a stack as one cell.

Layer j of L reads what layer j-1 has just made (layer 1 reads x), and its candidate sees the last
states of all layers, each through a matrix and a global reset gate. With h^0_t = x_t:

    s^j_t    = sum_i g^{i->j} U^{i->j} h^i_{t-1}
    g^{i->j} = sigmoid(w^{i->j} . h^{j-1}_t + sum_k u_k^{i->j} . h^k_{t-1})     one number a row

The gates that a layer has anyway read its own state alone. `gates` says which feedback there is:

    "all"     as above, L * L gates
    "open"    every g is one: full feedback without global gates
    "own"     g^{j->j} is one, all others zero: the ordinary stack, as `num_layers` makes it

States are h1 to hL, then c1 to cL, all of one width; what is emitted is hL. The layers' own gates
have biases, as in `gru_notes` and `lstm_notes`; with `bias=False` a layer is the paper's. Dropout
and a second direction of a layer act on the stack as a whole, not between its layers.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Literal, get_args

from throughtime.declare import Cell, affine, cell, sigmoid, tanh
from throughtime.declare.data import check_count
from throughtime.declare.surgery import made_to_order
from throughtime.declare.symbols import Symbol
from throughtime.errors import DeclarationError

Gates = Literal["all", "open", "own"]

_SOURCE = "Chung et al. 2015, arXiv:1502.02367. Differs: biases in the layers, none in global gates"


def gf_rnn(layers: int = 2, *, gates: Gates = "all") -> Cell:
    """A stack of tanh layers with gated feedback: h^j_t = tanh(W^j h^{j-1}_t + s^j_t + b^j).

    Args:
        layers: L.
        gates: Which feedback there is.

    Returns:
        One cell of L states. With `gates="own"` it is L layers of `rnn`.

    Raises:
        DeclarationError: not a whole number of layers, or another word for `gates`.

    Source:
        Chung et al. 2015, arXiv:1502.02367. Differs: the layers have biases.

    Example:
        >>> import throughtime as tt
        >>> [state.name for state in tt.cells.gf_rnn(layers=3).states]
        ['h1', 'h2', 'h3']
    """
    return _stack(gf_rnn, "h", layers, gates, _rnn)


def gf_lstm(layers: int = 2, *, gates: Gates = "all") -> Cell:
    """A stack of LSTMs with gated feedback into the candidate of the memory.

        c^j_t = f c^j_{t-1} + i tanh(W^j h^{j-1}_t + s^j_t),  h^j_t = o tanh(c^j_t)

    Args:
        layers: L.
        gates: Which feedback there is.

    Returns:
        One cell of 2 L states. With `gates="own"` it is L layers of `lstm_notes`.

    Raises:
        DeclarationError: not a whole number of layers, or another word for `gates`.

    Source:
        Chung et al. 2015, arXiv:1502.02367. Differs: i, f, o have biases.
    """
    return _stack(gf_lstm, "h c", layers, gates, _lstm)


def gf_gru(layers: int = 2, *, gates: Gates = "all") -> Cell:
    """A stack of GRUs with gated feedback into the candidate, reset after the product.

        h^j_t = (1 - z) h^j_{t-1} + z tanh(W^j h^{j-1}_t + r s^j_t)

    Args:
        layers: L.
        gates: Which feedback there is.

    Returns:
        One cell of L states. With `gates="own"` it is L layers of `gru_notes`.

    Raises:
        DeclarationError: not a whole number of layers, or another word for `gates`.

    Source:
        Chung et al. 2015, arXiv:1502.02367. Differs: r, z have biases.
    """
    return _stack(gf_gru, "h", layers, gates, _gru)


def _rnn(j: int, below: Symbol, fed_back: Symbol, _h: Symbol) -> tuple[Symbol, ...]:
    return (tanh(affine(f"a{j}", below) + fed_back),)


def _lstm(j: int, below: Symbol, fed_back: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, ...]:
    i, f, o = affine(f"i{j} f{j} o{j}", below, h)
    n = tanh(affine(f"n{j}", below, bias=False) + fed_back)
    c = sigmoid(f) * c + sigmoid(i) * n
    return sigmoid(o) * tanh(c), c


def _gru(j: int, below: Symbol, fed_back: Symbol, h: Symbol) -> tuple[Symbol, ...]:
    r, z = affine(f"r{j} z{j}", below, h)
    n = tanh(affine(f"n{j}", below, bias=False) + sigmoid(r) * fed_back)
    z = sigmoid(z)
    return ((1.0 - z) * h + z * n,)


def _fed_back(j: int, below: Symbol, past: list[Symbol], gates: Gates) -> Symbol:
    """The sum over all layers i of g^{i->j} U^{i->j} h^i_{t-1}."""
    sources = [j] if gates == "own" else range(1, len(past) + 1)
    parts = [affine(f"u{i}_{j}", past[i - 1], bias=False) for i in sources]
    if gates == "all":
        # A gate of width 1 commutes with its matrix; behind it, all matrices of h_{t-1} can be
        # multiplied at once.
        opened = [affine(f"g{i}_{j}", below, *past, bias=False, width=1) for i in sources]
        parts = [sigmoid(g) * part for g, part in zip(opened, parts, strict=True)]
    return reduce(add, parts)


def _stack(
    factory: Callable[..., Cell],
    kinds: str,
    layers: int,
    gates: Gates,
    layer: Callable[..., tuple[Symbol, ...]],
) -> Cell:
    name = factory.__name__
    check_count(f"{name}: layers", layers, 1)
    if gates not in get_args(Gates):
        expected = ", ".join(map(repr, get_args(Gates)))
        raise DeclarationError(f"{name}: gates is {gates!r}; expected one of {expected}.")
    states = [[f"{kind}{j}" for kind in kinds.split()] for j in range(1, layers + 1)]
    by_kind = [state for kind in zip(*states, strict=True) for state in kind]

    called = made_to_order(factory, layers=layers, gates=gates)

    @cell(by_kind, emit=lambda **new: new[f"h{layers}"], name=called, source=_SOURCE)
    def stacked(x: Symbol, **given: Symbol) -> list[Symbol]:
        past = [given[own[0]] for own in states]
        below, new = x, {}
        for j, own in enumerate(states, 1):
            fed_back = _fed_back(j, below, past, gates)
            made = layer(j, below, fed_back, *(given[state] for state in own))
            new |= dict(zip(own, made, strict=True))
            below = made[0]
        return [new[state] for state in by_kind]

    return stacked
