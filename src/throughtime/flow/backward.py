"""Where does the error of one step go? It is carried back as a vector, J_t by J_t from the left.

All errors travel together: at step k those that started at k or later. Each is kept near norm one
and the logarithm of what it was divided by apart, so that a thousand steps neither under- nor
overflow.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.flow.passage import Passage

__all__ = ["Arrival", "arrivals", "log_norms"]

_NEAR_ONE = 30  # norms within 2**30 of one are left alone: their squares are far from any limit
_MOST = 100  # what a power of two in float32 can hold; the rest follows at the next step


class Arrival(NamedTuple):
    """What arrives at step k of the errors that started at k or later, the latest first.

    Attributes:
        k: The step.
        adjoints: dE_t/ds_k of each state, over exp(log_scale).
        gates: The adjoints of the pre-activations of step k, likewise.
        log_scale: The logarithm of what was divided by.

    Shape:
        adjoints, gates: each [M, B, w]; log_scale: [M, B], float64
    """

    k: int
    adjoints: list[Tensor]
    gates: dict[str, Tensor]
    log_scale: Tensor


def log_norms(adjoints: Sequence[Tensor]) -> Tensor:
    """The logarithm of each adjoint's norm; -inf for zeros, inf for what is no number.

    Shape:
        adjoints: each [M, B, w]; result: [S, M, B], float64
    """
    norms = torch.stack([torch.linalg.vector_norm(a, dim=-1) for a in adjoints])
    return norms.double().log().nan_to_num(torch.inf, torch.inf, -torch.inf)


def arrivals(passage: Passage, starts: Sequence[int]) -> Iterator[Arrival]:
    """Carry the errors of some steps back to the first step.

        dE_t/ds_k = seed_t J_t ... J_{k+1}

    Args:
        passage: The layer.
        starts: The steps t whose errors are carried, each once.

    Yields:
        What arrives at every step from the latest start down to 0.
    """
    travelling = _Travelling(passage)
    left = sorted(starts)
    for k in range(left[-1] if left else -1, -1, -1):
        if left and left[-1] == k:
            travelling.start(left.pop())
        adjoints = travelling.taken(k)
        gates = travelling.pull(k, adjoints)
        yield Arrival(k, adjoints, gates, travelling.log_scale)
        travelling.keep_near_one()


class _Travelling:
    """The adjoints that are on their way to earlier steps.

    Attributes:
        pending: By step and state; what is zero is absent.
        written: The steps to which the last pull added something.
        log_scale: [M, B], the same for everything of an error.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage, self.steps = passage, passage.steps
        self.pending: dict[int, dict[int, Tensor]] = {}
        self.written: set[int] = set()
        self.log_scale = passage.seeds[0].new_zeros(0, self.steps.rows, dtype=torch.float64)

    def start(self, t: int) -> None:
        """Let the error of step t set out, as the last in the first axis."""
        whole = torch.cat([s[t] for s in self.passage.seeds], -1)[None]
        logs = log_norms([whole.double()])[0]  # squares of 1e-23 or 1e20 are no float32
        logs = torch.where(logs.isfinite(), logs, 0.0)
        self.log_scale = torch.cat([self.log_scale, logs])
        before = self.log_scale.shape[0] - 1
        for state, seeds in enumerate(self.passage.seeds):
            seed = (seeds[t].double() * torch.exp(-logs[0])[:, None]).to(seeds.dtype)
            self._add(t, state, functional.pad(seed[None], (0, 0, 0, 0, before, 0)))

    def _add(self, step: int, state: int, value: Tensor) -> None:
        slots = self.pending.setdefault(step, {})
        old = slots.get(state)
        slots[state] = value if old is None else _padded(old, value.shape[0]) + value

    def taken(self, step: int) -> list[Tensor]:
        """The adjoints that arrive at a step."""
        found, like = self.pending.pop(step, {}), self.passage.seeds
        errors, rows = self.log_scale.shape
        return [
            _padded(found[s], errors) if s in found else like[s].new_zeros(errors, rows, w)
            for s, w in enumerate(self.steps.widths)
        ]

    def pull(self, step: int, adjoints: Sequence[Tensor]) -> dict[str, Tensor]:
        """Hand adjoints on through a step; what is from before a border is handed nothing."""
        past, gates = self.steps.pulled(step, adjoints)
        real, reached = self.passage.real[step], self.passage.reached[:, step]
        self.written = {step - lag for _, lag in past}
        for (state, lag), value in past.items():
            if step >= lag:
                handed = real & reached[-lag]
                kept = value if handed.all() else torch.where(handed.view(1, -1, 1), value, 0.0)
                self._add(step - lag, state, kept)
        return gates

    def keep_near_one(self) -> None:
        """Divide every error that has moved far from norm one by a power of two."""
        if not self._far(self.written).any():
            return
        exponents = self._far(self.pending).clamp(-_MOST, _MOST)
        self.log_scale = self.log_scale + exponents * math.log(2.0)
        factors = torch.exp2(-exponents).unsqueeze(-1)
        for slots in self.pending.values():
            for state, value in slots.items():
                slots[state] = value * factors[: value.shape[0]].to(value.dtype)

    def _far(self, steps: Iterable[int]) -> Tensor:
        """For each error the power of two nearest to what is pending, 0 where that is near one."""
        slots = [self.pending[s] for s in steps if s in self.pending]
        found = [_padded(a, self.log_scale.shape[0]) for slot in slots for a in slot.values()]
        if not found:
            return torch.zeros_like(self.log_scale)
        largest = torch.stack([log_norms([a])[0] for a in found]).amax(0) / math.log(2.0)
        far = largest.isfinite() & (largest.abs() > _NEAR_ONE)
        return torch.where(far, largest.round(), 0.0)


def _padded(value: Tensor, errors: int) -> Tensor:
    """Zeros for the errors that started since."""
    missing = errors - value.shape[0]
    return functional.pad(value, (0, 0, 0, 0, 0, missing)) if missing else value
