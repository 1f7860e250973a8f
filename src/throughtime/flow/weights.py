"""What does an error so many steps back add to the gradient of the recurrent matrices?

    dE_t/dW = sum_k delta_{t,k} read_k^T

delta_{t,k} is the adjoint of the pre-activations of step k and read_k what W multiplies there: the
immediate derivative, so no step is counted twice. All recurrent matrices of a cell are taken
together, as one vector.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.declare.graph import terms
from throughtime.flow.backward import Arrival
from throughtime.flow.cell_steps import CellSteps

__all__ = ["Weights", "thinned"]

_LOG_LARGEST = math.log(sys.float_info.max)
_MOST_NUMBERS = 2**28  # adjoints kept at once, a gigabyte in float32


@dataclass(frozen=True)
class _Group:
    """Gates whose matrices read the same.

    Attributes:
        gates: Their names.
        read: What the matrices read.
        used: Which elements there are; None for all.

    Shape:
        read: [T, B, w]; used: [sum of gate widths, w]
    """

    gates: tuple[str, ...]
    read: Tensor
    used: Tensor | None


def _groups(steps: CellSteps) -> list[_Group]:
    """The recurrent matrices of a cell, by what they read."""
    found: dict[tuple[int, bool], list[tuple[str, int]]] = {}
    for gate, affine in steps.job.cell.affines.items():
        for place, term in enumerate(terms(affine)):
            if term.kind == "recurrent" and gate in steps.gates:
                key = (id(steps.reads[gate, place]), bool(term.masks))
                found.setdefault(key, []).append((gate, place))
    return [
        _Group(
            tuple(gate for gate, _ in members),
            steps.reads[members[0]].expand(steps.count, steps.rows, -1),
            torch.cat([steps.matrices[m] for m in members]) != 0 if masked else None,
        )
        for (_, masked), members in found.items()
    ]


def thinned(steps: CellSteps, starts: Sequence[int]) -> list[int]:
    """So few of the steps t that the adjoints of their gates fit into memory; the last stays."""
    chosen = sorted(starts, reverse=True)
    units = sum(v.shape[-1] for v in steps.gates.values()) * steps.rows
    while len(chosen) > 1 and units * sum(t + 1 for t in chosen) > _MOST_NUMBERS:
        chosen = chosen[::2]
    return chosen


class Weights:
    """Norms of the parts of dE/dW, W being the recurrent matrices.

    Args:
        steps: The cell's steps.
        starts: The steps t whose errors will arrive, the latest first.
        taken: Those among them that are added up by lag; see `thinned`.
    """

    def __init__(self, steps: CellSteps, starts: Sequence[int], taken: Iterable[int]) -> None:
        self.starts, self.groups = list(starts), _groups(steps)
        self.map = torch.full(
            (max(starts, default=-1) + 1, len(starts)), torch.nan, dtype=torch.float64
        )
        wanted = set(taken)
        self.taken = [m for m, t in enumerate(self.starts) if t in wanted]
        sizes = [self.starts[m] + 1 for m in self.taken]
        self.offsets = torch.tensor([0, *sizes]).cumsum(0)
        total, rows = int(self.offsets[-1]), steps.rows
        self.scale = torch.full((total, rows), -torch.inf, dtype=torch.float64)
        widths = {gate: v.shape[-1] for gate, v in steps.gates.items()}
        self.deltas = [
            g.read.new_zeros(total, rows, sum(widths[gate] for gate in g.gates))
            for g in self.groups
        ]

    def add(self, arrival: Arrival) -> None:
        """Take what arrived at a step."""
        k, count = arrival.k, arrival.log_scale.shape[0]
        kept = [i for i, m in enumerate(self.taken) if m < count]
        index = self.offsets[:-1][kept] + k
        errors = [self.taken[i] for i in kept]
        squares = torch.zeros(count, dtype=torch.float64)
        top = arrival.log_scale.amax(-1)
        relative = torch.exp(arrival.log_scale - top.unsqueeze(-1))
        for group, store in zip(self.groups, self.deltas, strict=True):
            delta = torch.cat([arrival.gates[gate] for gate in group.gates], -1)
            store[index.to(store.device)] = delta[errors]
            shares = delta * relative.unsqueeze(-1).to(delta.dtype)
            squares += _squared_sums(group, shares, group.read[k]).double().cpu()
        self.scale[index] = arrival.log_scale[errors].cpu()
        self.map[k, :count] = squares.clamp(min=0.0).log() / 2.0 + top.cpu()

    def by_lag(self) -> list[float]:
        """The norm of what each lag adds, all steps t and rows summed."""
        last = torch.tensor([self.starts[m] for m in self.taken])
        size = int(last.max()) + 1 if len(last) else 0
        return [self._at_lag(lag, last) for lag in range(size)]

    def _at_lag(self, lag: int, last: Tensor) -> float:
        has = last >= lag
        index, k = (self.offsets[:-1] + last - lag)[has], (last - lag)[has]
        logs = self.scale[index]
        top = logs.max()
        factor = torch.exp(logs - top).unsqueeze(-1)
        square = 0.0
        for group, store in zip(self.groups, self.deltas, strict=True):
            delta = (store[index.to(store.device)] * factor.to(store)).flatten(0, 1)
            part = delta.T @ group.read[k.to(store.device)].flatten(0, 1)
            square += _square(group, part).item()
        return math.sqrt(square) * _exp(top.item())


def _exp(log: float) -> float:
    """Infinite where the number is too large."""
    return math.exp(log) if log < _LOG_LARGEST else math.inf


def _square(group: _Group, parts: Tensor) -> Tensor:
    """The squared norms of matrices, elements that are not there left out; [.., G, w]."""
    used = parts if group.used is None else torch.where(group.used, parts, 0.0)
    return torch.linalg.vector_norm(used, dim=(-2, -1)) ** 2


def _squared_sums(group: _Group, delta: Tensor, read: Tensor) -> Tensor:
    """||sum over rows of delta read^T||^2 for each error.

    Shape:
        delta: [M, B, G]; read: [B, w]; result: [M]
    """
    if group.used is not None:
        return _square(group, torch.einsum("mbg,bw->mgw", delta, read))
    return ((delta @ delta.mT) * (read @ read.T)).sum((-2, -1))  # the same by Gram matrices
