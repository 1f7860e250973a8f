"""Which modules of the user's own are steps? Those whose output comes back as their next input.

Every module that is no part of torch is a candidate. What it returns is compared with what it is
given at its next call; a tensor that comes back twice, row by row or set to zero, is its state.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from throughtime.flow.calls import tapped
from throughtime.flow.function_steps import StepCall, by_row
from throughtime.flow.loops import Carried, Changed, sequences
from throughtime.flow.schedule import Leaves, Schedule, leaves_of

__all__ = ["StepModules"]

_LEAST_CALLS = 3  # two could be a block that is applied twice


@dataclass
class _Seen:
    """A call: what it was given under the names it was given, and what it returned.

    Attributes:
        given: The leaves of its arguments, as they came.
        starts: The same under names of their own.
        new, handed: The leaves of its result, and the caller's copies.
    """

    given: list[Any]
    starts: list[Any]
    new: list[Any]
    handed: list[Any]


class StepModules:
    """What was seen of the modules that could be steps.

    Args:
        named: The candidates, by name.
    """

    def __init__(self, named: dict[str, nn.Module]) -> None:
        self.named = named
        self._open: dict[int, list[_Seen]] = {}
        self._seen: dict[int, list[_Seen]] = {id(m): [] for m in named.values()}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See every call of a candidate."""
        with ExitStack() as stack:
            for module in self.named.values():
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                stack.callback(before.remove)
                stack.callback(module.register_forward_hook(self._leave).remove)
            yield

    def _enter(self, module: nn.Module, args: Any, options: Any) -> tuple[Any, Any]:
        given, form = leaves_of((args, options))
        starts = [tapped(t) if isinstance(t, Tensor) and t.requires_grad else t for t in given]
        self._open.setdefault(id(module), []).append(_Seen(given, starts, [], []))
        return pytree.tree_unflatten(starts, form)

    def _leave(self, module: nn.Module, _: Any, result: Any) -> Any:
        seen = self._open[id(module)].pop()
        leaves, form = leaves_of(result)
        once = {id(t): t.view_as(t) if _is_state(t) else t for t in leaves}
        copies = {key: t.clone() if _is_state(t) else t for key, t in once.items()}
        seen.new = [once[id(t)] for t in leaves]  # what is returned twice stays one tensor
        seen.handed = [copies[id(t)] for t in leaves]
        self._seen[id(module)].append(seen)
        return pytree.tree_unflatten(seen.handed, form)

    def schedule(self, schedule: Schedule, examined: Sequence[nn.Module]) -> None:
        """Put down where each call of each step stands."""
        for _, module, _ in self.sequences(examined):
            seen = self._seen[id(module)]
            places = _places(seen)
            calls = [_call(module, s, places) for s in seen]
            schedule.add(calls[0].key, calls, sequences(calls))
            first = [
                g.detach().reshape(n.shape)
                for g, n in zip(calls[0].given, calls[0].new, strict=True)
            ]
            schedule.leaves[id(module)] = Leaves(list(places), first)

    def sequences(
        self, examined: Sequence[nn.Module]
    ) -> list[tuple[str, nn.Module, list[Carried]]]:
        """The modules that step, innermost first, with their sequences.

        Args:
            examined: Modules that are examined already; what contains one is no step of its own.
        """
        found: list[tuple[str, nn.Module, list[Carried]]] = []
        inside = {id(m) for m in examined}
        for name, module in reversed(self.named.items()):  # a part is named after its whole
            if any(id(part) in inside for part in module.modules()):
                continue
            apart = _sequences(module, self._seen[id(module)])
            if apart:
                inside.add(id(module))
                found.append((name, module, apart))
        return found[::-1]


def _is_state(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0


def _sequences(module: nn.Module, seen: Sequence[_Seen]) -> list[Carried]:
    """The sequences of one module; none if it does not step, or in a way we cannot follow."""
    if len(seen) < _LEAST_CALLS:
        return []
    places = _places(seen)
    if not places:
        return []
    try:
        found = sequences([_call(module, s, places) for s in seen])
    except Changed:
        return []
    return [s for s in found if len(s.calls) >= _LEAST_CALLS]


def _places(seen: Sequence[_Seen]) -> dict[int, int]:
    """Which leaf of the arguments holds which leaf of the result before."""
    for before, after in pairwise(seen):
        found: dict[int, int] = {}
        for i, given in enumerate(after.given):
            if _is_state(given) and given.requires_grad:
                same = [j for j, new in enumerate(before.handed) if new is given]
                same += [j for j, new in enumerate(before.handed) if _came_back(new, given)]
                if same and same[0] not in found.values():
                    found[i] = same[0]
        if found:
            return found
    return {}


def _came_back(new: Any, given: Tensor) -> bool:
    alike = _is_state(new) and new.shape == given.shape and bool(given.any())
    return alike and bool(((new == given) | (given == 0)).all())


def _call(module: nn.Module, seen: _Seen, places: dict[int, int]) -> StepCall:
    new = tuple(seen.new[j] for j in places.values())
    call = StepCall(
        owner=module,
        starts=(None,) * len(new),
        new=new,
        given=tuple(torch.zeros_like(by_row(n)) for n in new),
        last=tuple(map(by_row, new)),
        handed=tuple(seen.handed[j] for j in places.values()),
        attached=False,
    )
    given = [seen.given[i] for i in places if i < len(seen.given) and _is_state(seen.given[i])]
    if [g.shape for g in given] != [n.shape for n in new]:
        return call  # the first call of a sequence may have no state
    starts = [seen.starts[i] for i in places]
    return replace(
        call,
        starts=tuple(s if s.requires_grad else None for s in starts),
        given=tuple(map(by_row, given)),
        attached=any(g.requires_grad for g in given),
    )
