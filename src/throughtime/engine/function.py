"""Through which door does a call reach its engine?

1. A torch.func transform or a forward-mode level is active: the reference, inline.
2. torch.compile, export or a dispatch mode is at work: the library op of `engine.operators`.
3. Plain eager: the reference inline, or a fused engine behind an `autograd.Function`, whose
   backward is the engine's, and the reference's where derivatives of derivatives are asked for.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from throughtime.engine import reference
from throughtime.engine.dispatch import REFERENCE, Engine, choose
from throughtime.engine.interleave import strands_of
from throughtime.engine.job import Inputs, Job, learns, unflatten
from throughtime.engine.pullback import Linearised, pulled_back, recomputed, recorded
from throughtime.engine.torch_internals import (
    dispatch_mode_active,
    is_batched,
    keeps_graph,
    transform_active,
)


def run(
    job: Job, inputs: Inputs, engine: str = "auto", *, recompute: bool = False
) -> tuple[Tensor, ...]:
    """Run a cell over a sequence.

    Args:
        job: What is asked.
        inputs: The tensors.
        engine: "auto", or the name of the engine to use.
        recompute: Keep nothing but inputs and outputs for the backward pass, which runs the
            forward pass again. Compiled programs always do.

    Returns:
        The output, the last D values of every state, and the states of every step if asked for.

    Raises:
        EngineError: the engine named cannot do the job.
    """
    if transform_active():
        return reference.sequence(job, inputs)
    if torch.compiler.is_compiling() or dispatch_mode_active():
        # Imported where it is used: registering the ops costs 30 ms that eager code need not pay.
        from throughtime.engine import operators  # noqa: F401

        op = torch.ops.throughtime.sequence
        flat = list(inputs.flat())
        return tuple(op(flat, inputs.lengths, inputs.reset, job.text, engine))
    return eager(job, inputs, engine, recompute=recompute)


def eager(
    job: Job, inputs: Inputs, engine: str = "auto", *, recompute: bool = False
) -> tuple[Tensor, ...]:
    """The third door alone, for callers who know that they are in plain eager; as `run`."""
    chosen = choose(job, inputs, engine)
    if not torch.is_grad_enabled() or (chosen is REFERENCE and not recompute):
        return chosen.sequence(job, inputs)
    flat = inputs.flat()
    if not learns(flat):
        return chosen.sequence(job, inputs)
    way = _linearised(chosen, job, recompute=recompute)
    return _Sequence.apply(way, job, inputs, *flat)


def _linearised(engine: Engine, job: Job, *, recompute: bool) -> Linearised:
    """How an engine runs a job whose gradients will be asked for."""
    way = engine.linearised
    if way is None or strands_of(job) > 1:
        way = partial(recorded, engine.sequence)
    return partial(recomputed, engine.sequence, way) if recompute else way


class _Sequence(torch.autograd.Function):
    """A fused engine as one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any, way: Linearised, job: Job, inputs: Inputs, *flat: Any
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a zero gradient [T, B, H] costs time and memory
        ctx.job, ctx.lengths, ctx.reset = job, inputs.lengths, inputs.reset
        ctx.save_for_backward(*flat)
        outputs, ctx.pull = way(job, inputs, ctx.needs_input_grad[3:])
        if job.clocks:
            count = len(job.cell.states)
            states = enumerate(outputs[1:])
            ctx.mark_non_differentiable(*[o for i, o in states if i % count in job.clocks])
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        flat, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or any(map(is_batched, gradients)):
            found = _by_reference(ctx, flat, wanted, gradients)
        else:
            keep = keeps_graph()
            found = ctx.pull(gradients, keep)
            if not keep:
                ctx.pull = None
        return (None, None, None, *found)


def _by_reference(
    ctx: Any, flat: Sequence[Tensor], wanted: Sequence[bool], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients as a differentiable function of inputs and gradients."""
    with torch.enable_grad():
        pairs = list(zip(flat, wanted, strict=True))
        live = [
            t if not want or t.requires_grad else t.detach().requires_grad_() for t, want in pairs
        ]
        live = [t.view_as(t) if want else t for t, want in zip(live, wanted, strict=True)]
        outputs = reference.sequence(ctx.job, unflatten(ctx.job, live, ctx.lengths, ctx.reset))
        found = pulled_back(outputs, live, gradients, create_graph=True)
    return [g if want else None for g, want in zip(found, wanted, strict=True)]
