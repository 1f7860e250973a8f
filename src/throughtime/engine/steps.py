"""In which order are the steps of a call taken, and what lies behind each?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.declare import Cell
from throughtime.declare.graph import walk
from throughtime.engine.job import Inputs, Job, fresh_states

__all__ = ["Steps"]


class Steps:
    """A call's steps in the order in which they are taken, and what lies behind each.

    Attributes:
        reached: [D, T, B], whether the value of a step's history, newest last, is handed an error:
            it is no value from before the row started anew.
        have_past: [T, B], whether a step reads such a value. Padding may, but has no signal.
        real: [T, B], whether a step lies within its row's length; padding comes last in this order.
    """

    def __init__(self, job: Job, inputs: Inputs) -> None:
        self.job, self.inputs = job, inputs
        (count, rows), device = inputs.x.shape[:2], inputs.x.device
        step = torch.arange(count, device=device)[:, None].expand(count, rows)
        lengths = torch.full((rows,), count, device=device)
        lengths = lengths if inputs.lengths is None else inputs.lengths
        self.real = real = step < lengths
        anew = real & (torch.zeros_like(real) if inputs.reset is None else inputs.reset)
        if job.reverse:  # the border before step t + 1 is met before t
            anew = torch.cat([anew[1:], torch.zeros_like(anew[:1])])
        self.order = torch.where(real, lengths - 1 - step, step) if job.reverse else None
        depth = job.cell.depth
        begin = torch.where(self.in_order(anew), step, -depth).cummax(0).values
        self.reached = torch.stack([step - lag >= begin for lag in range(depth, 0, -1)])
        self.have_past = self.reached[-_shortest_lag(job.cell)]

    def in_order(self, a: Tensor) -> Tensor:
        """A [T, B, ...] tensor in the order of the steps."""
        if self.order is None:
            return a
        return a.gather(0, self.order.view(*a.shape[:2], *[1] * (a.dim() - 2)).expand_as(a))

    def history(self, every: Sequence[Tensor]) -> list[Tensor]:
        """Each state's last D values before each step, [D, T, B, w], newest last."""
        fresh = fresh_states(self.job, self.inputs)
        found: list[Tensor] = []
        for start, after, anew in zip(self.inputs.states, every, fresh, strict=True):
            values = torch.cat([start, self.in_order(after)])
            depth, count = start.shape[0], after.shape[0]
            past = torch.stack([values[j : j + count] for j in range(depth)])
            found.append(torch.where(self.reached.unsqueeze(-1), past, anew))
        return found


def _shortest_lag(cell: Cell) -> int:
    clocks = {s.name for s in cell.states if s.clock}
    lags = (n.data[1] for n in walk(cell.new) if n.op == "state" and n.data[0] not in clocks)
    return min(lags)
