"""Which cells does the CPU bench time, and how does one write a step of each by hand?

The steps are what users write who have no engine: plain operations, the projection of the input
outside the loop, slices of matrices taken once. They read PyTorch's functions, or JAX's, from
`Ops`, so that both loops compute one thing; none of them is derived from our declarations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from throughtime.cells import CATALOGUE
from throughtime.declare import Cell, affine, cell, sigmoid, tanh
from throughtime.declare.symbols import Symbol
from throughtime.nn import GRU, LSTM, RNN, Recurrent

__all__ = ["KINDS", "Kind", "Ops", "Step", "mixing"]


class Ops(NamedTuple):
    """The functions that a step is written with.

    Attributes:
        linear: Of an input, a matrix and a bias or None: x W^T + b.
        sigmoid, tanh: Elementwise.
        split: Of an array and a number: so many equal parts along the last axis.
    """

    linear: Callable[..., Any]
    sigmoid: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    split: Callable[[Any, int], Any]


Step = Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]
"""From a projected input and the states to the next states, the output first."""

_Weights = Mapping[str, Any]


@cell("h m")
def mixing(x: Symbol, h: Symbol, m: Symbol) -> tuple[Symbol, Symbol]:
    """Nobody's cell: a memory mixed by one gate, which also opens its own output."""
    u, n, o = affine("u n o", x, h)
    keep = sigmoid(u)
    m = keep * m + (1.0 - keep) * tanh(n)
    return tanh(m) * sigmoid(o + m), m


def _rnn(ops: Ops, w: _Weights) -> Step:
    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        return (ops.tanh(x + ops.linear(state[0], w["weight_hh"], w["bias_hh"])),)

    return step


def _lstm(ops: Ops, w: _Weights) -> Step:
    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        h, c = state
        i, f, g, o = ops.split(x + ops.linear(h, w["weight_hh"], w["bias_hh"]), 4)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c

    return step


def _gru(ops: Ops, w: _Weights) -> Step:
    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        (h,) = state
        r_x, z_x, n_x = ops.split(x, 3)
        r_h, z_h, n_h = ops.split(ops.linear(h, w["weight_hh"], w["bias_hh"]), 3)
        z = ops.sigmoid(z_x + z_h)
        n = ops.tanh(n_x + ops.sigmoid(r_x + r_h) * n_h)
        return (n + z * (h - n),)

    return step


def _lstm_peephole(ops: Ops, w: _Weights) -> Step:
    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        h, c = state
        i, f, g, o = ops.split(x + ops.linear(h, w["weight_hh"], None), 4)
        i, f = ops.sigmoid(i + w["p_i"] * c), ops.sigmoid(f + w["p_f"] * c)
        c = f * c + i * ops.tanh(g)
        return ops.sigmoid(o + w["p_o"] * c) * ops.tanh(c), c

    return step


def _gru_reset_before(ops: Ops, w: _Weights) -> Step:
    hidden = w["weight_hh"].shape[1]
    gates, candidate = w["weight_hh"][: 2 * hidden], w["weight_hh"][2 * hidden :]

    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        (h,) = state
        r_x, z_x, n_x = ops.split(x, 3)
        r_h, z_h = ops.split(ops.linear(h, gates, None), 2)
        z = ops.sigmoid(z_x + z_h)
        n = ops.tanh(n_x + ops.linear(ops.sigmoid(r_x + r_h) * h, candidate, None))
        return (n + z * (h - n),)

    return step


def _mixing(ops: Ops, w: _Weights) -> Step:
    def step(x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        h, m = state
        u, n, o = ops.split(x + ops.linear(h, w["weight_hh"], None), 3)
        keep = ops.sigmoid(u)
        m = keep * m + (1.0 - keep) * ops.tanh(n)
        return ops.tanh(m) * ops.sigmoid(o + m), m

    return step


@dataclass(frozen=True)
class Kind:
    """A cell that is timed.

    Attributes:
        name: As rows call it.
        layer: Makes ours from I, H and the option engine.
        by_hand: From functions and weights (named as ours, without the layer) to a step.
        theirs: The layer of torch.nn that takes the same weights; None where there is none.
        packed: Whether rows have lengths, and torch.nn gets them packed.
    """

    name: str
    layer: Callable[..., Recurrent]
    by_hand: Callable[[Ops, _Weights], Step]
    theirs: Callable[[int, int], nn.RNNBase] | None = None
    packed: bool = False


def _declared(declared: Cell) -> Callable[..., Recurrent]:
    def layer(input_size: int, hidden_size: int, *, engine: str) -> Recurrent:
        return Recurrent(declared, input_size, hidden_size, engine=engine)

    return layer


KINDS = (
    Kind("rnn", RNN, _rnn, nn.RNN),
    Kind("lstm", LSTM, _lstm, nn.LSTM),
    Kind("gru", GRU, _gru, nn.GRU),
    Kind("lstm_packed", LSTM, _lstm, nn.LSTM, packed=True),
    Kind("lstm_peephole", _declared(CATALOGUE["lstm_peephole"]), _lstm_peephole),
    Kind("gru_reset_before", _declared(CATALOGUE["gru_reset_before"]), _gru_reset_before),
    Kind("user", _declared(mixing), _mixing),
)
"""Three that torch.nn has, one of them packed too, and three that it lacks."""
