"""How does torch.compile see a sequence? As one library op, with one op as its backward.

The jobs travel as text, so that an exported program holds all it needs. The kernels run below
autograd: there derivatives come from torch.func.vjp, which works there, not from autograd.grad.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.engine import reference
from throughtime.engine.dispatch import choose
from throughtime.engine.job import Inputs, Job, job_of, unflatten


def _distinct(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """An op may not return an alias of an input or of another output."""
    seen = {t.untyped_storage().data_ptr() for t in inputs}
    found: list[Tensor] = []
    for out in outputs:
        address = out.untyped_storage().data_ptr()
        found.append(out.clone() if address in seen else out)
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
    found = _vjp(run, asked, inputs, gradients)
    return _distinct(found, (*tensors, *gradients))


def _vjp(run: Any, job: Job, inputs: Inputs, gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    def forward(*flat: Tensor) -> tuple[Tensor, ...]:
        return run(job, unflatten(job, flat, inputs.lengths, inputs.reset))

    _, pull_back = torch.func.vjp(forward, *inputs.flat())
    return pull_back(tuple(gradients))


@sequence_backward.register_fake
def _(
    gradients: Sequence[Tensor],
    tensors: Sequence[Tensor],
    lengths: Tensor | None,
    reset: Tensor | None,
    job: str,
    engine: str,
) -> list[Tensor]:
    return [torch.empty_like(t) for t in tensors]


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


def _backward_backward(ctx: Any, cotangents: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Differentiate the backward by the reference's own backward."""
    saved = list(ctx.saved_tensors)
    gradients = saved[len(saved) - ctx.gradients :]
    tensors, masks = saved[: ctx.count], iter(saved[ctx.count :])
    lengths, reset = (next(masks) if there else None for there in ctx.optional)
    job = job_of(ctx.job)

    def gradients_of(*flat: Tensor) -> tuple[Tensor, ...]:
        inputs = unflatten(job, flat[ctx.gradients :], lengths, reset)
        return _vjp(reference.sequence, job, inputs, flat[: ctx.gradients])

    _, pull_back = torch.func.vjp(gradients_of, *gradients, *tensors)
    found = list(pull_back(tuple(_filled(cotangents, ctx.shapes, tensors[0]))))
    return found[: ctx.gradients], found[ctx.gradients :], None, None, None, None


sequence.register_autograd(_backward, setup_context=_save)
sequence_backward.register_autograd(_backward_backward, setup_context=_save_backward)
