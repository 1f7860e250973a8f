"""When does torch's own fused op compute a cell, and how is it called?

The three cells of torch are held as declarations, in several spellings. A job runs here if its
canonical graph equals one of them, whoever declared it. Lengths go by masking and reversal within
rows, not by packing: packing needs lengths on the host, refuses zero and leaves oneDNN. A reset
mask cuts the sequence into pieces, one call each, at the steps before which any row is reset.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.declare import Cell, State, affine, cell, match, relu, sigmoid, tanh
from throughtime.declare.graph import Node, node, rewrite, terms
from throughtime.engine.job import Inputs, Job, fresh_states, joined_rows, rows
from throughtime.engine.reference import without_autocast


def _rnn(activation: Callable[[Any], Any]) -> Cell:
    return cell("h")(lambda x, h: activation(affine("a", x, h)))


@cell("h c")
def _lstm(x: Any, h: Any, c: Any) -> Any:
    i, f, g, o = affine("i f g o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell((State("h", width="projection"), "c"))
def _projected_lstm(x: Any, h: Any, c: Any) -> Any:
    i, f, g, o = affine("i f g o", x, h)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return affine("hr", sigmoid(o) * tanh(c), bias=False, width="projection"), c


def _gru(mix: Callable[[Any, Any, Any], Any]) -> Cell:
    def step(x: Any, h: Any) -> Any:
        r, z = affine("r z", x, h)
        n = tanh(affine("n_x", x) + sigmoid(r) * affine("n_h", h))
        return mix(sigmoid(z), n, h)

    return cell("h")(step)


class Fused(NamedTuple):
    """One of torch's cells in one spelling.

    Attributes:
        spelling: The cell as a declaration.
        function: torch's op.
        on_x, on_h: The gates whose rows stand in weight_ih and weight_hh, in torch's order.
        hold: For each gate of `on_x` what its pre-activation gets past a row's end, so that the
            cell state is held exactly: forget gate 1, input gate 0. None: there is no cell state.
        project: The gate of a projection.
        steps: How many steps it takes on the CPU, in inference and in training, until its work
            between them costs what a fused kernel's call costs more than this one's. Measured
            (bench/NOTES.md, "Which engine"); batch and units hardly move it.
    """

    spelling: Cell
    function: Callable[..., tuple[Tensor, ...]]
    on_x: tuple[str, ...]
    on_h: tuple[str, ...]
    hold: tuple[float, ...] | None = None
    project: str | None = None
    steps: tuple[int, int] = (16, 10)


_SATURATED = 1e4  # sigmoid of it is 0 or 1 exactly, in every dtype from float16 up
_LSTM_GATES = ("i", "f", "g", "o")
_LSTM_HOLD = (-_SATURATED, _SATURATED, 0.0, 0.0)
_GRU_GATES = (("r", "z", "n_x"), ("r", "z", "n_h"))
FUSED = (
    Fused(_rnn(tanh), torch.rnn_tanh, ("a",), ("a",), steps=(9, 3)),
    Fused(_rnn(relu), torch.rnn_relu, ("a",), ("a",), steps=(9, 3)),
    Fused(_lstm, torch.lstm, _LSTM_GATES, _LSTM_GATES, _LSTM_HOLD),
    Fused(_projected_lstm, torch.lstm, _LSTM_GATES, _LSTM_GATES, _LSTM_HOLD, "hr"),
    Fused(_gru(lambda z, n, h: (1 - z) * n + z * h), torch.gru, *_GRU_GATES, steps=(2, 1)),
    Fused(_gru(lambda z, n, h: n + z * (h - n)), torch.gru, *_GRU_GATES, steps=(2, 1)),
    Fused(_gru(lambda z, n, h: n - z * n + z * h), torch.gru, *_GRU_GATES, steps=(2, 1)),
)


@dataclass(frozen=True)
class Found:
    """A job that torch's op computes: the op, and the job's gate for each of torch's."""

    fused: Fused
    gates: dict[str, str]
    matrices: dict[tuple[str, str], tuple[int, slice]]
    biases: dict[str, list[tuple[int, slice]]]


def _all_biased(declared: Cell) -> Cell:
    """The cell with a bias at every gate but a projection; a missing one is passed as zeros."""

    def biased(n: Node) -> Node:
        inner = n.op == "affine" and all(t.kind == "inner" for t in terms(n))
        if n.op != "affine" or inner:
            return n
        return node("affine", *n.args, data=(n.data[0], True, n.data[2]), width=n.width)

    new = rewrite(declared.new, biased)
    return replace(declared, new=new)


def _find(job: Job) -> Found | None:
    """The torch cell of a job, looked up once and kept with the job."""
    if "vendor" not in job.memo:
        job.memo["vendor"] = _matched(job)
    return job.memo["vendor"]


def _matched(job: Job) -> Found | None:
    biased = _all_biased(job.cell)
    for fused in FUSED:
        gates = match(fused.spelling, biased)
        if gates is not None:
            break
    else:
        return None
    matrices: dict[tuple[str, str], tuple[int, slice]] = {}
    biases: dict[str, list[tuple[int, slice]]] = {}
    for index, slot in enumerate(job.slots):
        for piece, part in rows(job, slot):
            if piece.place is None:
                biases.setdefault(piece.gate, []).append((index, part))
            else:
                kind = terms(job.cell.affines[piece.gate])[piece.place].kind
                matrices[piece.gate, kind] = (index, part)
    return Found(fused, gates, matrices, biases)


def refusal(job: Job, inputs: Inputs | None = None) -> str | None:
    """Why torch's op cannot do a job; None if it can."""
    found = _find(job)
    if found is None:
        return f"the equations of {job.cell.name} are not those of torch's RNN, LSTM or GRU"
    if job.all_states and len(job.cell.states) > 1:
        return "torch's op does not return the cell state of every step"
    if inputs is None:
        return None
    if inputs.x.shape[0] == 0:
        return "torch's op refuses sequences of no steps"
    if job.products and inputs.x.device.type == "cpu":
        return "torch's op on the CPU does not keep states in float32 under autocast"
    return None


def pays_up_to(job: Job, *, training: bool) -> int:
    """The number of steps below which torch's op is the fastest on the CPU."""
    found = _find(job)
    return found.fused.steps[training] if found else 0


def sequence(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run a cell over a sequence with torch's fused op; as `reference.sequence`."""
    found = _find(job)
    if found is None:
        raise AssertionError("the dispatch asked for a job that `refusal` refuses")
    with without_autocast(inputs.x):
        run = _run if inputs.reset is None else _run_pieces
        outputs = run(job, found, _rounded(job, inputs))
    if job.products:
        dtype = inputs.states[0].dtype
        outputs = (outputs[0], *[state.to(dtype) for state in outputs[1:]])
    return outputs


def _rounded(job: Job, inputs: Inputs) -> Inputs:
    """Under autocast on a GPU the fused op itself works in the lower dtype."""
    if not job.products:
        return inputs
    dtype = getattr(torch, job.products)

    def rounded(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(t.to(dtype) for t in tensors)

    return inputs._replace(
        x=inputs.x.to(dtype),
        states=rounded(inputs.states),
        initial=rounded(inputs.initial),
        weights=rounded(inputs.weights),
    )


def _run(job: Job, found: Found, inputs: Inputs) -> tuple[Tensor, ...]:
    x, order, ended = inputs.x, None, None
    if inputs.lengths is not None:
        steps = torch.arange(x.shape[0], device=x.device)[:, None]
        lengths = inputs.lengths.to(x.device)
        ended = (steps >= lengths).unsqueeze(-1)
        x = torch.where(ended, x.new_zeros(()), x)
        order = torch.where(ended[..., 0], steps, lengths - 1 - steps).unsqueeze(-1)
    if job.reverse:
        x = _reversed(x, order)
    out, *final = _call(found, x, ended, inputs)
    if ended is not None:
        final = [_last(out, inputs.states[0], ended), *final[1:]]
        out = torch.where(ended, out.new_zeros(()), out)
    if job.reverse:
        out = _reversed(out, order)
    every = (out.clone(),) if job.all_states else ()
    return (out, *final, *every)


def _run_pieces(job: Job, found: Found, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run piece by piece, each from one reset of any row to the next."""
    steps, fresh, states = inputs.x.shape[0], fresh_states(job, inputs), inputs.states
    reset = _real_resets(inputs)
    cuts = reset.any(1)
    cuts[0] = True  # where the first piece starts, whether or not a row is reset there
    starts = cuts.nonzero().flatten().tolist()
    pieces = list(zip(starts, [*starts[1:], steps], strict=True))
    found_outputs: list[tuple[Tensor, ...]] = []
    for start, stop in reversed(pieces) if job.reverse else pieces:
        border = stop if job.reverse else start  # the border that is crossed into this piece
        if border < steps:
            rows = reset[border].unsqueeze(-1)
            states = tuple(torch.where(rows, f, s) for f, s in zip(fresh, states, strict=True))
        outputs = _run(job, found, _piece(inputs, states, start, stop))
        states = outputs[1 : 1 + len(states)]
        found_outputs.append((outputs[0], *outputs[1 + len(states) :]))
    ordered = reversed(found_outputs) if job.reverse else found_outputs
    out, *every = (torch.cat(parts) for parts in zip(*ordered, strict=True))
    return (out, *states, *every)


def _real_resets(inputs: Inputs) -> Tensor:
    """The reset mask without resets at or past a row's length. [T, B]."""
    reset = inputs.reset
    if reset is None:
        raise AssertionError("only a call with a reset mask runs in pieces")
    if inputs.lengths is None:
        return reset
    steps = torch.arange(reset.shape[0], device=reset.device)[:, None]
    return reset & (steps < inputs.lengths.to(reset.device))


def _piece(inputs: Inputs, states: tuple[Tensor, ...], start: int, stop: int) -> Inputs:
    """The inputs of the steps from start to stop."""
    lengths = inputs.lengths
    if lengths is not None:
        lengths = (lengths - start).clamp(0, stop - start)
    return inputs._replace(x=inputs.x[start:stop], states=states, lengths=lengths, reset=None)


def _reversed(a: Tensor, order: Tensor | None) -> Tensor:
    """The steps backwards, within each row's length."""
    return a.flip(0) if order is None else a.gather(0, order.expand_as(a))


def _last(out: Tensor, start: Tensor, ended: Tensor) -> Tensor:
    """The hidden state at the last real step; the first one for an empty row. [1, B, w]."""
    lengths = (~ended).sum(0, keepdim=True)
    last = out.gather(0, (lengths - 1).clamp(min=0).expand(1, *out.shape[1:]))
    return torch.where(lengths > 0, last, start)


def _call(found: Found, x: Tensor, ended: Tensor | None, inputs: Inputs) -> tuple[Tensor, ...]:
    fused = found.fused
    on_x = _matrix(found, fused.on_x, "input", inputs.weights)
    on_h = _matrix(found, fused.on_h, "recurrent", inputs.weights)
    if ended is not None and fused.hold is not None:
        # One more input, 1 past the end, whose column saturates the gates: c is held exactly.
        x = torch.cat([x, ended.to(x.dtype).expand(*x.shape[:2], 1)], -1)
        units = on_x.size(0) // len(fused.on_x)
        column = torch.tensor(fused.hold, dtype=on_x.dtype, device=on_x.device)
        on_x = torch.cat([on_x, column.repeat_interleave(units)[:, None]], -1)
    weights = [on_x, on_h]
    if found.biases:
        weights += _biases(found, inputs.weights, on_x)
    if fused.project:
        weights.append(_matrix(found, (fused.project,), "inner", inputs.weights))
    states = list(inputs.states)
    hx = states if len(states) > 1 else states[0]
    # train=True always: cuDNN's backward exists only then; with dropout 0 nothing else changes.
    return fused.function(x, hx, weights, bool(found.biases), 1, 0.0, True, False, False)  # noqa: FBT003 (torch's order)


def _matrix(found: Found, gates: tuple[str, ...], kind: str, weights: tuple[Tensor, ...]) -> Tensor:
    """A matrix with its gates in torch's order; the tensor itself where it is so already."""
    where = [found.matrices[found.gates[gate], kind] for gate in gates]
    indices = {index for index, _ in where}
    if len(indices) == 1:
        return joined_rows(weights[indices.pop()], [part for _, part in where])
    return torch.cat([weights[index][part] for index, part in where])


def _biases(found: Found, weights: tuple[Tensor, ...], like: Tensor) -> list[Tensor]:
    """Torch's two biases; what a cell lacks is zero."""
    units = like.size(0) // len(found.fused.on_x)
    left = {gate: list(found.biases.get(found.gates[gate], [])) for gate in found.gates}
    both: list[Tensor] = []
    for gates in (found.fused.on_x, found.fused.on_h):
        where = [left[gate].pop(0) if left[gate] else None for gate in gates]
        known = [w for w in where if w is not None]
        indices = {index for index, _ in known}
        if len(known) == len(gates) and len(indices) == 1:
            both.append(joined_rows(weights[indices.pop()], [part for _, part in known]))
        else:
            zeros = like.new_zeros(units)
            both.append(torch.cat([zeros if w is None else weights[w[0]][w[1]] for w in where]))
    return both
