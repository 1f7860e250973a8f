"""How does a backward pass clip? An identity whose gradient is held between two bounds."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["clip_adjoint"]


class _ClipAdjoint(torch.autograd.Function):
    """The form that torch.func's transforms and forward-mode differentiation take."""

    @staticmethod
    def forward(a: Tensor, bound: float) -> Tensor:  # noqa: ARG004 (backward's)
        return a.view_as(a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:  # noqa: ARG004
        ctx.bound = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return g.clamp(-ctx.bound, ctx.bound), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:  # type: ignore[override] # noqa: ARG004
        return tangent.view_as(tangent)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int | None]:  # noqa: ARG004
        return clip_adjoint(*args), in_dims[0]  # every element on its own, wherever rows lie


def clip_adjoint(a: Tensor, bound: float) -> Tensor:
    """The value itself, with its gradient clipped by value; a tangent passes unchanged."""
    return _ClipAdjoint.apply(a, bound)
