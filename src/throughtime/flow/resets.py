"""What would a model say if it had seen the last n steps alone? Every layer is reset every n steps.

The borders lie n, 2n, 3n ... steps before the end of each row, so what a layer says at the end of
a row has seen exactly n steps. The end is where a direction ends: for the reverse direction it is
the first step of the row. A state that was handed in counts as older than every step; it reaches
the piece that begins with the first one.

The pieces of a call are independent, so they run side by side, as rows of one batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from throughtime.engine import Inputs, Job
from throughtime.engine.job import fresh_states
from throughtime.errors import ConfigError
from throughtime.flow.calls import Sequence_, forward_job
from throughtime.flow.schedule import Place, Schedule
from throughtime.flow.torch_modules import (
    CELLS,
    LAYERS,
    as_given,
    observed,
    replaced,
    run_module,
    take,
)
from throughtime.nn.stack import Stack

__all__ = ["resetting", "run_in_pieces"]


@contextmanager
def resetting(model: Any, last_steps: int, seen: Schedule | None = None) -> Iterator[Any]:
    """Have every recurrent layer forget what lies more than n steps before the end of its row.

    Args:
        model: Any nn.Module, or a step f(x_t, state) -> state.
        last_steps: n.
        seen: What `Watch.schedule` gives after the same loss was computed once: where in a
            sequence each call stands. Without it every call of a layer is a sequence of its own,
            and models that take single steps are refused.

    Returns:
        A context that gives the model to compute the loss with.

    Raises:
        ConfigError: n is no positive number; or the model takes single steps and `seen` is
            missing, or does not fit.
    """
    if not isinstance(last_steps, int) or last_steps < 1:
        raise ConfigError(f"last_steps={last_steps!r}; expected a whole number from 1 up.")
    run = _Resetting(last_steps, seen)
    if not isinstance(model, nn.Module):
        yield run.function(model)
        return
    stacks = [m for m in model.modules() if isinstance(m, Stack)]
    run.modules = {id(m) for m in model.modules() if isinstance(m, (*LAYERS, *CELLS))}
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(replaced(run.forward, (*LAYERS, *CELLS)))
        stack.enter_context(observed(stacks, run.layer))
        for module in model.modules():
            if seen is not None and id(module) in seen.leaves:
                hook = module.register_forward_pre_hook(run.own_step, with_kwargs=True)
                stack.callback(hook.remove)
        yield model


class _Resetting:
    """What runs in place of the layers.

    Attributes:
        modules: Which of torch's modules are meant, by identity.
    """

    def __init__(self, last_steps: int, seen: Schedule | None) -> None:
        self.last_steps, self.seen = last_steps, seen
        self.modules: set[int] = set()
        self._count: dict[tuple[int, int, bool], int] = {}
        self._first: dict[int, Sequence[Any]] = {}

    def _place(self, key: tuple[int, int, bool], name: str) -> Place | None:
        """Where the next call of a layer stands in its sequence; None if it is one of its own."""
        number = self._count.get(key, 0)
        self._count[key] = number + 1
        if self.seen is None:
            return None
        places = self.seen.places.get(key, ())
        if number >= len(places):
            raise ConfigError(
                f"{name} was called {number + 1} times; expected {len(places)} calls, as when it "
                f"was watched. The loss must call the model in the same way every time."
            )
        return places[number]

    def _is_border(self, key: tuple[int, int, bool], name: str) -> bool:
        """Whether a single step starts anew."""
        place = self._place(key, name)
        if place is None:
            raise ConfigError(
                f"{name} takes single steps, and how many are to come is not known; watch the loss "
                f"first, and give resetting(..., seen=watch.schedule())."
            )
        return bool(((place.after + 1) % self.last_steps == 0).all() and (place.before > 0).all())

    def layer(
        self, module: Any, layer: int, job: Job, inputs: Inputs, sequence: Sequence_
    ) -> tuple[Tensor, ...]:
        """Run one layer and direction."""
        place = self._place((id(module), layer, job.reverse), type(module).__name__)
        return run_in_pieces(job, inputs, sequence, self.last_steps, place)

    def forward(self, original: Any, module: Any, *args: Any, **options: Any) -> Any:
        """Run one of torch's modules, or a cell."""
        if id(module) not in self.modules:
            return original(module, *args, **options)
        if isinstance(module, CELLS):
            return self._step(original, module, *args, **options)
        return self._sequence(original, module, *args, **options)

    def _sequence(self, original: Any, module: nn.RNNBase, input: Any, hx: Any = None) -> Any:  # noqa: ARG002
        taken = take(module, input, hx)
        return as_given(module, taken, run_module(module, taken, self.layer))

    def _step(self, original: Any, module: Any, input: Tensor, hx: Any = None) -> Any:
        if self._is_border((id(module), 0, False), type(module).__name__):
            hx = None
        return original(module, input, hx)

    def own_step(self, module: Any, args: Any, options: Any) -> Any:
        """Give a step of the user's own the state its first call had, or zeros."""
        assert self.seen is not None, "only what was seen has leaves"
        return self.seen.leaves[id(module)].renewed(
            args, options, anew=self._is_border((id(module), 0, False), type(module).__name__)
        )

    def function(self, step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """The same for a callable."""

        def taken(x: Any, state: Any) -> Any:
            place = self._place((id(step), 0, False), "the step")
            if place is None:
                raise ConfigError(
                    "a step does not know how many are to come; watch the loss first, and give "
                    "resetting(..., seen=watch.schedule())."
                )
            if bool((place.before == 0).all()):
                self._first[0] = state
            elif bool(((place.after + 1) % self.last_steps == 0).all()):
                state = self._first[0]
            return step(x, state)

        return taken


class _Pieces(NamedTuple):
    """How a call is cut, in the order of its steps; pieces are counted from the end.

    Attributes:
        length: Of each piece, [P, B].
        step: Which step each step of a piece is, in memory, [n, P, B].
        piece, place: In which piece each step of the call stands, and where, [T, B].
        keeps: Whether a piece starts from the state handed in, [P, B].
        real: [T, B].
    """

    length: Tensor
    step: Tensor
    piece: Tensor
    place: Tensor
    keeps: Tensor
    real: Tensor


def run_in_pieces(
    job: Job, inputs: Inputs, sequence: Sequence_, last_steps: int, place: Place | None = None
) -> tuple[Tensor, ...]:
    """Run a layer that starts anew n, 2n, 3n ... steps before the end of each row.

    Args:
        job: What is asked.
        inputs: Its tensors.
        sequence: Runs a job.
        last_steps: n.
        place: Where the call stands in its sequence.

    Returns:
        As `sequence(job, inputs)`.
    """
    count, rows = inputs.x.shape[:2]
    if place is None:
        nothing = torch.zeros(rows, dtype=torch.long, device=inputs.x.device)
        place = Place(nothing, nothing)
    if not count or not rows or int((place.before + place.after).max()) + count <= last_steps:
        return sequence(job, inputs)
    pieces = _cut(job, inputs, last_steps, place)
    found = sequence(forward_job(job), _side_by_side(job, inputs, pieces))
    states, shape = len(job.cell.states), pieces.step.shape
    column = torch.arange(rows, device=inputs.x.device)

    def apart(a: Tensor) -> Tensor:  # [n, P * B, w] as [T, B, w]
        whole = a.view(*shape, a.shape[-1])[pieces.place, pieces.piece, column]
        return torch.where(pieces.real.unsqueeze(-1), whole, 0.0)

    last = [s[:, :rows] for s in found[1 : 1 + states]]  # the first pieces are those at the end
    return (apart(found[0]), *last, *map(apart, found[1 + states :]))


def _cut(job: Job, inputs: Inputs, last_steps: int, at: Place) -> _Pieces:
    count, rows = inputs.x.shape[:2]
    device = inputs.x.device
    given = inputs.lengths
    lengths = torch.full((rows,), count, device=device) if given is None else given.to(device)
    before, after = at.before.to(device), at.after.to(device)
    end = lengths + after % last_steps  # where the last border counts from: steps yet to come
    most = max(1, -(-int(end.max()) // last_steps))
    number = torch.arange(most, device=device)[:, None]
    start = (end - (number + 1) * last_steps).clamp(min=0)
    length = (torch.minimum(end - number * last_steps, lengths) - start).clamp(min=0)
    order = start + torch.arange(last_steps, device=device)[:, None, None]
    step = (lengths - 1 - order if job.reverse else order).clamp(0, count - 1)
    every = torch.arange(count, device=device)[:, None]
    real = every < lengths
    taken = torch.where(real, lengths - 1 - every, every) if job.reverse else every.expand(-1, rows)
    piece = ((end - 1 - taken).clamp(min=0) // last_steps).clamp(max=most - 1)
    where = (taken - start.gather(0, piece)).clamp(0, last_steps - 1)
    is_border = (end % last_steps == 0) & (before > 0) & (lengths > 0)
    keeps = (start == 0) & ~is_border
    return _Pieces(length, step, piece, where, keeps, real)


def _side_by_side(job: Job, inputs: Inputs, pieces: _Pieces) -> Inputs:
    """The pieces as rows of one batch."""
    count = pieces.step.shape[0]
    column = torch.arange(pieces.step.shape[2], device=inputs.x.device)

    def gathered(a: Tensor) -> Tensor:  # [T, B, ...] as [n, P * B, ...]
        return a[pieces.step, column].flatten(1, 2)

    reset = None if inputs.reset is None else inputs.reset & pieces.real
    if reset is not None and job.reverse:  # the border before step t + 1 is met before t
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    keeps = pieces.keeps.flatten()[:, None]
    fresh = fresh_states(job, inputs)
    most = pieces.keeps.shape[0]
    states = tuple(
        torch.where(keeps, s.repeat(1, most, 1), f)
        for s, f in zip(inputs.states, fresh, strict=True)
    )
    ragged = bool((pieces.length != count).any())
    return inputs._replace(
        x=gathered(inputs.x),
        states=states,
        extras=tuple(map(gathered, inputs.extras)),
        lengths=pieces.length.flatten() if ragged else None,
        reset=None if reset is None else gathered(reset),
    )
