"""What would a model say if it had seen the last n steps alone? Every layer is reset every n steps.

A reset also takes away what is the same for every row: how long it has been running, say. So the
state may instead be exchanged for that of another row, which tells nothing of this one's past.

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
from torch.utils import _pytree as pytree

from throughtime.engine import Inputs, Job
from throughtime.engine.job import fresh_states
from throughtime.engine.steps import Steps
from throughtime.errors import ConfigError
from throughtime.flow.calls import Sequence_, forward_job, with_all_states
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
def resetting(
    model: Any, last_steps: int, seen: Schedule | None = None, *, exchange: bool = False
) -> Iterator[Any]:
    """Have every recurrent layer forget what lies more than n steps before the end of its row.

    Args:
        model: Any nn.Module, or a step f(x_t, state) -> state.
        last_steps: n.
        seen: What `Watch.schedule` gives after the same loss was computed once: where in a
            sequence each call stands. Without it every call of a layer is a sequence of its own,
            and models that take single steps are refused.
        exchange: At a border take the state of the next row at its border, not the initial one.

    Returns:
        A context that gives the model to compute the loss with.

    Raises:
        ConfigError: n is no positive number; or the model takes single steps and `seen` is
            missing, or does not fit.
    """
    if not isinstance(last_steps, int) or last_steps < 1:
        raise ConfigError(f"last_steps={last_steps!r}; expected a whole number from 1 up.")
    run = _Resetting(last_steps, seen, exchange)
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

    def __init__(self, last_steps: int, seen: Schedule | None, exchange: bool) -> None:  # noqa: FBT001
        self.last_steps, self.seen, self.exchange = last_steps, seen, exchange
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
        anew = _exchanged if self.exchange else _fresh
        return run_in_pieces(job, inputs, sequence, self.last_steps, place, anew)

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
            hx = _of_next_row(hx) if self.exchange else None
        return original(module, input, hx)

    def own_step(self, module: Any, args: Any, options: Any) -> Any:
        """Give a step of the user's own the state its first call had, or zeros."""
        assert self.seen is not None, "only what was seen has leaves"
        leaves = self.seen.leaves[id(module)]
        if not self._is_border((id(module), 0, False), type(module).__name__):
            return args, options
        return leaves.changed(args, options, _of_next_row if self.exchange else None)

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
                state = _of_next_row(state) if self.exchange else self._first[0]
            return step(x, state)

        return taken


def _of_next_row(state: Any) -> Any:
    """Each row's state exchanged for that of the next row."""
    return pytree.tree_map_only(Tensor, lambda s: s.roll(-1, 0) if s.dim() > 1 else s, state)


class _Pieces(NamedTuple):
    """How a call is cut, in the order of its steps; pieces are counted from the end.

    Attributes:
        length: Of each piece, [P, B].
        start: The first step of each piece, in the order of steps, [P, B].
        step: Which step each step of a piece is, in memory, [n, P, B].
        piece, place: In which piece each step of the call stands, and where, [T, B].
        keeps: Whether a piece starts from the state handed in, [P, B].
        real: [T, B].
    """

    length: Tensor
    start: Tensor
    step: Tensor
    piece: Tensor
    place: Tensor
    keeps: Tensor
    real: Tensor


def _fresh(job: Job, inputs: Inputs, sequence: Sequence_, pieces: _Pieces) -> list[Tensor]:  # noqa: ARG001
    """The initial state; [w], or a number."""
    return fresh_states(job, inputs)


def _exchanged(job: Job, inputs: Inputs, sequence: Sequence_, pieces: _Pieces) -> list[Tensor]:
    """For each piece the state that the next row has where its own piece begins, [D, P * B, w]."""
    count = len(job.cell.states)
    every = with_all_states(job, inputs, sequence)[1 + count :]
    donor = torch.arange(inputs.x.shape[1], device=inputs.x.device).roll(-1)
    start = pieces.start[:, donor]
    return [h[:, start, donor].flatten(1, 2) for h in Steps(job, inputs).history(every)]


Anew = Callable[[Job, Inputs, Sequence_, _Pieces], list[Tensor]]


def run_in_pieces(
    job: Job,
    inputs: Inputs,
    sequence: Sequence_,
    last_steps: int,
    place: Place | None = None,
    anew: Anew = _fresh,
) -> tuple[Tensor, ...]:
    """Run a layer that starts anew n, 2n, 3n ... steps before the end of each row.

    Args:
        job: What is asked.
        inputs: Its tensors.
        sequence: Runs a job.
        last_steps: n.
        place: Where the call stands in its sequence.
        anew: What pieces start from.

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
    start = anew(job, inputs, sequence, pieces)
    found = sequence(forward_job(job), _side_by_side(job, inputs, pieces, start))
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
    return _Pieces(length, start, step, piece, where, keeps, real)


def _side_by_side(job: Job, inputs: Inputs, pieces: _Pieces, anew: Sequence[Tensor]) -> Inputs:
    """The pieces as rows of one batch, those after a border from other states."""
    count = pieces.step.shape[0]
    column = torch.arange(pieces.step.shape[2], device=inputs.x.device)

    def gathered(a: Tensor) -> Tensor:  # [T, B, ...] as [n, P * B, ...]
        return a[pieces.step, column].flatten(1, 2)

    reset = None if inputs.reset is None else inputs.reset & pieces.real
    if reset is not None and job.reverse:  # the border before step t + 1 is met before t
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    keeps = pieces.keeps.flatten()[:, None]
    most = pieces.keeps.shape[0]
    states = tuple(
        torch.where(keeps, s.repeat(1, most, 1), f)
        for s, f in zip(inputs.states, anew, strict=True)
    )
    ragged = bool((pieces.length != count).any())
    return inputs._replace(
        x=gathered(inputs.x),
        states=states,
        extras=tuple(map(gathered, inputs.extras)),
        lengths=pieces.length.flatten() if ragged else None,
        reset=None if reset is None else gathered(reset),
    )
