"""Through which door does a call reach its engine?

1. A torch.func transform or a forward-mode level is active: the reference, inline.
2. torch.compile, export or a dispatch mode is at work: the library op of `engine.operators`.
3. Plain eager: the reference inline, or a fused engine behind an `autograd.Function`, whose
   backward is the engine's, and the reference's where derivatives of derivatives are asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.engine import reference
from throughtime.engine.dispatch import REFERENCE, Engine, choose
from throughtime.engine.interleave import strands_of
from throughtime.engine.job import Inputs, Job, unflatten
from throughtime.engine.pullback import pulled_back, recorded
from throughtime.engine.torch_internals import (
    dispatch_mode_active,
    is_batched,
    keeps_graph,
    transform_active,
)


def run(job: Job, inputs: Inputs, engine: str = "auto") -> tuple[Tensor, ...]:
    """Run a cell over a sequence.

    Args:
        job: What is asked.
        inputs: The tensors.
        engine: "auto", or the name of the engine to use.

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
    chosen = choose(job, inputs, engine)
    flat = inputs.flat()
    if chosen is REFERENCE or not (torch.is_grad_enabled() and any(t.requires_grad for t in flat)):
        return chosen.sequence(job, inputs)
    return _Sequence.apply(chosen, job, inputs.lengths, inputs.reset, *flat)


class _Sequence(torch.autograd.Function):
    """A fused engine as one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any, engine: Engine, job: Job, lengths: Tensor | None, reset: Tensor | None, *flat: Any
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a zero gradient [T, B, H] costs time and memory
        ctx.job, ctx.lengths, ctx.reset = job, lengths, reset
        ctx.save_for_backward(*flat)
        inputs, wanted = unflatten(job, flat, lengths, reset), ctx.needs_input_grad[4:]
        if engine.linearised is None or strands_of(job) > 1:
            outputs, ctx.pull = recorded(engine.sequence, job, inputs, wanted)
        else:
            outputs, ctx.pull = engine.linearised(job, inputs, wanted)
        states = enumerate(outputs[1:])
        cell = job.cell
        clocks = [o for i, o in states if cell.states[i % len(cell.states)].clock]
        if clocks:
            ctx.mark_non_differentiable(*clocks)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        flat, wanted = ctx.saved_tensors, ctx.needs_input_grad[4:]
        if torch.is_grad_enabled() or any(map(is_batched, gradients)):
            found = _by_reference(ctx, flat, wanted, gradients)
        else:
            keep = keeps_graph()
            found = ctx.pull(gradients, keep)
            if not keep:
                ctx.pull = None
        return (None, None, None, None, *found)


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
