"""What must a masked sequence give? The pieces its masks cut it into, each run alone, put together.

A row of a batch is its own sequence; a length ends it, a reset begins another one, and a window's
end is a pause. So every mask can be replaced by plain calls on slices.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor

from throughtime.engine import Inputs, Job

Run = Callable[[Inputs], tuple[Tensor, ...]]


def alone(run: Run, job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Every row and every stretch between two resets by a call of its own, without masks."""
    by_row = [_row(run, job, inputs, row) for row in range(inputs.x.shape[1])]
    return tuple(torch.cat(parts, 1) for parts in zip(*by_row, strict=True))


def _row(run: Run, job: Job, inputs: Inputs, row: int) -> tuple[Tensor, ...]:
    """One row: its stretches, in the order in which they are run."""
    steps, count = inputs.x.shape[0], len(job.cell.states)
    length = steps if inputs.lengths is None else int(inputs.lengths[row])
    borders = (
        set() if inputs.reset is None else set(inputs.reset[:length, row].nonzero()[:, 0].tolist())
    )
    renewed = not job.reverse and 0 in borders and length > 0
    cuts = sorted({0, length} | borders)
    stretches = list(pairwise(cuts))
    states = _fresh(job, inputs) if renewed else tuple(s[:, row : row + 1] for s in inputs.states)
    timed: list[tuple[Tensor, ...]] = []
    for i, (start, stop) in enumerate(stretches[::-1] if job.reverse else stretches):
        states = _fresh(job, inputs) if i else states
        out, *rest = run(_slice(inputs, slice(start, stop), slice(row, row + 1), states))
        states = tuple(rest[:count])
        timed.append((out, *rest[count:]))
    timed = timed[::-1] if job.reverse else timed
    out, *every = _padded(timed, job, inputs, steps - length)
    return (out, *states, *every)


def _fresh(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """One row's histories after a reset: the learned initial state, or the declared one."""
    learned = iter(inputs.initial)
    take = bool(inputs.initial)
    return tuple(
        next(learned).expand(job.cell.depth, 1, width)
        if take and not s.clock
        else inputs.x.new_full((job.cell.depth, 1, width), s.initial)
        for s, width in zip(job.cell.states, job.state_sizes(), strict=True)
    )


def _slice(inputs: Inputs, times: slice, rows: slice, states: tuple[Tensor, ...]) -> Inputs:
    return inputs._replace(
        x=inputs.x[times, rows],
        extras=tuple(e[times, rows] for e in inputs.extras),
        states=states,
        lengths=None,
        reset=None,
    )


def _padded(
    timed: list[tuple[Tensor, ...]], job: Job, inputs: Inputs, missing: int
) -> list[Tensor]:
    """What every step gave, one stretch after the other, and zeros past the end."""
    every = job.state_sizes() if job.all_states else ()
    ends = [inputs.x.new_zeros(missing, 1, width) for width in (job.output_size, *every)]
    return [torch.cat([*(part[i] for part in timed), end]) for i, end in enumerate(ends)]


def windows(run: Run, job: Job, inputs: Inputs, cuts: Iterable[int]) -> tuple[Tensor, ...]:
    """The sequence in windows, the state carried from each to the next."""
    steps, count = inputs.x.shape[0], len(job.cell.states)
    borders = [0, *cuts, steps]
    spans = list(pairwise(borders))
    states, timed = inputs.states, []
    for start, stop in spans[::-1] if job.reverse else spans:
        lengths, reset = inputs.lengths, inputs.reset
        window = _slice(inputs, slice(start, stop), slice(None), states)._replace(
            lengths=None if lengths is None else (lengths - start).clamp(0, stop - start),
            reset=None if reset is None else reset[start:stop],
        )
        out, *rest = run(window)
        states = tuple(rest[:count])
        timed.append((out, *rest[count:]))
    timed = timed[::-1] if job.reverse else timed
    out, *every = (torch.cat(parts) for parts in zip(*timed, strict=True))
    return (out, *states, *every)
