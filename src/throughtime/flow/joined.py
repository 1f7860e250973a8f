"""How do the calls of one sequence become one passage? Their steps one after the other."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from throughtime.engine import Inputs
from throughtime.engine.steps import Steps
from throughtime.flow.calls import Call, Gradients, forward_job, plain
from throughtime.flow.loops import Carried, Changed
from throughtime.flow.passage import Passage, passage

__all__ = ["joined"]


class _Piece(NamedTuple):
    """A call in the order of its steps, with the rows that are looked at.

    Attributes:
        x, extras, every: Of the call.
        seeds: For each state what came in at each step, through `return_all_states`.
        out: What came in through the output.
        real, anew: [T, B].
    """

    x: Tensor
    extras: tuple[Tensor, ...]
    every: tuple[Tensor, ...]
    every_gradients: tuple[Tensor, ...]
    out: Tensor
    real: Tensor
    anew: Tensor


class _Run(NamedTuple):
    """How far a row has come after a call.

    Attributes:
        done: Real steps so far, [B].
        begin: The step at which it last started anew, [B].
    """

    done: Tensor
    begin: Tensor


def joined(sequence: Carried, gradients: Gradients, rows: Tensor) -> Passage:
    """The passage of one sequence.

    Args:
        sequence: Its calls, all of one layer and direction.
        gradients: Of the loss.
        rows: Which rows are looked at.

    Raises:
        Changed: the weights were not the same in all calls.
    """
    _check_weights(sequence.calls)
    rows = rows.to(sequence.calls[0].inputs.x.device)
    pieces = [_piece(call, gradients, rows) for call in sequence.calls]
    started_anew = [~rows_on[rows] for rows_on in sequence.carried]
    real = torch.cat([p.real for p in pieces])
    pieces, runs = _with_borders(pieces, started_anew)
    order = (~real).to(torch.uint8).argsort(dim=0, stable=True)  # padding last

    def along(parts: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(parts))
        return whole.gather(0, order.view(*order.shape, *[1] * (whole.dim() - 2)).expand_as(whole))

    def each(name: str) -> tuple[Tensor, ...]:
        return tuple(
            along(parts) for parts in zip(*(getattr(p, name) for p in pieces), strict=True)
        )

    first = sequence.calls[0]
    job, lengths = forward_job(first.job), real.sum(0)
    inputs = Inputs(
        x=along([p.x for p in pieces]),
        states=tuple(plain(s.index_select(1, rows)) for s in first.inputs.states),
        initial=tuple(map(plain, first.inputs.initial)),
        weights=tuple(map(plain, first.inputs.weights)),
        params=tuple(map(plain, first.inputs.params)),
        extras=each("extras"),
        lengths=lengths,
        reset=along([p.anew for p in pieces]),
    )
    ends = _ends(sequence, gradients, rows, runs, len(real))
    every = tuple(a + b for a, b in zip(each("every_gradients"), ends, strict=True))
    return passage(job, inputs, each("every"), along([p.out for p in pieces]), every)


def _check_weights(calls: Sequence[Call]) -> None:
    """One passage has one set of weights."""
    first = (*calls[0].inputs.weights, *calls[0].inputs.params)
    for number, call in enumerate(calls[1:], 2):
        own = (*call.inputs.weights, *call.inputs.params)
        if not all(a is b or torch.equal(a, b) for a, b in zip(first, own, strict=True)):
            raise Changed(
                f"its weights at call {number} of one sequence are others than at the first "
                f"(weight_drop draws anew at every call); examine it in eval mode"
            )


def _piece(call: Call, gradients: Gradients, rows: Tensor) -> _Piece:
    own = call.inputs

    def chosen(a: Tensor) -> Tensor:
        return plain(a).index_select(1, rows)

    inputs = own._replace(
        x=chosen(own.x),
        extras=tuple(map(chosen, own.extras)),
        lengths=None if own.lengths is None else own.lengths[rows],
        reset=None if own.reset is None else own.reset[:, rows],
    )
    steps = Steps(call.job, inputs)
    anew = torch.zeros_like(steps.real) if inputs.reset is None else inputs.reset & steps.real
    if call.job.reverse:  # the border before step t + 1 is met before t
        anew = torch.cat([anew[1:], torch.zeros_like(anew[:1])])

    def gradient(a: Tensor) -> Tensor:
        found = gradients.of(a)
        found = torch.zeros_like(a) if found is None else found
        return steps.in_order(chosen(found))

    return _Piece(
        x=steps.in_order(inputs.x),
        extras=tuple(map(steps.in_order, inputs.extras)),
        every=tuple(steps.in_order(chosen(s)) for s in call.every),
        every_gradients=tuple(map(gradient, call.every)),
        out=gradient(call.out),
        real=steps.real,
        anew=steps.in_order(anew),
    )


def _with_borders(
    pieces: Sequence[_Piece], started_anew: Sequence[Tensor]
) -> tuple[list[_Piece], list[_Run]]:
    """Mark the rows that start anew between two calls, at their next real step."""
    found, runs = [], []
    done = begin = torch.zeros_like(pieces[0].real.sum(0))
    waiting = torch.zeros_like(done, dtype=torch.bool)
    for piece, rows in zip(pieces, [waiting, *started_anew], strict=True):
        waiting = waiting | rows
        anew = piece.anew.clone()
        anew[:1] |= waiting & piece.real[:1]
        waiting = waiting & ~piece.real.any(0)
        step = done + torch.arange(len(anew), device=anew.device)[:, None]
        if len(anew):
            begin = torch.maximum(begin, torch.where(anew, step, 0).amax(0))
        done = done + piece.real.sum(0)
        found.append(piece._replace(anew=anew))
        runs.append(_Run(done, torch.where(waiting, done, begin)))
    return found, runs


def _ends(
    sequence: Carried, gradients: Gradients, rows: Tensor, runs: Sequence[_Run], count: int
) -> list[Tensor]:
    """For each state what came in through the last states of the calls, less what went on.

    Shape:
        each [T, B, w]
    """
    found: list[Tensor] = []
    calls = sequence.calls
    for i, state in enumerate(calls[0].job.cell.states):
        like = plain(calls[0].last[i])
        depth, width = like.shape[0], like.shape[-1]
        into = like.new_zeros(count + depth, len(rows), width)
        for number, (call, run) in enumerate(zip(calls, runs, strict=True)):
            own = _or_zeros(call.last[i], gradients)[:, rows]
            if state.clock:
                continue
            if number + 1 < len(calls):
                carried = sequence.carried[number].view(1, -1, 1)
                back = _or_zeros(calls[number + 1].inputs.states[i], gradients)
                own = own - torch.where(carried, back, 0.0)[:, rows]
            for place in range(depth):  # value `place` was made `depth - place` steps before
                step = run.done - depth + place
                index = (step + depth).view(1, -1, 1).expand(1, -1, width)
                is_own = (step >= run.begin).view(1, -1, 1)  # else from before a border
                into.scatter_add_(0, index, torch.where(is_own, own[place : place + 1], 0.0))
        found.append(into[depth:])
    return found


def _or_zeros(a: Tensor, gradients: Gradients) -> Tensor:
    found = gradients.of(a)
    return torch.zeros_like(plain(a)) if found is None else plain(found)
