"""How does the state of a stack become one vector a row, and a vector become a state?"""

from typing import Any

import torch
from torch import Tensor

from throughtime.nn import Recurrent
from throughtime.nn.runs import layer_sizes
from throughtime.nn.states import StateLayout

__all__ = ["StateVector"]


class StateVector:
    """The newest value of every state of every layer and direction, side by side.

    Clocks are left out: they count steps and say nothing of what was read. In the other direction
    they start as declared, and a cell that looks further back sees the one value at all lags.

    Args:
        layer: The stack.

    Attributes:
        width: Length of the vector.
        sizes: What the cell's symbolic widths are, in each layer.
    """

    def __init__(self, layer: Recurrent) -> None:
        size = layer.hidden_size
        hidden = size if isinstance(size, tuple) else (size,) * layer.num_layers
        self.cell, self.directions = layer.cell, layer.directions
        self.sizes = list(
            layer_sizes(layer.cell, layer.input_size, hidden, layer.proj_size, layer.directions)
        )
        states = layer.cell.states
        self.layout = StateLayout(
            layer.cell,
            [tuple(sizes.of(s.width) for s in states) for sizes in self.sizes],
            layer.directions,
        )
        self._parts = [
            sizes.of(s.width)
            for sizes in self.sizes
            for _ in range(layer.directions)
            for s in states
            if not s.clock
        ]
        self.width = sum(self._parts)

    def fits(self, other: "StateVector") -> bool:
        """Whether the state of one stack is a state of the other as it is."""
        mine, theirs = self.layout, other.layout
        same = mine.widths == theirs.widths and mine.directions == theirs.directions
        return same and self.cell == other.cell

    def flatten(self, hx: Any, rows: int, like: Tensor) -> Tensor:
        """The vectors, [B, width], of a state with B rows, of the dtype and device of `like`."""
        moving = [not state.clock for state in self.cell.states]
        return torch.cat(
            [
                state[-1]
                for states in self.layout.split(hx, rows, like)
                for state, moves in zip(states, moving, strict=True)
                if moves
            ],
            -1,
        )

    def unflatten(self, vectors: Tensor) -> Any:
        """The state hx of vectors [B, width]."""
        parts, depth = iter(vectors.split(self._parts, -1)), self.cell.depth
        found = []
        for widths in self.layout.widths:
            for _ in range(self.directions):
                states = [
                    vectors.new_full((len(vectors), width), s.initial) if s.clock else next(parts)
                    for s, width in zip(self.cell.states, widths, strict=True)
                ]
                found.append(tuple(state.expand(depth, -1, -1) for state in states))
        return self.layout.join(found)
