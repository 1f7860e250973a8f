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
from throughtime.engine.pullback import GraphNode, Linearised, pulled_back, recomputed, recorded
from throughtime.engine.torch_internals import dispatch_mode_active, is_batched, transform_active


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


class _Sequence(GraphNode):
    """A fused engine's node, whose backward may be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any, way: Linearised, job: Job, inputs: Inputs, *flat: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.job, ctx.lengths, ctx.reset = job, inputs.lengths, inputs.reset
        ctx.save_for_backward(*flat)
        return GraphNode.forward(ctx, way, job, inputs, *flat)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        flat = ctx.saved_tensors  # which also notices that one of them was written to
        if not (torch.is_grad_enabled() or any(map(is_batched, gradients))):
            return GraphNode.backward(ctx, *gradients)
        wanted = ctx.needs_input_grad[-len(flat) :]
        return (None, None, None, *_by_reference(ctx, flat, wanted, gradients))


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
