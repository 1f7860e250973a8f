"""Where in its sequence does each call of a layer stand? As it was seen when it was watched."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from throughtime.flow.loops import Carried

__all__ = ["Leaves", "Place", "Schedule", "leaves_of", "places_of"]

Key = tuple[int, int, bool]


class Place(NamedTuple):
    """How many real steps of each row's sequence come before a call, and after it.

    Shape:
        each [B]
    """

    before: Tensor
    after: Tensor


@dataclass
class Leaves:
    """Which of a module's arguments are its state, and what its first call got there.

    Attributes:
        places: Their numbers among the leaves of the arguments.
        first: What the first call got, or zeros.
    """

    places: Sequence[int]
    first: Sequence[Tensor]

    def changed(
        self, args: Any, options: Any, change: Callable[[Any], Any] | None
    ) -> tuple[Any, Any]:
        """The arguments with another state: the first one, or what `change` makes of it."""
        leaves, form = leaves_of((args, options))
        for place, first in zip(self.places, self.first, strict=True):
            leaves[place] = first if change is None else change(leaves[place])
        return pytree.tree_unflatten(leaves, form)


@dataclass
class Schedule:
    """What a second run of the same loss needs to know of the first.

    Attributes:
        places: For each layer and direction the place of each of its calls, in order.
        leaves: For each module of the user's own that steps, where its state is.
        longest_steps: Of all sequences and rows.
    """

    places: dict[Key, list[Place]] = field(default_factory=dict)
    leaves: dict[int, Leaves] = field(default_factory=dict)
    longest_steps: int = 0

    def add(self, key: Key, calls: Sequence[Any], apart: Iterable[Carried]) -> None:
        """Put down the calls of one layer."""
        places, longest = places_of(apart)
        self.places[key] = [places[id(call)] for call in calls]
        self.longest_steps = max(self.longest_steps, longest)


def leaves_of(value: Any) -> tuple[list[Any], Any]:
    """The leaves of some arguments, and how to put them together again."""
    return pytree.tree_flatten(value, is_leaf=lambda v: isinstance(v, PackedSequence))


def places_of(apart: Iterable[Carried]) -> tuple[dict[int, Place], int]:
    """The place of each call, by identity, and the longest row."""
    found: dict[int, Place] = {}
    longest = 0
    for sequence in apart:
        steps = [call.steps() for call in sequence.calls]
        whole = torch.stack(steps).sum(0)
        before = torch.zeros_like(whole)
        for call, own in zip(sequence.calls, steps, strict=True):
            found[id(call)] = Place(before, whole - before - own)
            before = before + own
        longest = max(longest, int(whole.max()) if whole.numel() else 0)
    return found, longest
