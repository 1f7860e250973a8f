"""How does a cell run whose lags share a divisor g? As g interleaved sequences at once.

Step t reads steps t - g, t - 2g, ... alone: the steps of one remainder t mod g, a *strand*, never
meet those of another. The strands lie side by side as rows of one batch, [T/g, g * B, ...], and
run under the quotient job, whose cell has all lags divided by g: the same numbers in g times fewer
sequential steps. Of a state's last D values each strand owns every g-th one.

A reset renews the whole history, so every strand meets it at its own next step, up to g - 1 steps
later; a strand that has no such step is renewed where the histories are put together again.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.quotient import common_lag, divided
from throughtime.engine.job import Inputs, Job, fresh_states

Sequence = Callable[[Job, Inputs], tuple[Tensor, ...]]
Refusal = Callable[[Job, Inputs | None], str | None]


def strands_of(job: Job) -> int:
    """g: as how many interleaved sequences a job runs; 1 if its steps follow one another."""
    if "strands" not in job.memo:
        job.memo["strands"] = common_lag(job.cell)
    return job.memo["strands"]


def quotient(job: Job) -> Job:
    """What each of the interleaved sequences is; the job itself if there is but one."""
    if "quotient" not in job.memo:
        strands = strands_of(job)
        shorter = job if strands == 1 else replace(job, cell=divided(job.cell, strands), memo={})
        job.memo["quotient"] = shorter
    return job.memo["quotient"]


def judged(refusal: Refusal) -> Refusal:
    """Have an engine judge what it will be asked to run; of the inputs it sees those as given."""
    return lambda job, inputs=None: refusal(quotient(job), inputs)


def interleaved(sequence: Sequence) -> Sequence:
    """Have an engine run interleaved sequences as the rows of one batch."""

    def run(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
        if strands_of(job) == 1:
            return sequence(job, inputs)
        strands = _Strands(job, inputs)
        return strands.joined(sequence(quotient(job), strands.inputs()))

    return run


class _Strands:
    """One call as interleaved sequences: its tensors apart, and together again.

    Where the sequence is shorter than g, the strands without a step are left out of the batch.
    """

    def __init__(self, job: Job, given: Inputs) -> None:
        self.job, self.given, self.count = job, given, strands_of(job)
        self.steps, self.rows = given.x.shape[:2]
        self.used = min(self.count, self.steps)
        self.own_steps = -(-self.steps // self.count)
        self.padding = self.used * self.own_steps - self.steps
        self.fresh = fresh_states(job, given)

    @cached_property
    def lengths(self) -> Tensor:
        """[B]."""
        if self.given.lengths is None:
            return torch.full((self.rows,), self.steps, device=self.given.x.device)
        return self.given.lengths.to(self.given.x.device)

    def _numbers(self, count: int) -> Tensor:
        """0, 1, ... as a column, [count, 1]."""
        return torch.arange(count, device=self.given.x.device)[:, None]

    @cached_property
    def reset(self) -> Tensor | None:
        """The resets that count: none past a row's end, none that no run crosses. [T, B]."""
        if self.given.reset is None or not self.steps:
            return None
        steps = self._numbers(self.steps)
        crossed = steps < self.lengths
        return self.given.reset & (crossed & (steps > 0) if self.job.reverse else crossed)

    def inputs(self) -> Inputs:
        """What the engine gets."""
        given = self.given
        return given._replace(
            x=self._apart(given.x),
            extras=tuple(map(self._apart, given.extras)),
            states=tuple(h[:, : self.used].flatten(1, 2) for h in self.start),
            lengths=self._own_lengths(),
            reset=None if self.reset is None else self._apart(self._spread(self.reset)),
        )

    def _apart(self, a: Tensor) -> Tensor:
        """[T, B, ...] as [T/g, g * B, ...]."""
        if self.padding:
            a = functional.pad(a, (0, 0) * (a.dim() - 1) + (0, self.padding))
        return a.reshape(self.own_steps, self.used * self.rows, *a.shape[2:])

    def _together(self, a: Tensor) -> Tensor:
        """[T/g, g * B, w] as [T, B, w]."""
        return a.reshape(-1 if a.numel() else self.steps, self.rows, a.shape[2])[: self.steps]

    def _own_lengths(self) -> Tensor | None:
        """How many steps of each row fall to each strand. [g * B]."""
        if self.given.lengths is None and not self.padding:
            return None
        left = self.lengths - self._numbers(self.used)
        return (left + self.count - 1).div(self.count, rounding_mode="floor").clamp(min=0).flatten()

    def _spread(self, reset: Tensor) -> Tensor:
        """Whether there is a reset in (t - g, t]. [T, B]."""
        so_far = reset.cumsum(0)
        before = functional.pad(so_far, (0, 0, self.count, 0))[: self.steps]
        return so_far > before

    @cached_property
    def start(self) -> list[Tensor]:
        """The states before the first step by strand. Each [D/g, g, B, w]."""
        states = zip(self.job.cell.states, self.given.states, strict=True)
        blocks = [self._blocks(h.detach() if s.clock else h) for s, h in states]
        if not self.job.reverse:
            return blocks
        # The value newest before the last real step, L - 1, belongs to step L.
        strand = self._numbers(self.count)
        order = (self.lengths - 1 - strand) % self.count
        blocks = [_ordered(h, order) for h in blocks]
        if self.reset is None:
            return blocks
        # Steps of this strand are yet to come in the run; a border already lies behind them.
        renewed = self._last_reset > self.lengths - 1 - order
        return [_renewed(h, renewed, f) for h, f in zip(blocks, self.fresh, strict=True)]

    def _blocks(self, history: Tensor) -> Tensor:
        """[D, B, w] as [D/g, g, B, w]."""
        return history.unflatten(0, (-1, self.count))

    @cached_property
    def _last_reset(self) -> Tensor:
        """The step of each row's last reset, before any history if it has none. [B]."""
        if self.reset is None:
            raise AssertionError("only a call with resets asks for the last one")
        never = -self.job.cell.depth - 1
        return self._numbers(self.steps).where(self.reset, never).amax(0)

    @cached_property
    def _first_border(self) -> Tensor:
        """The step of each row's first reset, past any history if it has none. [B]."""
        if self.reset is None:
            raise AssertionError("only a call with resets asks for the first one")
        never = self.steps + self.job.cell.depth
        return self._numbers(self.steps).where(self.reset, never).amin(0)

    def joined(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The engine's outputs in the order of the steps."""
        count = len(self.job.cell.states)
        out, states, every = outputs[0], outputs[1 : 1 + count], outputs[1 + count :]
        final = [self._final(*both) for both in zip(states, self.start, self.fresh, strict=True)]
        return (self._together(out), *final, *map(self._together, every))

    def _final(self, state: Tensor, start: Tensor, fresh: Tensor) -> Tensor:
        """The last D values of a state. [D, B, w]."""
        found = state.unflatten(1, (self.used, self.rows))
        if self.used < self.count:
            found = torch.cat([found, start[:, self.used :]], 1)
        if self.job.reverse:  # the newest is that of step 0
            found = found.flip(1)
        else:  # the newest is that of step L - 1
            found = _ordered(found, (self.lengths + self._numbers(self.count)) % self.count)
        found = found.flatten(0, 1)
        return found if self.reset is None else _renewed(found, self._outdated(), fresh)

    def _outdated(self) -> Tensor:
        """Which of the last D values lie beyond the last border that was crossed. [D, B]."""
        depth = self.job.cell.depth
        place = self._numbers(depth)
        if self.job.reverse:
            return depth - 1 - place >= self._first_border
        return self.lengths - depth + place < self._last_reset


def _ordered(blocks: Tensor, order: Tensor) -> Tensor:
    """Every block of g values in another order. [D/g, g, B, w] by [g, B]."""
    return blocks.gather(1, order.unsqueeze(-1).expand_as(blocks))


def _renewed(history: Tensor, where: Tensor, fresh: Tensor) -> Tensor:
    """A history with the initial state in some places. [..., w] by [...]."""
    return torch.where(where.unsqueeze(-1), fresh, history)
