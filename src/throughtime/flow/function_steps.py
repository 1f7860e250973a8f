"""How is an adjoint pulled back through a step that is no declared cell? By autograd, batched."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import ConfigError
from throughtime.flow.calls import Gradients, largest_difference, plain, tapped
from throughtime.flow.linear import Pulled
from throughtime.flow.loops import Carried
from throughtime.flow.passage import Passage

__all__ = ["FunctionSteps", "StepCall", "called", "joined_steps"]


@dataclass
class StepCall:
    """One step of the user's own; a call as `loops` wants it.

    Attributes:
        owner: What was called.
        starts: The states it started from, under names of their own in the graph; None where a
            state had no graph, or was not there.
        new: The next states.
        given, last: The states as they came and went, a row for each sequence.
        handed: The caller's copies of the next states.
        attached: Whether the states it started from had a graph.

    Shape:
        given, last: each [1, B, w]
    """

    owner: Any
    starts: tuple[Tensor | None, ...]
    new: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    last: tuple[Tensor, ...]
    handed: tuple[Tensor, ...]
    attached: bool
    replay_error: float = 0.0

    @property
    def key(self) -> tuple[int, int, bool]:
        """Which module."""
        return (id(self.owner), 0, False)

    @property
    def rows(self) -> int:
        """B."""
        return self.last[0].shape[1]

    def fresh(self) -> list[Tensor]:
        """What each state is where a sequence begins."""
        return [torch.zeros_like(s) for s in self.given]

    def steps(self) -> Tensor:
        """Each row takes one. [B]."""
        return torch.ones(self.rows, dtype=torch.long, device=self.last[0].device)

    def taps(self) -> list[Tensor]:
        """The tensors whose gradients are wanted."""
        return [*self.new, *(s for s in self.starts if s is not None)]

    def arrived(self) -> list[Tensor]:
        """The tensors through which an error comes in."""
        return list(self.new)


def by_row(state: Tensor) -> Tensor:
    """A state of any shape as [1, B, w]; without a batch it is one row."""
    return state.reshape(1, state.shape[0] if state.dim() > 1 else 1, -1)


class FunctionSteps:
    """Calls of a function, linearised where they were taken; see `linear.LinearSteps`.

    The graph of the calls themselves is used, so whatever they drew (dropout) stays as it was; it
    must not be freed by a backward pass before.

    Args:
        calls: The steps in order.
        rows: Which rows are looked at.
    """

    def __init__(self, calls: Sequence[StepCall], rows: Tensor) -> None:
        self._calls, self._rows = list(calls), rows
        count = len(calls[0].new)
        self.states = tuple(f"s{i + 1}" for i in range(count)) if count > 1 else ("s",)
        self.widths = tuple(s.shape[-1] for s in calls[0].last)
        self.depth, self.count, self.rows = 1, len(calls), len(rows)

    def pulled(self, t: int, adjoints: Sequence[Tensor]) -> Pulled:
        """Pull adjoints back through step t."""
        call = self._calls[t]
        asked = [(n, self._whole(a, n)) for n, a in zip(call.new, adjoints, strict=True)]
        asked = [(n, a) for n, a in asked if n.requires_grad]
        known = {i: s for i, s in enumerate(call.starts) if s is not None}
        found = _pulled([n for n, _ in asked], list(known.values()), [a for _, a in asked])
        past = {
            (i, 1): self._chosen(g, adjoints[i])
            for i, g in zip(known, found, strict=True)
            if g is not None
        }
        return Pulled(past, {})

    def _whole(self, adjoint: Tensor, like: Tensor) -> Tensor:
        """Adjoints of the chosen rows as adjoints of all of them, in the state's own shape."""
        rows = like.shape[0] if like.dim() > 1 else 1
        whole = adjoint.new_zeros(adjoint.shape[0], rows, adjoint.shape[-1])
        whole[:, self._rows] = adjoint
        return whole.reshape(adjoint.shape[0], *like.shape).to(like.dtype)

    def _chosen(self, gradient: Tensor, like: Tensor) -> Tensor:
        by_rows = gradient.reshape(gradient.shape[0], -1, like.shape[-1])
        return by_rows[:, self._rows].to(like.dtype)


def _pulled(
    outputs: list[Tensor], inputs: list[Tensor], adjoints: list[Tensor]
) -> Sequence[Tensor | None]:
    """The gradients for many adjoints at once; each with a leading axis of them."""
    if not outputs:
        return [None] * len(inputs)
    with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(mode=False):
        # an operation without a batched form is slow, not wrong
        warnings.filterwarnings("ignore", message="There is a performance drop")
        try:
            return _gradients(outputs, inputs, adjoints, is_grads_batched=True)
        except RuntimeError:  # a backward pass of the user's own that looks at its numbers
            each = [_gradients(outputs, inputs, one) for one in zip(*adjoints, strict=True)]
    return [None if g[0] is None else torch.stack(g) for g in zip(*each, strict=True)]


def _gradients(*given: Any, **options: Any) -> Any:
    return torch.autograd.grad(*given, retain_graph=True, allow_unused=True, **options)


def called(owner: Any, x: Any, state: Any, *, first: bool) -> tuple[StepCall, Any]:
    """Take a step of a callable, and keep what it did.

    Args:
        owner: f(x_t, state) -> state.
        x: Its input.
        state: A tensor, or a tuple of tensors.
        first: Whether to see if it gives the same result twice.

    Returns:
        The call, and what the caller gets.

    Raises:
        ConfigError: it does not return states like those it was given, or not the same ones.
    """
    alone = isinstance(state, Tensor)
    given = (state,) if alone else tuple(state)
    starts = tuple(map(tapped, given))
    new = _states_of(owner, owner(x, starts[0] if alone else starts), given)
    if first:
        with torch.no_grad(), torch.random.fork_rng([g.device for g in given if g.is_cuda]):
            again = _states_of(owner, owner(x, state), given)
        if largest_difference(new, again) > 0.0:
            raise ConfigError(
                f"{_name(owner)} gave two different results for the same input and state; expected "
                f"a deterministic step. Turn its dropout off, or draw its noise beforehand."
            )
    new = tuple(n.view_as(n) for n in new)
    handed = tuple(n.clone() for n in new)
    call = StepCall(
        owner=owner,
        starts=tuple(s if s.requires_grad else None for s in starts),
        new=new,
        given=tuple(map(by_row, given)),
        last=tuple(map(by_row, new)),
        handed=handed,
        attached=any(g.requires_grad for g in given),
    )
    return call, handed[0] if alone else handed


def _states_of(owner: Any, result: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    found = (result,) if isinstance(result, Tensor) else result
    fits = isinstance(found, tuple | list) and all(isinstance(s, Tensor) for s in found)
    if not fits or [s.shape for s in found] != [s.shape for s in given]:
        want = ", ".join(str(list(s.shape)) for s in given)
        got = ", ".join(str(list(s.shape)) for s in found) if fits else type(result).__name__
        raise ConfigError(
            f"{_name(owner)} returned {got}; expected the next state, in the shapes of the one it "
            f"was given: {want}."
        )
    return tuple(found)


def _name(owner: Any) -> str:
    return getattr(owner, "__name__", type(owner).__name__)


def joined_steps(sequence: Carried, gradients: Gradients, rows: Tensor) -> Passage:
    """The passage of one sequence of calls.

    A first call whose state had no graph cannot be linearised; the passage begins after it.

    Args:
        sequence: Its calls.
        gradients: Of the loss.
        rows: Which rows are looked at.
    """
    calls, carried = list(sequence.calls), list(sequence.carried)
    rows = rows.to(calls[0].last[0].device)
    seeds = _seeds(calls, carried, gradients, rows)
    cut = all(s is None for s in calls[0].starts) and len(calls) > 1
    taken = calls[1:] if cut else calls
    seeds = tuple(s[1:] for s in seeds) if cut else seeds
    on = [c[rows] for c in carried]
    reached = torch.stack(on if cut else [torch.ones_like(rows, dtype=torch.bool), *on])
    real = torch.ones_like(reached)
    steps = FunctionSteps(taken, rows)
    return Passage(_name(calls[0].owner), "", steps, seeds, reached.unsqueeze(0), real, 0.0)


def _seeds(
    calls: Sequence[StepCall], carried: Sequence[Tensor], gradients: Gradients, rows: Tensor
) -> tuple[Tensor, ...]:
    """What comes in at each step, less what the next one handed back. Each [T, B, w]."""
    found = []
    for i, state in enumerate(calls[0].last):
        parts = []
        for number, call in enumerate(calls):
            total = _gradient(call.new[i], state, gradients)
            if number + 1 < len(calls):
                back = _gradient(calls[number + 1].starts[i], state, gradients)
                total = total - torch.where(carried[number].view(1, -1, 1), back, 0.0)
            parts.append(total[:, rows])
        found.append(torch.cat(parts))
    return tuple(found)


def _gradient(tensor: Tensor | None, like: Tensor, gradients: Gradients) -> Tensor:
    found = None if tensor is None else gradients.of(tensor)
    return torch.zeros_like(plain(like)) if found is None else plain(found).reshape(like.shape)
