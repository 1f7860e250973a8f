"""How is one engine tried on a sample? What the lines of the contract call."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime import engine as engines
from throughtime.engine import Inputs, Job
from throughtime.engine.dispatch import Engine
from throughtime.testing.outcome import Difference, Outcome, differ, outcome
from throughtime.testing.pieces import Run
from throughtime.testing.sample import Sample


@dataclass
class Bench:
    """One engine and a sample to try it on.

    Attributes:
        refusals: Why the engine refused what it was asked.
    """

    engine: Engine
    sample: Sample
    refusals: list[str] = field(default_factory=list)

    def cases(
        self,
        *,
        lengths: bool = False,
        reset: bool = False,
        steps: int | None = None,
        rows: int | None = None,
    ) -> Iterator[tuple[Job, Inputs]]:
        """The sample in both directions, as far as the engine does not refuse it.

        With the states of every step if the engine gives them.

        Args:
            lengths: With them?
            reset: With resets?
            steps: Only the first ones.
            rows: Only the first ones.
        """
        inputs = self.inputs(lengths=lengths, reset=reset)
        inputs = inputs if steps is None and rows is None else _first(inputs, steps, rows)
        for reverse in (False, True):
            for all_states in (True, False):
                job = self.sample.job(reverse=reverse, all_states=all_states)
                reason = self.engine.refusal(job, inputs)
                if reason is None:
                    yield job, inputs
                    break
                if not all_states:
                    self.refusals.append(reason)

    def inputs(self, *, lengths: bool = False, reset: bool = False) -> Inputs:
        """The sample with or without its masks."""
        sample = self.sample
        return sample.inputs._replace(
            lengths=sample.lengths if lengths else None, reset=sample.reset if reset else None
        )

    def run(self, job: Job) -> Run:
        """The engine as a function."""
        return lambda inputs: engines.run(job, inputs, self.engine.name)

    def result(
        self, job: Job, inputs: Inputs, change: Callable[[Tensor], Tensor] | None = None
    ) -> Outcome:
        """What the engine makes of a call."""
        return outcome(self.sample, job, self.run(job), inputs, *([change] if change else []))

    def same(self, job: Job, inputs: Inputs, other: Run) -> Difference:
        """How far the engine is from another way to run the same call."""
        return differ(self.result(job, inputs), outcome(self.sample, job, other, inputs))

    def ended(self) -> Tensor:
        """Which steps lie past their row's length, [T, B]."""
        steps = torch.arange(self.sample.inputs.x.shape[0], device=self.sample.lengths.device)
        return steps[:, None] >= self.sample.lengths


def _first(inputs: Inputs, steps: int | None, rows: int | None) -> Inputs:
    """The first steps and rows."""
    lengths, reset = inputs.lengths, inputs.reset
    return inputs._replace(
        x=inputs.x[:steps, :rows],
        states=tuple(s[:, :rows] for s in inputs.states),
        extras=tuple(e[:steps, :rows] for e in inputs.extras),
        lengths=None if lengths is None else lengths[:rows].clamp(max=steps),
        reset=None if reset is None else reset[:steps, :rows],
    )
