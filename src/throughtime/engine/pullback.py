"""How do gradients come back through a graph that autograd recorded?"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.engine.job import Inputs, Job, unflatten
from throughtime.engine.torch_internals import keeps_graph

Pull = Callable[[Sequence[Tensor | None], bool], list[Tensor | None]]
Linearised = Callable[[Job, Inputs, Sequence[bool]], tuple[tuple[Tensor, ...], Pull]]


def pulled_back(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    keep: bool = False,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """The gradients of leaves, given those of some outputs.

    Args:
        outputs: What was computed.
        leaves: What it was computed from; those without requires_grad get None.
        gradients: The gradient of each output, or None.
        keep: Whether the graph will be walked again.
        create_graph: Whether the result is itself differentiable.
    """
    pairs = [
        (o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad
    ]
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    if not pairs or not asked:
        return [None] * len(leaves)
    chosen, entering = zip(*pairs, strict=True)
    found = iter(
        torch.autograd.grad(
            chosen,
            asked,
            entering,
            retain_graph=keep or create_graph,
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


class GraphNode(torch.autograd.Function):
    """A call as one node of autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, way: Linearised, job: Job, inputs: Inputs, *flat: Tensor
    ) -> tuple[Tensor, ...]:
        """Run a call; `way` says how, and how gradients come back."""
        ctx.set_materialize_grads(False)  # a zero gradient [T, B, H] costs time and memory
        outputs, ctx.pull = way(job, inputs, ctx.needs_input_grad[-len(flat) :])
        if job.clocks:
            count = len(job.cell.states)
            states = enumerate(outputs[1:])
            ctx.mark_non_differentiable(*[o for i, o in states if i % count in job.clocks])
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        """The gradients of the flat inputs."""
        keep = keeps_graph()
        found = ctx.pull(gradients, keep)
        if not keep:
            ctx.pull = None
        return (None, None, None, *found)


def recorded(
    run: Callable[[Job, Inputs], tuple[Tensor, ...]],
    job: Job,
    inputs: Inputs,
    wanted: Sequence[bool],
) -> tuple[tuple[Tensor, ...], Pull]:
    """What a function of a call gives, and its gradients by the graph that autograd records.

    Args:
        run: The function; autograd knows what it does.
        job: What is asked.
        inputs: The tensors; no graph that they belong to is touched.
        wanted: Of each flat input, whether its gradient is wanted.

    Returns:
        The outputs, and a function from their gradients, and whether it will be called again, to
        those of the flat inputs.
    """
    flat = zip(inputs.flat(), wanted, strict=True)
    leaves = tuple(t.detach().requires_grad_(w) for t, w in flat)
    with torch.enable_grad():
        outputs = run(job, unflatten(job, leaves, inputs.lengths, inputs.reset))

    def pull(gradients: Sequence[Tensor | None], keep: bool) -> list[Tensor | None]:  # noqa: FBT001
        return pulled_back(outputs, leaves, gradients, keep=keep)

    return tuple(output.detach() for output in outputs), pull


def recomputed(
    run: Callable[[Job, Inputs], tuple[Tensor, ...]],
    way: Linearised,
    job: Job,
    inputs: Inputs,
    wanted: Sequence[bool],
) -> tuple[tuple[Tensor, ...], Pull]:
    """As `recorded`, with nothing kept: the call is carried out again when gradients are asked for.

    Args:
        run: The function.
        way: What runs it and says how gradients come back.
        job: What is asked.
        inputs: The tensors, which the caller keeps unchanged.
        wanted: Of each flat input, whether its gradient is wanted.

    Returns:
        As `recorded`.
    """
    with torch.no_grad():
        outputs = run(job, inputs)

    def pull(gradients: Sequence[Tensor | None], keep: bool) -> list[Tensor | None]:  # noqa: ARG001, FBT001
        return way(job, inputs, wanted)[1](gradients, False)  # noqa: FBT003

    return outputs, pull
