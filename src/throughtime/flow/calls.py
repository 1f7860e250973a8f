"""What is kept of one call of a recurrent layer? Its tensors, still in the graph of the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from throughtime import engine as engines
from throughtime.engine import Inputs, Job
from throughtime.engine.job import fresh_states
from throughtime.errors import ConfigError, EngineError

__all__ = [
    "Call",
    "Gradients",
    "Runner",
    "Sequence_",
    "all_states",
    "forward_job",
    "kept",
    "largest_difference",
    "plain",
    "tapped",
    "with_all_states",
]

Sequence_ = Callable[[Job, Inputs], tuple[Tensor, ...]]
Runner = Callable[[Any, int, Job, Inputs, Sequence_], tuple[Tensor, ...]]
"""Runs one layer and direction of a module: the module, the layer's number, what is asked, how."""


@dataclass
class Call:
    """One layer and direction over one batch of sequences, or over a piece of them.

    Attributes:
        owner: The module.
        layer: The layer's number in it.
        job: What was run, with all states.
        inputs: Its tensors. The states it started from are aliases that nothing else reads, so
            their gradient is what this call alone hands back.
        attached: Whether the states it started from had a graph.
        given: The states it started from as they came, for their graph.
        out: What it emitted; only the caller's copy of it is read by what follows.
        last: Its last states, likewise.
        every: The states of every step, likewise.
        handed: The caller's copies of the last states.
        replay_error: The largest difference of our outputs from the module's own.

    Shape:
        given, last: each [D, B, w]; out: [T, B, O]; every: each [T, B, w]
    """

    owner: Any
    layer: int
    job: Job
    inputs: Inputs
    attached: bool
    given: tuple[Tensor, ...]
    out: Tensor
    last: tuple[Tensor, ...]
    every: tuple[Tensor, ...]
    handed: tuple[Tensor, ...]
    replay_error: float = 0.0

    @property
    def key(self) -> tuple[int, int, bool]:
        """Which module, layer and direction."""
        return (id(self.owner), self.layer, self.job.reverse)

    @property
    def rows(self) -> int:
        """B."""
        return self.inputs.x.shape[1]

    def fresh(self) -> list[Tensor]:
        """What each state is where a sequence begins, to be broadcast to [D, B, w]."""
        return [f.detach() for f in fresh_states(self.job, self.inputs)]

    def steps(self) -> Tensor:
        """How many real steps each row has. [B]."""
        x, lengths = self.inputs.x, self.inputs.lengths
        if lengths is not None:
            return lengths
        return torch.full((x.shape[1],), x.shape[0], device=x.device)

    def taps(self) -> list[Tensor]:
        """The tensors whose gradients are wanted."""
        return [*self.arrived(), *self.inputs.states]

    def arrived(self) -> list[Tensor]:
        """The tensors through which an error comes in."""
        return [self.out, *self.last, *self.every]


class Gradients:
    """The gradients of the loss with respect to all that was kept of some calls."""

    def __init__(self, loss: Tensor, calls: Sequence[Any]) -> None:
        taps = {id(t): t for call in calls for t in call.taps() if t.requires_grad}
        found = _gradients(loss, list(taps.values())) if taps else ()
        self._found = dict(zip(taps, found, strict=True))

    def of(self, tensor: Tensor) -> Tensor | None:
        """dE/d tensor; None where the loss does not depend on it."""
        return self._found.get(id(tensor))

    def reach(self, call: Any) -> bool:
        """Whether an error comes in at a call."""
        return any(self.of(t) is not None for t in call.arrived())


def _gradients(loss: Tensor, taps: list[Tensor]) -> Sequence[Tensor | None]:
    try:
        return torch.autograd.grad(loss, taps, allow_unused=True, retain_graph=True)
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        raise ConfigError(
            "the graph of the loss is gone; expected a loss that is not backpropagated yet. Leave "
            "backward() out of loss(model, batch)."
        ) from error


def plain(a: Tensor) -> Tensor:
    """A tensor without a graph, in no less than single precision."""
    if not a.is_floating_point():
        return a.detach()
    return a.detach().to(torch.promote_types(a.dtype, torch.float32))


def all_states(job: Job) -> Job:
    """The job, asked for the states of every step."""
    if job.all_states:
        return job
    if "all states" not in job.memo:
        job.memo["all states"] = replace(job, all_states=True, memo={})
    return job.memo["all states"]


def with_all_states(job: Job, inputs: Inputs, sequence: Sequence_) -> tuple[Tensor, ...]:
    """Run a job and return the states of every step.

    By another engine if one was named that tells none: an engine is named for what the model does,
    not for what is looked at.
    """
    asked = all_states(job)
    try:
        return sequence(asked, inputs)
    except EngineError:
        return engines.run(asked, inputs)


def forward_job(job: Job) -> Job:
    """The job over steps that already are in order."""
    if not job.reverse:
        return job
    if "forward" not in job.memo:
        job.memo["forward"] = replace(job, reverse=False, memo={})
    return job.memo["forward"]


def tapped(state: Tensor) -> Tensor:
    """A state under a name of its own in the graph; a leaf of it where there is no graph yet."""
    if not torch.is_grad_enabled() or not state.is_floating_point():
        return state
    return state.view_as(state) if state.requires_grad else state.detach().requires_grad_()


def kept(
    owner: Any, layer: int, job: Job, inputs: Inputs, sequence: Sequence_
) -> tuple[Call, tuple[Tensor, ...]]:
    """Run a layer, and keep what it did.

    Args:
        owner: The module.
        layer: The layer's number.
        job: What is asked.
        inputs: Its tensors.
        sequence: Runs it.

    Returns:
        The call, and what the caller gets: copies, which it may change in place.
    """
    given = inputs.states
    inputs = inputs._replace(states=tuple(map(tapped, given)))
    # A tensor may be returned twice, as output and as state: each gets a name of its own.
    found = [t.view_as(t) for t in with_all_states(job, inputs, sequence)]
    count = len(given)
    handed = tuple(t.clone() for t in found[: None if job.all_states else 1 + count])
    call = Call(
        owner=owner,
        layer=layer,
        job=job,
        inputs=inputs,
        attached=any(s.requires_grad for s in given),
        given=given,
        out=found[0],
        last=tuple(found[1 : 1 + count]),
        every=tuple(found[1 + count :]),
        handed=handed[1 : 1 + count],
    )
    return call, handed


def largest_difference(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """The largest difference, as a share of the largest number wanted if that is above one.

    Where neither is a number there is none.
    """
    found = [0.0]
    for a, b in zip(got, want, strict=True):
        if a.numel():
            a, b = a.detach().double(), b.detach().double()
            same = (a == b) | (a.isnan() & b.isnan())
            largest = float(torch.where(b.isfinite(), b.abs(), 0.0).max())
            found.append(float(torch.where(same, 0.0, (a - b).abs()).max()) / max(1.0, largest))
    return max(found)
