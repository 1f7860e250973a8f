"""Which calls want layers and nothing else? Those reach the engine by the shortest way.

In a call of few steps, looking after lengths, resets, extras, options and autocast costs more than
the recurrence. Where there are none, `plain` does what `Recurrent.forward` would do, and no more.
Whatever is unusual or wrong about a call is none of its business: it leaves that call to `forward`.
"""

from typing import Any

import torch
from torch import Tensor

from throughtime.engine.function import eager, is_eager
from throughtime.engine.job import Inputs
from throughtime.engine.torch_internals import autocast_active
from throughtime.nn.runs import Run, tensors
from throughtime.nn.stack import Stack
from throughtime.nn.states import LayerState

__all__ = ["plain"]


def plain(stack: Stack, x: Any, hx: Any) -> tuple[Tensor, Any] | None:
    """Call layers without lengths, resets, extras or states of every step.

    Args:
        stack: The layers.
        x: What came as the input.
        hx: What came as the state before the first step.

    Returns:
        The output and the last state; None if it takes `Recurrent.forward` to do or to refuse this.

    Shape:
        x: [T, B, I], or [B, T, I] with batch_first
    """
    own = vars(stack)
    if torch.compiler.is_compiling() or not is_eager() or autocast_active() or not _bare(own):
        return None
    runs: list[Run] = own["_runs"]
    weights = _tensors(stack, runs[0].names.weights)
    if not _fits(x, weights[0], own["input_size"]):
        return None
    if own["batch_first"]:
        x = x.transpose(0, 1)
    start = _start(stack, hx, x.shape[1], weights[0])
    return None if start is None else _through(stack, x, start)


def _bare(own: dict[str, Any]) -> bool:
    """Whether nothing stands between the layers, their tensors and the engine."""
    run = own["_runs"][0]
    if own["omega"] or own["activation_l1"] or own["_joined"] or own.get("recompute"):
        return False
    if run.masks or run.names.initial or own["cell"].extras or own.get("observer") is not None:
        return False
    return not (own["training"] and (own["dropout"] or own["weight_drop"]))


def _fits(x: Any, weight: Tensor, features: int) -> bool:
    """Whether an input is a batch of the layer's features, in the weights' dtype and place."""
    if type(x) is not Tensor:
        return False
    shape, dtype = x.shape, x.dtype
    known = len(shape) == 3 and shape[2] == features
    return known and dtype == weight.dtype and dtype.is_floating_point and x.device == weight.device


def _start(stack: Stack, hx: Any, rows: int, like: Tensor) -> list[LayerState] | None:
    """The states before the first step, each [D, B, w]; None if hx needs to be looked at."""
    if hx is None:
        return [_declared(run, rows, like) for run in vars(stack)["_runs"]]
    return vars(stack)["_layout"].split_plain(hx, rows, like)


def _declared(run: Run, rows: int, like: Tensor) -> LayerState:
    """The declared state of one layer and direction; fresh, since a caller may write to states."""
    job = run.jobs[False, None]
    depth, pairs = job.cell.depth, zip(job.cell.states, job.state_sizes(), strict=True)
    return tuple([
        like.new_full((depth, rows, width), state.initial)
        if state.initial
        else like.new_zeros(depth, rows, width)
        for state, width in pairs
    ])


def _through(stack: Stack, x: Tensor, start: list[LayerState]) -> tuple[Tensor, Any]:
    """Run all layers, one after the other."""
    own, last = vars(stack), []
    runs, engine, directions = own["_runs"], own["engine"], 1 + own["bidirectional"]
    for first in range(0, len(runs), directions):
        outputs = []
        for place in range(first, first + directions):
            run = runs[place]
            weights = _tensors(stack, run.names.weights)
            params = _tensors(stack, run.names.params)
            inputs = Inputs(x, start[place], (), weights, params, ())
            out, *states = eager(run.jobs[False, None], inputs, engine)
            outputs.append(out)
            last.append(tuple(states))
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    return x.transpose(0, 1) if own["batch_first"] else x, own["_layout"].join(last)


def _tensors(stack: Stack, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """As `tensors`, at once where all of them are plain parameters."""
    try:
        return tuple(map(vars(stack)["_parameters"].__getitem__, names))
    except KeyError:  # bounded, parametrised, or a buffer
        return tensors(stack, names)
