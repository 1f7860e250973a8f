"""Which calls of a layer belong to one sequence? Those that start where another one ended.

A call whose state is that of the end of an earlier one goes on with its sequence; one that starts
from the initial state, or from a state that owes nothing to an earlier one (a context, a detached
state), begins a sequence. Rows of a carried state that were set back to the initial one start anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Carried", "Changed", "sequences"]


class Changed(Exception):  # noqa: N818 (no error: it is told as a reason)
    """A state or a weight was changed between two calls, by code that we do not see."""


@dataclass
class Carried:
    """The calls of one sequence, and which rows each of them took over from the one before.

    Attributes:
        calls: In order of time; of a layer (`calls.Call`), or steps of the user's own
            (`function_steps.StepCall`).
        carried: For each call but the first; a row that was not carried over started anew.

    Shape:
        carried: each [B], bool
    """

    calls: list[Any]
    carried: list[Tensor] = field(default_factory=list)


def sequences(calls: Sequence[Any]) -> list[Carried]:
    """Put the calls of one layer and direction together.

    Raises:
        Changed: a state is neither that of an earlier end nor new, but made from one.
    """
    found: list[Carried] = []
    for call in calls:
        for number, sequence in reversed(list(enumerate(found))):
            rows = _taken_over(sequence.calls[-1], call)
            if rows is not None:
                sequence.calls.append(call)
                sequence.carried.append(rows)
                found.append(found.pop(number))  # the likeliest to go on is looked at first
                break
        else:
            if found and call.attached and _is_made_from(call, [s.calls[-1] for s in found]):
                raise Changed(
                    f"its state at call {sum(len(s.calls) for s in found) + 1} is neither that of "
                    f"an earlier call nor zeros: it was changed in between"
                )
            found.append(Carried([call]))
    order = {id(call): n for n, call in enumerate(calls)}
    return sorted(found, key=lambda s: order[id(s.calls[0])])


def _taken_over(before: Any, call: Any) -> Tensor | None:
    """Which rows go on; None if the call is no continuation at all. [B]."""
    pairs = list(zip(before.last, call.given, strict=True))
    if not call.attached or any(a.shape != b.shape for a, b in pairs):
        return None
    same = _rows_alike(pairs)
    new = _rows_alike([(f.expand_as(s), s) for f, s in zip(call.fresh(), call.given, strict=True)])
    return same if bool((same | new).all()) and not bool(new.all()) else None


def _rows_alike(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Which rows are equal in all states; a number that is none equals itself. [B]."""
    found = [((a == b) | (a.isnan() & b.isnan())).all(-1).all(0) for a, b in pairs]
    return torch.stack(found).all(0)


def _is_made_from(call: Any, earlier: list[Any]) -> bool:
    """Whether a call's state depends on the last states of earlier ones."""
    ends = {t.grad_fn for e in earlier for t in e.handed}
    left = [s.grad_fn for s in call.given if s.grad_fn is not None]
    seen = set(left)
    while left:
        node = left.pop()
        if node in ends:
            return True
        following = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= following
        left += following
    return False
