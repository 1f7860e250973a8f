"""What is asked of an engine? One layer and direction of a cell over a sequence."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.declare import Cell, restore
from throughtime.declare.slots import Biases, Piece, Sizes, Slot, slots


@dataclass(frozen=True)
class Job:
    """The part of a call that is not a tensor.

    Attributes:
        cell: The recurrence.
        sizes: What its symbolic widths are.
        biases: Which bias tensors there are (see `declare.slots`).
        reverse: Whether it runs from the last real step to the first.
        all_states: Whether the states of every step are wanted.
        products: The dtype in which matrices are multiplied under autocast ("bfloat16"), or None.
        memo: What engines worked out for this job, by engine.
    """

    cell: Cell
    sizes: Sizes
    biases: Biases = "one"
    reverse: bool = False
    all_states: bool = False
    products: str | None = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (job_of, (self.text,))

    def __deepcopy__(self, memo: object) -> "Job":
        return self

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The weight tensors, in order."""
        return slots(self.cell, self.biases)

    @cached_property
    def text(self) -> str:
        """The job as JSON text; `job_of` reads it back."""
        fields = {"cell": self.cell.text, "sizes": asdict(self.sizes), "biases": self.biases}
        flags = {"reverse": self.reverse, "all_states": self.all_states, "products": self.products}
        return json.dumps(fields | flags)

    @cached_property
    def clocks(self) -> frozenset[int]:
        """The places of the states that count steps, which have no gradients."""
        return frozenset(i for i, s in enumerate(self.cell.states) if s.clock)

    @property
    def output_size(self) -> int:
        """Features of the output, emitted values concatenated."""
        return sum(self.sizes.of(n.width) for n in self.cell.out)

    @cached_property
    def _state_sizes(self) -> tuple[int, ...]:
        return tuple(self.sizes.of(s.width) for s in self.cell.states)

    def state_sizes(self) -> tuple[int, ...]:
        """The width of each state."""
        return self._state_sizes


@lru_cache(maxsize=1024)
def job_of(text: str) -> Job:
    """The job that a text describes; the same object for the same text."""
    fields = json.loads(text)
    fields["cell"] = restore(fields["cell"])
    fields["sizes"] = Sizes(**fields["sizes"])
    return Job(**fields)


class Inputs(NamedTuple):
    """The tensors of a call.

    Shape:
        x: [T, B, I]; states: each [D, B, w], newest last; initial: each [w], learned, or none at
        all; weights: by `Job.slots`; params: each [w]; extras: each [T, B, w];
        lengths: [B]; reset: [T, B], bool.
    """

    x: Tensor
    states: tuple[Tensor, ...]
    initial: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    params: tuple[Tensor, ...]
    extras: tuple[Tensor, ...]
    lengths: Tensor | None = None
    reset: Tensor | None = None

    def flat(self) -> tuple[Tensor, ...]:
        """The differentiable tensors in order."""
        return (self.x, *self.states, *self.initial, *self.weights, *self.params, *self.extras)


def unflatten(
    job: Job, flat: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None
) -> Inputs:
    """Undo `Inputs.flat`."""
    cell, parts = job.cell, tuple(flat)
    states = 1 + len(cell.states)
    params = len(parts) - len(cell.extras)
    weights = params - len(cell.params)
    initial = weights - len(job.slots)
    return Inputs(
        parts[0],
        parts[1:states],
        parts[states:initial],
        parts[initial:weights],
        parts[weights:params],
        parts[params:],
        lengths,
        reset,
    )


def learns(flat: Iterable[Tensor]) -> bool:
    """Whether gradients of any of these tensors may be asked for, where autograd is on."""
    return any(t.requires_grad for t in flat)


def rows(job: Job, slot: Slot) -> Iterator[tuple[Piece, slice]]:
    """Each gate of a slot with its rows."""
    start = 0
    for piece in slot.pieces:
        stop = start + job.sizes.of(piece.width)
        yield piece, slice(start, stop)
        start = stop


def by_gate(
    job: Job, weights: Sequence[Tensor]
) -> tuple[dict[tuple[str, int], Tensor], dict[str, list[Tensor]]]:
    """The matrix before each read of each gate, and each gate's biases, as views of the weights."""
    matrices: dict[tuple[str, int], Tensor] = {}
    biases: dict[str, list[Tensor]] = {}
    for slot, weight in zip(job.slots, weights, strict=True):
        for piece, part in rows(job, slot):
            if piece.place is None:
                biases.setdefault(piece.gate, []).append(weight[part])
            else:
                matrices[piece.gate, piece.place] = weight[part]
    return matrices, biases


def joined_rows(weight: Tensor, parts: list[slice]) -> Tensor:
    """Some rows of a tensor; a view, or the tensor itself, where they are neighbours in order."""
    if all(a.stop == b.start for a, b in pairwise(parts)):
        whole = parts[0].start == 0 and parts[-1].stop == weight.shape[0]
        return weight if whole else weight[parts[0].start : parts[-1].stop]
    return torch.cat([weight[part] for part in parts])


def fresh_states(job: Job, inputs: Inputs) -> list[Tensor]:
    """What each state is after a reset: the learned vector, [w], or the declared number."""
    learned = iter(inputs.initial)
    x, dtype = inputs.x, inputs.states[0].dtype
    return [
        next(learned)
        if inputs.initial and not state.clock
        else x.new_full((), state.initial, dtype=dtype)
        for state in job.cell.states
    ]
