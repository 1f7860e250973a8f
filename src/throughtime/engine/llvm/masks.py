"""Which steps of a call are real, and how long ago did each row start anew?"""

import torch
from torch import Tensor

from throughtime.engine.job import Inputs, Job

__all__ = ["crossed_backwards", "masks_of", "stale_values", "valid_steps", "without_padding"]


def valid_steps(inputs: Inputs) -> Tensor | None:
    """[T, B, 1]: whether a step lies within its row's length."""
    if inputs.lengths is None:
        return None
    return (torch.arange(inputs.x.shape[0])[:, None] < inputs.lengths).unsqueeze(-1)


def without_padding(job: Job, inputs: Inputs, valid: Tensor) -> Inputs:
    """Inputs without what stands in the padding, where a NaN would come back as 0 * NaN in dW."""
    pairs = zip(job.cell.extras, inputs.extras, strict=True)
    extras = tuple(
        torch.where(valid, e, e.new_full((), 1.0 if kind.eval is None else kind.eval))
        for kind, e in pairs
    )
    x = torch.where(valid, inputs.x, inputs.x.new_zeros(()))
    return inputs._replace(x=x, extras=extras)


def masks_of(job: Job, inputs: Inputs, valid: Tensor | None) -> dict[str, Tensor]:
    """Each [T, B]: validity and age of every step, as numbers."""
    dtype = inputs.states[0].dtype
    masks: dict[str, Tensor] = {}
    if valid is not None:
        masks["valid"] = valid[..., 0].to(dtype)
    if inputs.reset is not None:
        reset = inputs.reset if valid is None else inputs.reset & valid[..., 0]
        if job.reverse:
            masks["age"] = _age(crossed_backwards(reset).flip(0)).flip(0).to(dtype)
        else:
            masks["age"] = _age(reset).to(dtype)
    return masks


def crossed_backwards(reset: Tensor) -> Tensor:
    """Where a run backwards meets resets: the border before step t + 1 comes before step t."""
    return torch.cat([reset[1:], torch.zeros_like(reset[:1])])


def _age(reset: Tensor) -> Tensor:
    """[T, B]: how many steps ago each row started anew; more than any lag if it never did."""
    step = torch.arange(reset.shape[0])[:, None]
    never = torch.full_like(step, -(1 << 20))
    return step - torch.where(reset, step, never).cummax(0).values if len(step) else step - never


def stale_values(job: Job, inputs: Inputs, age: Tensor | None) -> Tensor | None:
    """[D, B, 1]: which of the last D values lie before the last reset; None if none can."""
    depth = job.cell.depth
    if age is None or depth == 1 or not len(age):
        return None
    if job.reverse:
        last = age[0]
    elif inputs.lengths is None:
        last = age[-1]
    else:
        last = age.gather(0, (inputs.lengths - 1).clamp(min=0)[None])[0]
    lag = torch.arange(depth, 0, -1)[:, None]
    return (lag > last + 1).unsqueeze(-1)
