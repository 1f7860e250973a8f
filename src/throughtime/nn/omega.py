"""How is a layer asked to hand errors on as large as they come? Pascanu's Omega.

    Omega = mean_{t, b} ( |g_t dh_t/dh_{t-1}|^2 / |g_t|^2 - 1 )^2,  g_t = dE/dh_t, held constant

Each h_t gets zeros added (`declare.surgery.probed`), whose gradient is g_t. They and the recurrent
matrices pass a node of the autograd graph that does nothing forward. Its backward runs when all g_t
and the gradients of the matrices are there; it adds the gradient of Omega to the latter. Omega
itself takes one step of the cell for all t and rows at once, from the states that were kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from throughtime import engine as engines
from throughtime.declare.surgery import probed
from throughtime.engine import reference
from throughtime.engine.job import Inputs, Job
from throughtime.engine.steps import Steps
from throughtime.engine.torch_internals import is_batched, transform_active
from throughtime.errors import EngineError
from throughtime.nn.layer_tensors import is_recurrent
from throughtime.nn.penalties import Penalty

__all__ = ["omega", "probed_job", "with_omega"]

_LEAST_SIGNAL = 1e-20  # of |g_t|^2, as in the authors' code


@lru_cache(maxsize=256)
def probed_job(job: Job) -> Job:
    """The job with a probe for each state, and all states."""
    found = replace(job, cell=probed(job.cell), all_states=True, memo={})
    engines.prepare(found)
    return found


@torch.compiler.disable()  # dynamo cannot trace a gradient within a backward pass
def with_omega(job: Job, inputs: Inputs, engine: str, penalty: Penalty) -> tuple[Tensor, ...]:
    """What an engine gives, with Omega's gradient added to the recurrent matrices.

    Args:
        job: What is asked.
        inputs: The tensors.
        engine: "auto", or the name of the engine to use.
        penalty: Its weight, and where its value is kept.

    Returns:
        As `engines.run`.

    Raises:
        EngineError: under a torch.func transform, which has no backward pass to add to; or the
            engine named cannot do the job.

    Source:
        Pascanu et al. 2013, arXiv:1211.5063, eq. 9 and 10; Goodfellow et al. 2016, eq. 10.52. As in
        the authors' code: norms are squared, terms with |g_t|^2 < 1e-20 are left out, and the
        others averaged. Differs: for all states of any cell at once, with delays for all values
        read; a step that starts anew has no term.
    """
    if transform_active():
        raise EngineError(
            f"omega={penalty.weight:g} adds to gradients in a backward pass, which torch.func "
            f"transforms do not have; call layer.eval(), or take omega=0."
        )
    x, moving = inputs.x, moving_places(job)
    places = [i for i, slot in enumerate(job.slots) if is_recurrent(job, slot)]
    zero = x.new_zeros((), dtype=inputs.states[0].dtype)
    probes = [zero.expand(*x.shape[:2], job.state_sizes()[i]) for i in moving]
    record = _Record(job, penalty, places)
    passed = _Added.apply(record, len(probes), *probes, *(inputs.weights[i] for i in places))
    weights = _replaced(inputs.weights, places, passed[len(probes) :])
    extras = (*inputs.extras, *passed[: len(probes)])
    found = engines.run(probed_job(job), inputs._replace(weights=weights, extras=extras), engine)
    count = len(job.cell.states)
    record.keep(inputs, found[-count:])
    return found if job.all_states else found[:-count]


def moving_places(job: Job) -> list[int]:
    """Which states are not clocks."""
    return [i for i, state in enumerate(job.cell.states) if not state.clock]


def _replaced(
    old: Sequence[Tensor], places: Sequence[int], new: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    found = dict(enumerate(old)) | dict(zip(places, new, strict=True))
    return tuple(found.values())


@dataclass
class _Record:
    """What the backward pass needs of a call."""

    job: Job
    penalty: Penalty
    places: list[int]
    inputs: Inputs | None = None
    every: tuple[Tensor, ...] = ()

    def keep(self, inputs: Inputs, every: Sequence[Tensor]) -> None:
        """Keep a call's tensors and the states of every step, without their graph."""
        dtype = torch.promote_types(every[0].dtype, torch.float32)  # squares leave half precision

        def plain(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
            return tuple(t.detach().to(dtype) for t in tensors)

        found = {name: plain(getattr(inputs, name)) for name in Inputs._fields[1:6]}
        self.inputs = inputs._replace(x=plain([inputs.x])[0], **found)
        self.every = plain(every)

    def gradients(
        self, signals: Sequence[Tensor], matrices: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """What is added to the gradients of the recurrent matrices."""
        assert self.inputs is not None, "backward before the end of forward"
        leaves = [m.detach().to(self.inputs.x.dtype).requires_grad_() for m in matrices]
        weights = _replaced(self.inputs.weights, self.places, leaves)
        with torch.enable_grad():
            value = omega(self.job, self.inputs._replace(weights=weights), self.every, signals)
            found = torch.autograd.grad(value, leaves, materialize_grads=True)
        self.penalty.keep("omega", value)
        return tuple(self.penalty.weight * gradient for gradient in found)


class _Added(torch.autograd.Function):
    """Probes and matrices as they are; the matrices get Omega's gradient in addition."""

    @staticmethod
    def forward(ctx: Any, record: _Record, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.record, ctx.count = record, count
        ctx.save_for_backward(*tensors[count:])
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        if any(map(is_batched, gradients)):
            raise EngineError(
                "omega cannot be added to many gradients at once (is_grads_batched); take them "
                "one by one, or call layer.eval()."
            )
        signals, own = gradients[: ctx.count], gradients[ctx.count :]
        added = ctx.record.gradients(signals, ctx.saved_tensors)
        total = (g + a.to(g.dtype) for g, a in zip(own, added, strict=True))
        return (None, None, *(None for _ in signals), *total)


def omega(job: Job, inputs: Inputs, every: Sequence[Tensor], signals: Sequence[Tensor]) -> Tensor:
    """Omega as a function of the weights, with states and signals held constant.

    Args:
        job: The cell.
        inputs: The tensors of a call, in one dtype.
        every: The states of every step.
        signals: For each state that is no clock the gradient of the loss with respect to it, at
            every step, with all that comes after.

    Shape:
        every: each [T, B, w]; signals: each [T, B, w]; result: []
    """
    steps = Steps(job, inputs)
    own = [steps.in_order(g.to(inputs.x.dtype)) for g in signals]
    squares = _squared(own)
    counted = steps.have_past & (squares >= _LEAST_SIGNAL)
    chosen = counted.flatten().nonzero().squeeze(-1)

    def rows(a: Tensor) -> Tensor:
        return a.flatten(0, 1)[chosen]

    past = steps.history(every)
    states = [rows(p.movedim(0, 2)).movedim(1, 0) for p in past]
    leaves = [states[i].requires_grad_() for i in moving_places(job)]
    found = reference.sequence(
        _step_job(job),
        inputs._replace(
            x=rows(steps.in_order(inputs.x)).unsqueeze(0),
            states=tuple(states),
            extras=tuple(rows(steps.in_order(e)).unsqueeze(0) for e in inputs.extras),
            lengths=None,
            reset=None,
        ),
    )
    new = [found[1 + i][-1] for i in moving_places(job)]
    pairs = [(n, rows(g)) for n, g in zip(new, own, strict=True) if n.requires_grad]
    handed = torch.autograd.grad(
        [n for n, _ in pairs],
        leaves,
        [g for _, g in pairs],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    reached = rows(steps.reached.movedim(0, 2)).movedim(1, 0).unsqueeze(-1)
    ratio = _squared([(h * reached).movedim(0, 1).flatten(1) for h in handed]) / rows(squares)
    return (ratio - 1.0).square().sum() / max(1, len(chosen))


def _squared(parts: Sequence[Tensor]) -> Tensor:
    """The squared norm of several vectors as one, [..., w] to [...]."""
    return torch.stack([part.square().sum(-1) for part in parts]).sum(0)


@lru_cache(maxsize=256)
def _step_job(job: Job) -> Job:
    return replace(job, reverse=False, all_states=False, products=None, memo={})
