"""What is a cell checked with? Sizes that all differ, random tensors in float64, masks."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime.declare import Cell, Param
from throughtime.declare.graph import walk
from throughtime.declare.slots import Sizes
from throughtime.engine import Inputs, Job
from throughtime.nn.arguments import check_layers
from throughtime.nn.extras import extra_values
from throughtime.nn.parameters import bounded, fill_param, is_bounded
from throughtime.testing.adjoint import forward

WEIGHT_SCALE = 0.5  # large enough to tell matrices apart, small enough not to saturate gates


@dataclass(frozen=True)
class Sample:
    """A cell at fixed sizes with tensors to run it on.

    Attributes:
        cell: The cell.
        sizes: What its symbolic widths are.
        inputs: Tensors without lengths and resets.
        lengths: 0, 1, T and one between, in no order.
        reset: Some resets, all before the rows' ends.

    Shape:
        lengths: [B]; reset: [T, B]
    """

    cell: Cell
    sizes: Sizes
    inputs: Inputs
    lengths: Tensor
    reset: Tensor
    jobs: dict[tuple[bool, bool], Job] = field(default_factory=dict, repr=False)

    def job(self, *, reverse: bool = False, all_states: bool = True) -> Job:
        """What is asked of an engine."""
        job = Job(self.cell, self.sizes, reverse=reverse, all_states=all_states)
        return self.jobs.setdefault((reverse, all_states), job)

    def leaves(self) -> tuple[str | None, ...]:
        """The name of each tensor of `Inputs.flat`; None where it has no gradient."""
        cell = self.cell
        moving = [s for s in cell.states if not s.clock]
        return (
            "x",
            *[None if s.clock else f"hx {s.name}" for s in cell.states],
            *[f"initial {s.name}" for s in moving],
            *[slot.name for slot in self.job().slots],
            *[p.name if p.trainable else None for p in cell.params],
            *[f"extra {e.name}" for e in cell.extras],
        )


def sizes_for(cell: Cell, input_size: int, hidden_size: int, proj_size: int | None) -> Sizes:
    """The sizes of one layer; a projection gets a width of its own where none is given.

    Raises:
        ThroughtimeError: no layer can have these sizes.
    """
    projects = any(n.width == "projection" for n in walk((*cell.new, *cell.out)))
    if proj_size is None:
        smaller = (n for n in range(hidden_size // 2, hidden_size) if n not in {0, input_size})
        proj_size = next(smaller, 0) if projects else 0
    check_layers(cell, input_size, hidden_size, 1, proj_size)
    return Sizes(input_size, hidden_size, proj_size or hidden_size)


def draw(cell: Cell, sizes: Sizes, device: torch.device | str) -> Sample:
    """Draw a sample from torch's generator."""
    like = torch.empty(0, dtype=torch.float64, device=device)
    taken = {*vars(sizes).values(), cell.depth}
    batch = _unused(4, taken)
    steps = _unused(2 * cell.depth + 5, {*taken, batch})
    job = Job(cell, sizes)
    states = _reached(job, like, cell.depth + 3, batch)
    moving = [i for i, s in enumerate(cell.states) if not s.clock]
    drawn = _inputs(job, like, steps, batch, states)
    inputs = drawn._replace(initial=tuple(states[i][-1, 0].clone() for i in moving))
    lengths = torch.tensor([steps - 2, 0, 1, *[steps] * (batch - 3)], device=device)
    reset = torch.zeros(steps, batch, dtype=torch.bool, device=device)
    for t, row in ((0, 0), (2, 0), (0, 2), (3, 3), (4, 3)):
        reset[t, row] = True
    return Sample(cell, sizes, inputs, lengths, reset)


def _unused(least: int, taken: Iterable[int]) -> int:
    return next(n for n in range(least, least + 100) if n not in taken)


def _inputs(job: Job, like: Tensor, steps: int, batch: int, states: tuple[Tensor, ...]) -> Inputs:
    cell, sizes = job.cell, job.sizes
    x = torch.randn(steps, batch, sizes.input).to(like)
    data = {
        e.name: torch.empty(steps, batch, sizes.of(e.width)).uniform_(0.5, 1.5).to(like)
        for e in cell.extras
        if e.sample is None
    }
    extras = extra_values(cell, data, sizes, x, None, x.dtype, training=True)
    weights = [WEIGHT_SCALE * torch.randn(slot.shape(sizes)).to(like) for slot in job.slots]
    params = [_param(p, like.new_empty(sizes.of(p.width))) for p in cell.params]
    return Inputs(x, states, (), tuple(weights), tuple(params), extras)


def _param(param: Param, target: Tensor) -> Tensor:
    """A value that training might have led to; an untrainable one is as declared."""
    fill_param(target, param)
    if param.trainable:
        target += 0.3 * torch.randn_like(target)
    return bounded(target, param) if is_bounded(param) else target


def _reached(job: Job, like: Tensor, steps: int, batch: int) -> tuple[Tensor, ...]:
    """Histories that the cell itself reaches from its declared start: within its own domain."""
    cell, sizes = job.cell, job.sizes
    shapes = [(cell.depth, batch, sizes.of(s.width)) for s in cell.states]
    start = [like.new_full(shape, s.initial) for shape, s in zip(shapes, cell.states, strict=True)]
    found = forward(job, _inputs(job, like, steps, batch, tuple(start)))
    count = len(cell.states)
    last = found[1 : count + 1]
    # Off by a little, so that nothing sits exactly on a corner of relu, abs or a comparison.
    pairs = zip(last, cell.states, strict=True)
    return tuple(h if s.clock else h + 1e-3 * (1 + torch.rand_like(h)) for h, s in pairs)
