"""How does torch.compile see a sequence? As one library op, with one op as its backward.

The jobs travel as text, so that an exported program holds all it needs. The kernels run below
autograd, which their backward therefore switches on again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.engine import reference
from throughtime.engine.dispatch import choose
from throughtime.engine.job import Job, job_of, unflatten
from throughtime.engine.pullback import pulled_back
from throughtime.engine.torch_internals import autograd_below_op


def _distinct(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous, as the fake kernels promise, and no alias of an input or another output."""
    seen = {t.untyped_storage().data_ptr() for t in inputs}
    found: list[Tensor] = []
    for out in outputs:
        fresh = out.contiguous()
        address = fresh.untyped_storage().data_ptr()
        found.append(fresh.clone() if address in seen else fresh)
        seen.add(address)
    return found


@torch.library.custom_op("throughtime::sequence", mutates_args=())
def sequence(
    tensors: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None, job: str, engine: str
) -> list[Tensor]:
    """A cell over a sequence; outputs as `reference.sequence`."""
    asked = job_of(job)
    inputs = unflatten(asked, tensors, lengths, reset)
    return _distinct(choose(asked, inputs, engine).sequence(asked, inputs), tensors)


def output_shapes(job: Job, x: Tensor) -> list[tuple[Any, ...]]:
    """The shapes of a job's outputs."""
    steps, batch = x.shape[0], x.shape[1]
    widths = job.state_sizes()
    final = [(job.cell.depth, batch, w) for w in widths]
    every = [(steps, batch, w) for w in widths] if job.all_states else []
    return [(steps, batch, job.output_size), *final, *every]


@sequence.register_fake
def _(
    tensors: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None, job: str, engine: str
) -> list[Tensor]:
    asked = job_of(job)
    inputs = unflatten(asked, tensors, lengths, reset)
    dtype = inputs.states[0].dtype
    out, *states = output_shapes(asked, inputs.x)
    first = getattr(torch, asked.products) if asked.products else dtype
    x = inputs.x
    return [x.new_empty(out, dtype=first), *[x.new_empty(s, dtype=dtype) for s in states]]


@torch.library.custom_op("throughtime::sequence_backward", mutates_args=())
def sequence_backward(
    gradients: Sequence[Tensor],
    tensors: Sequence[Tensor],
    lengths: Tensor | None,
    reset: Tensor | None,
    job: str,
    engine: str,
) -> list[Tensor]:
    """The gradients of `sequence`'s tensors."""
    asked = job_of(job)
    inputs = unflatten(asked, tensors, lengths, reset)
    run = choose(asked, inputs, engine).sequence
    with autograd_below_op():
        leaves = [t.detach().requires_grad_() for t in tensors]
        outputs = run(asked, unflatten(asked, leaves, lengths, reset))
        found = pulled_back(outputs, leaves, gradients)
    filled = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
    return _distinct(filled, (*tensors, *gradients))


@sequence_backward.register_fake
def _(
    gradients: Sequence[Tensor],
    tensors: Sequence[Tensor],
    lengths: Tensor | None,
    reset: Tensor | None,
    job: str,
    engine: str,
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in tensors]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, lengths, reset, job, engine = inputs
    ctx.count, ctx.job, ctx.engine = len(tensors), job, engine
    ctx.optional = [a is not None for a in (lengths, reset)]
    ctx.shapes = [(o.shape, o.dtype) for o in output]
    ctx.save_for_backward(*tensors, *[a for a in (lengths, reset) if a is not None])


def _restored(ctx: Any) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
    saved = list(ctx.saved_tensors)
    masks = iter(saved[ctx.count :])
    lengths, reset = (next(masks) if there else None for there in ctx.optional)
    return saved[: ctx.count], lengths, reset


def _filled(gradients: Sequence[Tensor | None], shapes: Any, like: Tensor) -> list[Tensor]:
    return [
        like.new_zeros(shape, dtype=dtype) if g is None else g
        for g, (shape, dtype) in zip(gradients, shapes, strict=True)
    ]


def _backward(ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    tensors, lengths, reset = _restored(ctx)
    filled = _filled(gradients, ctx.shapes, tensors[0])
    found = torch.ops.throughtime.sequence_backward(
        filled, tensors, lengths, reset, ctx.job, ctx.engine
    )
    return list(found), None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    gradients, tensors, lengths, reset, job, _ = inputs
    ctx.count, ctx.job, ctx.gradients = len(tensors), job, len(gradients)
    ctx.optional = [a is not None for a in (lengths, reset)]
    ctx.shapes = [(o.shape, o.dtype) for o in output]
    masks = [a for a in (lengths, reset) if a is not None]
    ctx.save_for_backward(*tensors, *masks, *gradients)


def _own(t: Tensor) -> Tensor:
    """A view to differentiate by, so that the paths through the outer graph are not counted too."""
    return (t if t.requires_grad else t.detach().requires_grad_()).view_as(t)


def _backward_backward(ctx: Any, cotangents: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Differentiate the backward by the reference's own backward."""
    saved = list(ctx.saved_tensors)
    masks = iter(saved[ctx.count :])
    lengths, reset = (next(masks) if there else None for there in ctx.optional)
    job = job_of(ctx.job)

    with torch.enable_grad():
        live = [_own(t) for t in saved[: ctx.count]]
        entering = [_own(t) for t in saved[len(saved) - ctx.gradients :]]
        outputs = reference.sequence(job, unflatten(job, live, lengths, reset))
        firsts = pulled_back(outputs, live, entering, create_graph=True)
        filled = _filled(cotangents, ctx.shapes, live[0])
        kept = [(f, c) for f, c in zip(firsts, filled, strict=True) if f is not None]
        found = pulled_back(
            [f for f, _ in kept], [*entering, *live], [c for _, c in kept], create_graph=True
        )
    return found[: ctx.gradients], found[ctx.gradients :], None, None, None, None


sequence.register_autograd(_backward, setup_context=_save)
sequence_backward.register_autograd(_backward_backward, setup_context=_save_backward)
