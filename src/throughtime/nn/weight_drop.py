"""Which elements of the recurrent matrices take part in a call? Those that DropConnect leaves."""

from torch import Tensor
from torch.nn import functional

from throughtime.engine.job import Job
from throughtime.nn.layer_tensors import is_recurrent

__all__ = ["dropped"]


def dropped(job: Job, weights: tuple[Tensor, ...], p: float) -> tuple[Tensor, ...]:
    """The weights with some elements of the recurrent matrices zero, the same at every step.

        U' = m * U / (1 - p),  m ~ Bernoulli(1 - p), one draw for each element and call

    What is stored is never touched: U' is a function of it like any other, so every engine takes
    it, and gradients reach U.

    Args:
        job: The cell, which says what is recurrent.
        weights: In the order of `job.slots`.
        p: The probability to drop an element.

    Source:
        Wan et al. 2013; on recurrent matrices: Merity et al. 2018, arXiv:1708.02182, sec. 3.
    """
    return tuple(
        functional.dropout(weight, p) if is_recurrent(job, slot) else weight
        for weight, slot in zip(weights, job.slots, strict=True)
    )
