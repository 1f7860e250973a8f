"""What are the equations, for somebody who knows nothing of graphs? Five cells in plain torch.

Every row is looped over by itself, step by step, in Python: nothing of the package is used here.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CELLS", "HandWritten", "run"]

Past = dict[str, list[Tensor]]  # of each state its last values, newest last
Weights = dict[str, Tensor]


class HandWritten(NamedTuple):
    """A cell: its states, its longest delay, its step, what it emits."""

    states: tuple[str, ...]
    depth: int
    step: Callable[[Weights, Tensor, Past], tuple[Tensor, ...]]
    emit: Callable[[Weights, Tensor, tuple[Tensor, ...]], Tensor]


def hidden(w: Weights, x: Tensor, new: tuple[Tensor, ...]) -> Tensor:
    return new[0]


def lstm(w: Weights, x: Tensor, past: Past) -> tuple[Tensor, ...]:
    h, c = past["h"][-1], past["c"][-1]
    units = h.shape[0]
    a = w["weight_ih"] @ x + w["weight_hh"] @ h + w["bias"]
    i, f = torch.sigmoid(a[:units]), torch.sigmoid(a[units : 2 * units])
    g, o = torch.tanh(a[2 * units : 3 * units]), torch.sigmoid(a[3 * units :])
    c = f * c + i * g
    return o * torch.tanh(c), c


def gru(w: Weights, x: Tensor, past: Past) -> tuple[Tensor, ...]:
    h = past["h"][-1]
    units = h.shape[0]
    on_x, on_h, bias = w["weight_ih"] @ x, w["weight_hh"] @ h, w["bias"]
    r = torch.sigmoid(on_x[:units] + on_h[:units] + bias[:units])
    z = torch.sigmoid((on_x + on_h + bias[: 3 * units])[units : 2 * units])
    n_x = on_x[2 * units :] + bias[2 * units : 3 * units]
    n_h = on_h[2 * units :] + bias[3 * units :]
    return ((1 - z) * torch.tanh(n_x + r * n_h) + z * h,)


def gru_reset_before(w: Weights, x: Tensor, past: Past) -> tuple[Tensor, ...]:
    h = past["h"][-1]
    units = h.shape[0]
    u_r, u_z, u_n = w["weight_hh"].split(units)
    a_r, a_z, a_n = (w["weight_ih"] @ x + w["bias"]).split(units)
    r, z = torch.sigmoid(a_r + u_r @ h), torch.sigmoid(a_z + u_z @ h)
    return ((1 - z) * torch.tanh(a_n + u_n @ (r * h)) + z * h,)


def delayed(w: Weights, x: Tensor, past: Past) -> tuple[Tensor, ...]:
    h = past["h"]
    a = w["weight_ih"] @ x + w["weight_hh"] @ h[-1] + w["weight_hh_2"] @ h[-3] + w["bias"]
    return (torch.tanh(a) + 0.3 * h[-2],)


def emitting(w: Weights, x: Tensor, past: Past) -> tuple[Tensor, ...]:
    units = past["h"][-1].shape[0]
    a = w["weight_ih"] @ x + w["weight_hh"] @ past["h"][-1] + w["bias"][:units]
    return (torch.sigmoid(a + w["skew"]),)


def emit_three(w: Weights, x: Tensor, new: tuple[Tensor, ...]) -> Tensor:
    h = new[0]
    units = h.shape[0]
    y = w["weight_y"] @ h + w["weight_y_2"] @ x + w["bias"][units : units + 2]
    z = torch.tanh(w["weight_z"] @ (w["skew"] * h) + w["bias"][units + 2 :])
    return torch.cat([y, z, h])


CELLS = {
    "lstm": HandWritten(("h", "c"), 1, lstm, hidden),
    "gru": HandWritten(("h",), 1, gru, hidden),
    "gru_reset_before": HandWritten(("h",), 1, gru_reset_before, hidden),
    "delayed": HandWritten(("h",), 3, delayed, hidden),
    "emitting": HandWritten(("h",), 1, emitting, emit_three),
}


def run(
    cell: HandWritten,
    w: Weights,
    x: Tensor,
    hx: tuple[Tensor, ...],
    lengths: list[int],
    reset: Tensor,
    *,
    reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a cell in one direction; after a reset states are 0.

    Returns:
        The output, and the last values of every state.

    Shape:
        x: [T, B, I]; hx: each [D, B, w]; reset: [T, B]; output: [T, B, O]; last: each [D, B, w]
    """
    outputs, last = [], []
    for row, length in enumerate(lengths):
        past = {s: list(h[:, row].unbind(0)) for s, h in zip(cell.states, hx, strict=True)}
        out: dict[int, Tensor] = {}
        for t in reversed(range(length)) if reverse else range(length):
            # The border that reset[t] marks lies between t - 1 and t.
            border = t + 1 if reverse else t
            if border < length and reset[border, row]:
                past = {s: [torch.zeros_like(v) for v in values] for s, values in past.items()}
            new = cell.step(w, x[t, row], past)
            for s, value in zip(cell.states, new, strict=True):
                past[s] = [*past[s][1:], value]
            out[t] = cell.emit(w, x[t, row], new)
        size = cell.emit(w, x.new_zeros(x.shape[-1]), tuple(p[-1] for p in past.values()))
        zeros = torch.zeros_like(size)
        outputs.append(torch.stack([out.get(t, zeros) for t in range(x.shape[0])]))
        last.append([torch.stack(past[s]) for s in cell.states])
    return torch.stack(outputs, 1), tuple(torch.stack(h, 1) for h in zip(*last, strict=True))
