"""What came out of a run, gradients included, and how far are two such results apart?"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from throughtime.engine import Inputs, Job
from throughtime.engine.job import unflatten
from throughtime.engine.pullback import pulled_back
from throughtime.testing.pieces import Run
from throughtime.testing.sample import Sample

Outcome = dict[str, Tensor]
_SEED_OF_GRADIENTS = 1234


class Difference(NamedTuple):
    """The largest difference of two outcomes, and the tensor in which it was seen.

    Attributes:
        error: Over the largest element there, or over 1 where that is less.
        where: The tensor's name.
    """

    error: float
    where: str


def output_names(job: Job) -> tuple[str, ...]:
    """The names of what an engine returns."""
    states = [s.name for s in job.cell.states]
    every = [f"every {s}" for s in states] if job.all_states else []
    return ("output", *[f"last {s}" for s in states], *every)


def entering(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Random gradients of some outputs; the same at each call with the same shapes."""
    source = torch.Generator().manual_seed(_SEED_OF_GRADIENTS)
    drawn = (torch.randn(o.shape, generator=source, dtype=torch.float64) for o in outputs)
    return [g.to(o) for g, o in zip(drawn, outputs, strict=True)]


def outcome(
    sample: Sample,
    job: Job,
    run: Run,
    inputs: Inputs,
    change: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Outcome:
    """Outputs, states and all gradients of one run.

    Args:
        sample: Where the inputs come from.
        job: What is run.
        run: By what.
        inputs: On what; their strides are kept.
        change: What is done to the gradient of each output that has steps.
    """
    names = sample.leaves()
    flat = zip(inputs.flat(), names, strict=True)
    leaves = [t.detach().requires_grad_(name is not None) for t, name in flat]
    outputs = run(unflatten(job, leaves, inputs.lengths, inputs.reset))
    count = len(job.cell.states)
    gradients = [g if 1 <= i <= count else change(g) for i, g in enumerate(entering(outputs))]
    found = pulled_back(outputs, leaves, gradients)
    named = dict(zip(output_names(job), (o.detach() for o in outputs), strict=True))
    for name, leaf, gradient in zip(names, leaves, found, strict=True):
        if name is not None:
            named[f"gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return named


def differ(got: Outcome, want: Outcome) -> Difference:
    """The largest difference; infinite where shapes differ or something is not a number."""
    return max((_distance(name, got[name], want[name]) for name in want), key=lambda d: d.error)


def _distance(name: str, got: Tensor, want: Tensor) -> Difference:
    if got.shape != want.shape or got.dtype != want.dtype:
        kinds = [f"{list(t.shape)} {t.dtype}".replace("torch.", "") for t in (got, want)]
        return Difference(math.inf, f"{name} is {kinds[0]}, not {kinds[1]}")
    if got.numel() == 0:
        return Difference(0.0, name)
    error = (got - want).abs().max().item() / max(1.0, want.abs().max().item())
    return Difference(math.inf if math.isnan(error) else error, name)
