"""How does a state look from outside? torch's shapes for hx, and one tuple a layer inside.

A state is [layers * directions, B, w], with a leading axis of its last D values, newest last,
where the cell has delays (D > 1). A cell of one state has it bare, others as a tuple. Layers that
differ in widths make hx a list, one a layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.declare import Cell
from throughtime.errors import DeviceError, DtypeError, ShapeError

LayerState = tuple[Tensor, ...]  # of one layer and direction: each state [D, B, w]


def detach(hx: Any) -> Any:
    """Cut a carried state from the graph that made it; any nesting of tensors."""
    return each(hx, Tensor.detach)


def each(hx: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a state; what is none is handed on, to be refused."""
    if isinstance(hx, Tensor):
        return change(hx)
    return type(hx)(each(part, change) for part in hx) if isinstance(hx, tuple | list) else hx


class StateLayout:
    """The shape of a stack's state.

    Args:
        cell: The recurrence.
        widths: For each layer the width of each state.
        directions: 1 or 2.
    """

    def __init__(self, cell: Cell, widths: Sequence[tuple[int, ...]], directions: int) -> None:
        self.cell, self.widths, self.directions = cell, list(widths), directions
        self.uniform = len(set(self.widths)) == 1

    def split(self, hx: Any, batch: int, like: Tensor, *, batched: bool = True) -> list[LayerState]:
        """One tuple of states for each layer and direction, from the caller's hx.

        Args:
            hx: States [..., B, w].
            batch: B.
            like: A tensor of the dtype and device wanted.
            batched: Whether the caller's own states have the axis B, for messages.

        Raises:
            DtypeError: not tensors, or of another dtype.
            DeviceError: on another device.
            ShapeError: a wrong number of states, or wrong sizes.
        """
        if self.uniform:
            layers, widths = len(self.widths), self.widths[0]
            return self._split_group(hx, layers, widths, batch, like, "hx", batched=batched)
        if not isinstance(hx, list) or len(hx) != len(self.widths):
            raise ShapeError(
                f"hx is {_describe(hx)}; expected a list of {len(self.widths)}, one a layer, "
                f"since the layers differ in width."
            )
        groups = [
            self._split_group(part, 1, widths, batch, like, f"hx[{i}]", batched=batched)
            for i, (part, widths) in enumerate(zip(hx, self.widths, strict=True))
        ]
        return [state for group in groups for state in group]

    def split_plain(self, hx: Any, batch: int, like: Tensor) -> list[LayerState] | None:
        """As `split`, for the usual case; None where that has to look closer.

        The usual case: layers of one width, no delays, and a state as it should be.
        """
        if self.cell.depth > 1 or not self.uniform:
            return None
        widths, count = self.widths[0], len(self.widths) * self.directions
        states = (hx,) if len(widths) == 1 else hx
        if type(states) is not tuple or len(states) != len(widths):
            return None
        dtype, device = like.dtype, like.device
        for state, width in zip(states, widths, strict=True):
            if type(state) is not Tensor or state.shape != (count, batch, width):
                return None
            if state.dtype != dtype or state.device != device:
                return None
        if count == 1:
            return [states]
        return [tuple([s[i : i + 1] for s in states]) for i in range(count)]

    def _split_group(
        self,
        hx: Any,
        layers: int,
        widths: tuple[int, ...],
        batch: int,
        like: Tensor,
        what: str,
        *,
        batched: bool,
    ) -> list[LayerState]:
        states = self._listed(hx, len(widths), what)
        count = layers * self.directions
        checked = [
            self._checked(state, i, (count, batch, width), like, batched=batched)
            for i, (state, width) in enumerate(zip(states, widths, strict=True))
        ]
        return [tuple(state[:, place] for state in checked) for place in range(count)]

    def _listed(self, hx: Any, count: int, what: str) -> tuple[Any, ...]:
        names = ", ".join(s.name for s in self.cell.states)
        if count == 1:
            if not isinstance(hx, Tensor):
                raise DtypeError(
                    f"{what} is {_describe(hx)}; expected one tensor, the state {names}."
                )
            return (hx,)
        if not isinstance(hx, tuple | list):
            raise DtypeError(f"{what} is {_describe(hx)}; expected a tuple of {count}: ({names}).")
        if len(hx) != count:
            raise ShapeError(f"{what} has {len(hx)} states; expected {count}: ({names}).")
        return tuple(hx)

    def _checked(
        self, state: Any, i: int, size: tuple[int, int, int], like: Tensor, *, batched: bool
    ) -> Tensor:
        """A state as [D, layers * directions, B, w]."""
        depth = self.cell.depth
        what = f"hx, state {self.cell.states[i].name!r}"
        if not isinstance(state, Tensor):
            raise DtypeError(f"{what}: got {_describe(state)}; expected a tensor.")
        sizes = {size, (depth, *size)} if depth > 1 else {size}
        if tuple(state.shape) not in sizes:
            want = (depth, *size) if state.dim() == 4 and depth > 1 else size
            want, got = (
                tuple(shape) if batched else (*shape[:-2], *shape[-1:])
                for shape in (want, state.shape)
            )
            raise ShapeError(f"{what}: Expected hidden[{i}] size {want}, got {list(got)}")
        if state.dtype != like.dtype:
            raise DtypeError(
                f"{what} has dtype {state.dtype}; expected {like.dtype}, the weights'."
            )
        if state.device != like.device:
            raise DeviceError(f"{what} is on {state.device}; expected {like.device}, where x is.")
        return state if tuple(state.shape) != size else state.unsqueeze(0).expand(depth, *size)

    def join(self, states: Sequence[LayerState]) -> Any:
        """The caller's hx from one tuple of states for each layer and direction."""
        if self.uniform:
            return self._join_group(states)
        step = self.directions
        return [self._join_group(states[i : i + step]) for i in range(0, len(states), step)]

    def _join_group(self, states: Sequence[LayerState]) -> Any:
        if self.cell.depth > 1:
            joined = tuple(torch.stack(parts, 1) for parts in zip(*states, strict=True))
        elif len(states) > 1:
            joined = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        else:
            joined = states[0]
        return joined if len(joined) > 1 else next(iter(joined))


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
