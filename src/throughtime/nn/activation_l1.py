"""How is a layer asked to be quiet? An L1 penalty on its outputs, added in the backward pass."""

from typing import Any

import torch
from torch import Tensor

from throughtime.nn.penalties import Penalty

__all__ = ["with_activation_l1"]


def with_activation_l1(
    found: tuple[Tensor, ...], lengths: Tensor | None, penalty: Penalty
) -> tuple[Tensor, ...]:
    """What an engine gave, the same, but penalised in its backward pass.

        weight * sum_{t, b} |y_tb|_1 / N,  N = the real steps of all rows

    Args:
        found: The output y, and states.
        lengths: Real steps of each row; y is zero past them.
        penalty: Its weight, and where its value is kept.

    Shape:
        y: [T, B, O]; lengths: [B]

    Source:
        Bengio et al. 2012, arXiv:1212.0901, sec. 3.4, with rectifiers. Differs: the mean over
        steps and rows is ours; it is of what the layer emits.
    """
    y = found[0]
    rows = y.new_full((y.shape[1],), y.shape[0]) if lengths is None else lengths
    steps = rows.sum().clamp(min=1)
    penalty.keep("activation_l1", y.abs().sum() / steps)
    return _Penalised.apply(penalty.weight, steps, *found)


class _Penalised(torch.autograd.Function):
    """Values as they are, with a gradient of their own.

    The states pass, too: a loss that reads them alone shall be penalised like one that reads y.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: float, steps: Tensor, *found: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        return tuple(value.clone() for value in found)  # so that they may be changed in place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        ctx.weight, steps, y, *_ = inputs
        ctx.save_for_backward(steps, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        steps, y = ctx.saved_tensors
        gradient, *others = gradients
        return (None, None, gradient + ctx.weight * y.sign() / steps, *others)
