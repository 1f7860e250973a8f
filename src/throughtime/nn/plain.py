"""Which calls want layers and nothing else? Those reach the engine by the shortest way.

In a call of few steps, looking after lengths, resets, extras, options and autocast costs more than
the recurrence. Where there are none, `plain` does what `Recurrent.forward` would do, and no more.
Whatever is unusual or wrong about a call is none of its business: it leaves that call to `forward`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from throughtime.engine.function import eager
from throughtime.engine.job import Inputs, Job
from throughtime.engine.torch_internals import undisturbed
from throughtime.nn.runs import tensors
from throughtime.nn.stack import Stack
from throughtime.nn.states import LayerState

__all__ = ["plain", "plain_step"]

_SMALL = 4096  # numbers that are kept: to make them costs more than a step over them


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
    if torch.compiler.is_compiling() or not undisturbed() or not _bare(own):
        return None
    weights = [_tensors(stack, run.names.weights) for run in own["_runs"]]
    like = weights[0][0]
    if not _fits(x, like, own["input_size"]):
        return None
    if own["batch_first"]:
        x = x.transpose(0, 1)
    rows = x.shape[1]
    if hx is None:
        start = [_declared(run.jobs[False, None], rows, like) for run in own["_runs"]]
    else:
        start = own["_layout"].split_plain(hx, rows, like)
    return None if start is None else _through(stack, x, start, weights)


def plain_step(
    module: nn.Module,
    job: Job,
    names: tuple[str, ...],
    x: Any,
    states: tuple[Any, ...],
    sizes: tuple[int, int],
) -> tuple[Tensor, ...] | None:
    """One step of a batch.

    Args:
        module: Owns the weights, and knows the engine.
        job: What is asked.
        names: The weights' names.
        x: What came as the input.
        states: What came as states; declared ones if all are None.
        sizes: I, H.

    Returns:
        The next states; None if it takes a closer look to do or to refuse this.

    Shape:
        x: [B, I]; states: each [B, H]
    """
    if torch.compiler.is_compiling() or not undisturbed():
        return None
    weights = _tensors(module, names)
    like = weights[0]
    if not _fits(x, like, sizes[0], rank=2):
        return None
    rows = x.shape[0]
    if all(s is None for s in states):
        lifted = _declared(job, rows, like)
    else:
        lifted = _lifted(states, (rows, sizes[1]), like)
    if lifted is None:
        return None
    inputs = Inputs(x.unsqueeze(0), lifted, (), weights, (), ())
    _, *new = eager(job, inputs, vars(module)["engine"])
    return tuple([s.squeeze(0) for s in new])


def _lifted(states: tuple[Any, ...], shape: tuple[int, int], like: Tensor) -> LayerState | None:
    """Given states [B, H] as [1, B, H]; None if one is not what it should be."""
    for s in states:
        if type(s) is not Tensor or s.shape != shape:
            return None
        if s.dtype != like.dtype or s.device != like.device:
            return None
    return tuple([s.unsqueeze(0) for s in states])


def _bare(own: dict[str, Any]) -> bool:
    """Whether nothing stands between the layers, their tensors and the engine."""
    run = own["_runs"][0]
    if own["omega"] or own["activation_l1"] or own["_joined"] or own.get("recompute"):
        return False
    if run.masks or run.names.initial or own["cell"].extras or own.get("observer") is not None:
        return False
    return not (own["training"] and (own["dropout"] or own["weight_drop"]))


def _fits(x: Any, weight: Tensor, features: int, *, rank: int = 3) -> bool:
    """Whether an input is a batch of the layer's features, in the weights' dtype and place."""
    if type(x) is not Tensor:
        return False
    shape, dtype = x.shape, x.dtype
    known = len(shape) == rank and shape[-1] == features
    return known and dtype == weight.dtype and dtype.is_floating_point and x.device == weight.device


def _declared(job: Job, rows: int, like: Tensor) -> LayerState:
    """The declared state before the first step of one layer and direction. Each [D, B, w].

    No engine writes to it or hands it out, so small ones are made once for calls that are alike.
    """
    kind = rows, like.dtype, like.device, torch.is_inference_mode_enabled()
    before = job.memo.get("declared")
    if before is not None and before[0] == kind:
        return before[1]
    pairs = zip(job.cell.states, job.state_sizes(), strict=True)
    found = tuple([like.new_full((job.cell.depth, rows, w), s.initial) for s, w in pairs])
    if like.is_cpu and sum(state.numel() for state in found) <= _SMALL:
        job.memo["declared"] = kind, found
    return found


def _through(
    stack: Stack, x: Tensor, start: list[LayerState], weights: list[tuple[Tensor, ...]]
) -> tuple[Tensor, Any]:
    """Run all layers, one after the other."""
    own, last = vars(stack), []
    runs, engine, directions = own["_runs"], own["engine"], 1 + own["bidirectional"]
    for first in range(0, len(runs), directions):
        outputs = []
        for place in range(first, first + directions):
            run = runs[place]
            params = run.names.params and _tensors(stack, run.names.params)
            inputs = Inputs(x, start[place], (), weights[place], params, ())
            out, *states = eager(run.jobs[False, None], inputs, engine)
            outputs.append(out)
            last.append(tuple(states))
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    return x.transpose(0, 1) if own["batch_first"] else x, own["_layout"].join(last)


def _tensors(module: nn.Module, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """As `tensors`, at once where all of them are plain parameters."""
    try:
        return tuple(map(vars(module)["_parameters"].__getitem__, names))
    except KeyError:  # bounded, parametrised, or a buffer
        return tensors(module, names)
