"""How far off may float32 be? No farther than eager float32, which has more than one order of sums.

The error of one run is a draw: sums in another order are off by another amount, in a cell with
cancellation by several times as much. So the same graph is run eagerly several times with its
units and rows in other orders, which changes no number but the rounding, and the worst counts.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from engine.llvm.on_trial import ENGINE, Change, Named, of_job, seeds_for
from throughtime.engine import Inputs, Job
from throughtime.engine.job import rows, unflatten
from throughtime.testing.adjoint import bptt, forward
from throughtime.testing.outcome import output_names
from throughtime.testing.sample import Sample
from tolerances import TOLERANCE, error_to_largest

__all__ = ["excess"]

Axes = tuple[Tensor | None, ...]
ORDERS, MANY_ORDERS = 3, 40
EPS = torch.finfo(torch.float32).eps
SLACK, ULPS = TOLERANCE["over eager", torch.float32], TOLERANCE["ulps over eager", torch.float32]


class Shuffle:
    """An order of rows, and of the units of every width."""

    def __init__(self, job: Job, batch: int, seed: int) -> None:
        self.job, self.source = job, torch.Generator().manual_seed(seed)
        self.rows = torch.randperm(batch, generator=self.source)
        self.units: dict[str | int, Tensor] = {}

    def of(self, *widths: str | int) -> Tensor:
        """The order of units that lie side by side."""
        parts, start = [], 0
        for width in widths:
            count = self.job.sizes.of(width)
            if width not in self.units:
                self.units[width] = torch.randperm(count, generator=self.source)
            parts.append(start + self.units[width])
            start += count
        return torch.cat(parts)

    def inputs(self) -> list[Axes]:
        """The order of each axis of each tensor of `Inputs.flat`, without learned states."""
        job, cell = self.job, self.job.cell
        moving = [s for s in cell.states if not s.clock]
        found: list[Axes] = [(None, self.rows, self.of("input"))]
        found += [(None, self.rows, self.of(s.width)) for s in cell.states]
        found += [(self.of(s.width),) for s in moving]
        for slot in job.slots:
            stacked = self.of(*(piece.width for piece, _ in rows(job, slot)))
            found.append((stacked,) if slot.columns is None else (stacked, self.of(slot.columns)))
        found += [(self.of(p.width),) for p in cell.params]
        return found + [(None, self.rows, self.of(e.width)) for e in cell.extras]

    def outputs(self) -> list[Axes]:
        """Likewise for what comes out."""
        cell = self.job.cell
        states = [(None, self.rows, self.of(s.width)) for s in cell.states]
        every = states if self.job.all_states else []
        return [(None, self.rows, self.of(*(n.width for n in cell.out))), *states, *every]


def ordered(a: Tensor, axes: Axes) -> Tensor:
    """A tensor with the elements of each axis in another order."""
    for axis, order in enumerate(axes):
        a = a if order is None else a.index_select(axis, order)
    return a


def restored(a: Tensor, axes: Axes) -> Tensor:
    """Undo `ordered`."""
    return ordered(a, tuple(None if order is None else order.argsort() for order in axes))


def by_hand(sample: Sample, job: Job, inputs: Inputs, change: Sequence[Change] | None) -> Named:
    """The graph and its adjoint in eager float32, one node after another, without autograd."""
    given = unflatten(job, [t.float() for t in inputs.flat()], None, None)
    outputs = forward(job, given)
    gradients = bptt(job, given, seeds_for(outputs, torch.float32, change))
    named = dict(zip(output_names(job), outputs, strict=True))
    pairs = zip(sample.leaves(), gradients, strict=True)
    return named | {f"gradient of {name}": g for name, g in pairs if name is not None}


def by_reference(
    sample: Sample, job: Job, inputs: Inputs, change: Sequence[Change] | None
) -> Named:
    """The reference engine in float32."""
    return of_job(sample, job, inputs, engine="reference", dtype=torch.float32, change=change)


Eager = Callable[[Sample, Job, Inputs, Sequence[Change] | None], Named]


def shuffled(run: Eager, sample: Sample, job: Job, inputs: Inputs, seed: int) -> Named:
    """What is found for the same numbers in another order, put back in ours."""
    shuffle = Shuffle(job, inputs.x.shape[1], seed)
    coming, leaving = shuffle.inputs(), shuffle.outputs()
    moved = unflatten(job, list(map(ordered, inputs.flat(), coming)), None, None)
    change = [partial(ordered, axes=axes) for axes in leaving]
    found = run(sample, job, moved, change)
    moving = [a for a, name in zip(coming, sample.leaves(), strict=True) if name is not None]
    pairs = zip(found.items(), [*leaving, *moving], strict=True)
    return {name: restored(value, axes) for (name, value), axes in pairs}


def errors(got: Named, want: Named) -> dict[str, float]:
    """The error of each tensor over its largest element."""
    return {name: error_to_largest(got[name].double(), value) for name, value in want.items()}


def excess(sample: Sample, engine: str = ENGINE) -> tuple[float, str]:
    """By what factor an engine's float32 exceeds what eager float32 allows, and in which tensor.

    At most 1 is as it should be: an error within 1.5 times the eager one and 4 ulp. Where a few
    orders do not show that, many decide.
    """
    job, inputs = sample.job(), sample.inputs
    want = of_job(sample, job, inputs, engine="reference", dtype=torch.float64)
    found = errors(of_job(sample, job, inputs, engine=engine, dtype=torch.float32), want)
    eager, worst = dict.fromkeys(want, 0.0), (math.inf, "")
    for seed in range(MANY_ORDERS):
        for run in (by_reference, by_hand):
            more = errors(shuffled(run, sample, job, inputs, seed), want)
            eager = {name: max(error, more[name]) for name, error in eager.items()}
        bounds = {name: SLACK.bound * e + ULPS.bound * EPS for name, e in eager.items()}
        worst = max((error / bounds[name], name) for name, error in found.items())
        if seed + 1 >= ORDERS and worst[0] <= 1:
            break
    return worst
