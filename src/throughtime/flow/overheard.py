"""What did a recurrent module read in one update, and which error came back to it?"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.flow.capture import watching
from throughtime.flow.passage import Passage
from throughtime.flow.torch_modules import CELLS

__all__ = ["Overheard", "overhearing"]


@dataclass
class _Heard:
    """One call of a module: its arguments, and the errors that came to its tensors.

    Attributes:
        arguments, options: As they came, detached.
        errors: dE/d each tensor that it gave, by place.
        handed_on: Of a cell: what its next call hands back to the states that it was given.
    """

    arguments: Any
    options: Any
    errors: dict[int, Tensor] = field(default_factory=dict)
    handed_on: dict[int, Tensor] = field(default_factory=dict)


class Overheard:
    """All calls of one module in one update.

    Args:
        name: Of the module.
        module: The module.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.calls: list[_Heard] = []

    def before(self, _module: nn.Module, arguments: Any, options: Any) -> Any:
        """Give the states of a cell a name of their own, to tell what the next step hands back."""
        heard = _Heard(self._kept(arguments), self._kept(options))
        self.calls.append(heard)
        if not isinstance(self.module, CELLS) or len(arguments) < 2:
            return None
        given = arguments[1]
        states = given if isinstance(given, tuple | list) else (given,)
        named = [self._named(heard, i, s) for i, s in enumerate(states)]
        state = tuple(named) if isinstance(given, tuple | list) else named[0]
        return (arguments[0], state, *arguments[2:]), options

    def _kept(self, given: Any) -> Any:
        """Without its graph. Under autocast the dtype may not be that of the weights: made so."""
        dtype = next((p.dtype for p in self.module.parameters()), None)
        return _changed(
            given, lambda t: t.detach().to(dtype) if t.is_floating_point() else t.detach()
        )

    def _named(self, heard: _Heard, place: int, state: Any) -> Any:
        if not isinstance(state, Tensor) or not state.requires_grad:
            return state
        alias = state.view_as(state)
        alias.register_hook(lambda g: heard.handed_on.__setitem__(place, g.detach()))
        return alias

    def after(self, _module: nn.Module, _arguments: Any, _options: Any, given: Any) -> Any:
        """Keep the errors that will come to what it gave.

        It is given on under another name: within a step c is what h is made from, and the error
        that takes this way is none that comes from outside.
        """
        heard, place = self.calls[-1], iter(range(len(_tensors(given))))

        def overheard(tensor: Tensor) -> Tensor:
            number = next(place)
            if not tensor.requires_grad:
                return tensor
            alias = tensor.view_as(tensor)
            alias.register_hook(lambda g: heard.errors.__setitem__(number, g.detach()))
            return alias

        return _changed(given, overheard)

    def passages(self, rows: int) -> list[Passage]:
        """What the module did on a few rows, with the errors that came as its loss."""
        if not any(heard.errors for heard in self.calls):
            return []
        with torch.enable_grad(), watching(self.module) as watch:
            loss = self._loss(rows) if not isinstance(self.module, CELLS) else self._loop(rows)
        found = watch.passages(loss, rows=rows)
        return [p.named(self._named_as(p.name), p.kind, p.replay_error) for p in found]

    def _named_as(self, name: str) -> str:
        """The name in the model, for the name in the module."""
        return self.name + name.removeprefix(type(self.module).__name__)

    def _loss(self, rows: int) -> Tensor:
        """The sum of everything that the module gives times the error that came to it."""
        total: Any = 0.0
        for heard in self.calls:
            if heard.errors:
                few = _Few(self.module, heard, rows)
                given = self.module(*few.arguments, **few.options)
                total = total + few.loss(_tensors(given))
        return total

    def _loop(self, rows: int) -> Tensor:
        """The same for a cell in a loop: the error of a state less what the next step hands on."""
        total: Any = 0.0
        state: Any = None
        for heard, later in zip(self.calls, [*self.calls[1:], None], strict=True):
            few = _Few(self.module, heard, rows)
            first = few.arguments[1] if state is None and len(few.arguments) > 1 else state
            state = self.module(few.arguments[0], first)
            for place, tensor in enumerate(_tensors(state)):
                error = heard.errors.get(place)
                handed = None if later is None else later.handed_on.get(place)
                if error is not None:
                    outside = error if handed is None else error - handed
                    total = total + (tensor * outside[:rows]).sum()
        return total


class _Few:
    """A call with the first few rows alone, where it is plain to see which axis they are."""

    def __init__(self, module: nn.Module, heard: _Heard, rows: int) -> None:
        first = heard.arguments[0]
        self.heard, self.rows = heard, rows
        is_cell = isinstance(module, CELLS)
        self.axis = 0 if is_cell or getattr(module, "batch_first", False) else 1
        self.is_cut = isinstance(first, Tensor) and first.dim() == (2 if is_cell else 3)
        self.total = first.shape[self.axis] if self.is_cut else None
        self.is_cell = is_cell
        rest = heard.arguments[1:]
        self.arguments = (self._cut(first, self.axis), *(self._state(a) for a in rest))
        self.options = {name: self._option(name, v) for name, v in heard.options.items()}

    def _cut(self, tensor: Any, axis: int) -> Any:
        if not self.is_cut or not isinstance(tensor, Tensor) or tensor.dim() <= axis:
            return tensor
        if tensor.shape[axis] != self.total:
            return tensor
        return tensor.narrow(axis, 0, min(self.rows, tensor.shape[axis]))

    def _state(self, given: Any) -> Any:
        """A state has its rows in the last axis but one."""
        if isinstance(given, tuple | list):
            return type(given)(self._state(part) for part in given)
        return self._cut(given, given.dim() - 2) if isinstance(given, Tensor) else given

    def _option(self, name: str, value: Any) -> Any:
        if name in {"hx", "hidden"}:
            return self._state(value)
        if name == "lengths":
            return value[: self.rows] if self.is_cut and value is not None else value
        if isinstance(value, Mapping):
            return {key: self._cut(part, self.axis) for key, part in value.items()}
        return self._cut(value, self.axis)

    def loss(self, given: list[Tensor]) -> Tensor:
        """What it gave, times the errors that came."""
        total = given[0].new_zeros(())
        for place, error in self.heard.errors.items():
            tensor = given[place]
            if self.is_cut and tensor.shape != error.shape:
                axis = next(
                    i
                    for i, (a, b) in enumerate(zip(tensor.shape, error.shape, strict=True))
                    if a != b
                )
                error = error.narrow(axis, 0, tensor.shape[axis])
            total = total + (tensor * error).sum()
        return total


def _tensors(given: Any) -> list[Tensor]:
    """The tensors in what a module gave, in order."""
    if isinstance(given, Tensor):
        return [given]
    if hasattr(given, "batch_sizes"):
        return [given.data]
    return [t for part in given for t in _tensors(part)] if isinstance(given, tuple | list) else []


def _detached(value: Any) -> Any:
    """The same without its graph."""
    return _changed(value, Tensor.detach)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with all its tensors changed, in order."""
    if isinstance(value, Tensor):
        return change(value)
    if hasattr(value, "batch_sizes"):
        return value._replace(data=change(value.data))
    if isinstance(value, tuple | list):
        return type(value)(_changed(part, change) for part in value)
    if isinstance(value, dict):
        return {name: _changed(part, change) for name, part in value.items()}
    return value


@contextmanager
def overhearing(modules: Mapping[str, nn.Module]) -> Iterator[list[Overheard]]:
    """Overhear some modules during one update, without changing a bit of it."""
    heard = [Overheard(name, module) for name, module in modules.items()]
    hooks = []
    for one in heard:
        hooks.append(one.module.register_forward_pre_hook(one.before, with_kwargs=True))
        hooks.append(one.module.register_forward_hook(one.after, with_kwargs=True))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
