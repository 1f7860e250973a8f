"""What did one layer do to one batch, and what error came in where? All in the order of its steps.

A *passage* is one layer in one direction over one batch of sequences: the linearised steps, and the
gradients that enter from outside the recurrence. How the sequence lay in memory (reversed, padded,
packed, cut into several calls) is no longer seen: step 0 is the first one taken, and padding
comes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from throughtime.engine import Inputs, Job
from throughtime.engine.steps import Steps
from throughtime.flow.cell_steps import CellSteps, emitted_adjoints
from throughtime.flow.linear import LinearSteps

__all__ = ["Passage", "passage"]


@dataclass(frozen=True)
class Passage:
    """One layer in one direction over one batch.

    Attributes:
        name: Where it stands in the model, such as "encoder.rnn l1 reverse".
        kind: What it is, such as "nn.LSTM" or "Recurrent(lstm)".
        steps: Its steps, linearised.
        seeds: For each state the part of dE/ds_t that enters from outside the recurrence: through
            the output of step t, and through the last state. Zero in padding.
        reached: Whether the value of a step's history, newest last, is handed an error: it is no
            value from before the row started anew.
        real: Whether a step lies within its row's length.
        replay_error: The largest difference between our outputs and the model's own.

    Shape:
        seeds: each [T, B, w]; reached: [D, T, B]; real: [T, B]
    """

    name: str
    kind: str
    steps: LinearSteps
    seeds: tuple[Tensor, ...]
    reached: Tensor
    real: Tensor
    replay_error: float

    def named(self, name: str, kind: str, replay_error: float) -> "Passage":
        """The same under another name."""
        return replace(self, name=name, kind=kind, replay_error=replay_error)


def passage(
    job: Job,
    inputs: Inputs,
    every: Sequence[Tensor],
    out_gradient: Tensor | None,
    every_gradients: Sequence[Tensor | None] = (),
) -> Passage:
    """The passage of one call of one layer and direction.

    Args:
        job: The cell; its direction and lengths are undone here.
        inputs: Of the call, detached, in one floating-point dtype.
        every: The states of every step, as an engine gives them.
        out_gradient: dE/d output, by everything downstream; None where nothing came.
        every_gradients: dE/d the states of every step, where a caller used them: what it was
            handed for all steps, and the last values of the sequence.

    Shape:
        every, every_gradients: each [T, B, w]; out_gradient: [T, B, O]
    """
    order = Steps(job, inputs)
    real = order.real
    real_x = torch.where(real.unsqueeze(-1), order.in_order(inputs.x), 0.0)
    extras = tuple(order.in_order(e) for e in inputs.extras)
    extras = tuple(torch.where(real.unsqueeze(-1), e, 1.0) for e in extras)
    new = [order.in_order(s) for s in every]
    taken = inputs._replace(x=real_x, extras=extras)
    steps = CellSteps(job, taken, order.history(every))
    moving = [i for i, s in enumerate(job.cell.states) if not s.clock]
    seeds = [torch.zeros_like(new[i]) for i in moving]
    if out_gradient is not None:
        found = emitted_adjoints(job, taken, new, order.in_order(out_gradient))
        seeds = [s + found.get(steps.states[n], 0.0) for n, s in enumerate(seeds)]
    for n, i in enumerate(moving):
        of_steps = every_gradients[i] if i < len(every_gradients) else None
        if of_steps is not None:
            seeds[n] = seeds[n] + order.in_order(of_steps)
    masked = tuple(torch.where(real.unsqueeze(-1), s, 0.0) for s in seeds)
    return Passage(job.cell.name, job.cell.name, steps, masked, order.reached, real, 0.0)
