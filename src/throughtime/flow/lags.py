"""How much of an error arrives so many steps back? Norms by lag, and the map over (t, k)."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.flow.backward import Arrival, log_norms
from throughtime.flow.passage import Passage
from throughtime.records.diagnosis import TimeMap

__all__ = ["HORIZON_SHARE", "LagSummary", "Lags", "chosen_steps", "log_quantile", "time_map"]

HORIZON_SHARE = 0.01
_LOG_HORIZON = math.log(HORIZON_SHARE)
_LOG_LARGEST = math.log(sys.float_info.max)
_MOST_COLUMNS, _LAST_COLUMNS = 256, 8


def chosen_steps(passage: Passage, at: int) -> list[int]:
    """The steps t whose errors are followed: evenly among those at which one enters any row.

    Args:
        passage: The layer.
        at: How many at most; the last such step is always among them.
    """
    entered = torch.stack([(s != 0).any(-1).any(-1) for s in passage.seeds]).any(0)
    return _evenly(entered.nonzero().flatten().tolist(), at)


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most so many of them, the last and, if there is room, the first included."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    last = len(items) - 1
    return [items[round(i * last / (most - 1))] for i in range(most)]


def _columns(count: int) -> list[int]:
    """The steps k of a map: the last ones one by one, those before them evenly."""
    last = range(max(0, count - _LAST_COLUMNS), count)
    return [*_evenly(range(last.start), _MOST_COLUMNS - len(last)), *last]


def log_quantile(logs: Tensor, q: float) -> Tensor:
    """The logarithm of a quantile of numbers given by their logarithms, over the last axis.

    Args:
        logs: -inf stands for zero, NaN for no number, which does not count.
        q: Such as 0.5; between two numbers it is interpolated.

    Returns:
        NaN where there are no numbers.
    """
    counts = (~logs.isnan()).sum(-1)
    sorted_logs = logs.nan_to_num(torch.inf, torch.inf, -torch.inf).sort(-1).values
    place = (q * (counts - 1).clamp(min=0).double()).unsqueeze(-1)
    low, high = place.floor().long(), place.ceil().long()
    parts = torch.cat([sorted_logs.gather(-1, low), sorted_logs.gather(-1, high)], -1)
    weight = place - low
    shares = torch.cat([1.0 - weight, weight], -1)
    top = parts.amax(-1, keepdim=True)
    top = torch.where(top.isfinite(), top, 0.0)
    mixed = (torch.exp(parts - top) * shares).nan_to_num(0.0, torch.inf).sum(-1)
    return torch.where(counts > 0, mixed.log() + top.squeeze(-1), torch.nan)


class Lags:
    """The norms of errors, as they arrive.

    Attributes:
        starts: The steps t, the latest first.
        at_step: log ||dE_t/ds_k|| of each state, by k; NaN where k lies after t or before the row
            started anew, or where no error entered.

    Shape:
        at_step: [K, S, M, B], float64
    """

    def __init__(self, passage: Passage, starts: Sequence[int]) -> None:
        self.starts = sorted(starts, reverse=True)
        self.states = passage.steps.states
        size = (max(starts, default=-1) + 1, len(self.states), len(starts), passage.steps.rows)
        self.at_step = torch.full(size, -torch.inf, dtype=torch.float64)
        seeds = [torch.cat([s[t] for s in passage.seeds], -1) for t in self.starts]
        entered = [seed.ne(0).any(-1).cpu() for seed in seeds]  # NaN is not zero
        begin, step = _begin(passage), torch.arange(size[0])
        self._has = torch.zeros(size[0], *size[2:], dtype=torch.bool)
        for m, t in enumerate(self.starts):
            within = (step[:, None] <= t) & (step[:, None] >= begin[t])
            self._has[:, m] = within & entered[m]

    def add(self, arrival: Arrival) -> None:
        """Take what arrived at a step."""
        logs = log_norms(arrival.adjoints) + arrival.log_scale
        self.at_step[arrival.k, :, : logs.shape[1]] = logs.cpu()

    def by_step(self) -> Tensor:
        """Of the whole state, NaN where there is no such pair of steps; [K, M, B]."""
        return torch.where(self._has, _joined(self.at_step), torch.nan)

    def summary(self) -> "LagSummary":
        """Medians and quantiles over rows and steps t."""
        size, last = self.at_step.shape[0], torch.tensor(self.starts, dtype=torch.long)
        k = last[None, :] - torch.arange(size)[:, None]  # of each lag and start
        index = k.clamp(min=0)[..., None].expand(size, *self._has.shape[1:])
        has = self._has.gather(0, index) & (k >= 0).unsqueeze(-1)
        index = index.unsqueeze(1).expand(self.at_step.shape)
        by_state = torch.where(has.unsqueeze(1), self.at_step.gather(0, index), torch.nan)
        return _summarised(by_state.flatten(2), self.states)


def _joined(logs: Tensor) -> Tensor:
    """The logarithm of the norm of all states together, from each one's; [*, S, M, B]."""
    return torch.logsumexp(2.0 * logs, -3) / 2.0


def _begin(passage: Passage) -> Tensor:
    """The step at which a row last started anew, [T, B]; 0 for its beginning."""
    step = torch.arange(passage.steps.count, device=passage.real.device).unsqueeze(-1)
    return torch.where(passage.reached[-1], 0, step).cummax(0).values.cpu()


@dataclass(frozen=True)
class LagSummary:
    """What the record tells of errors by lag; each list is over lags.

    Attributes:
        log_share: The natural logarithm of the median share of an error at lag 0.
        error, low, high, by_state, path_share: See `LayerRecord`.
    """

    log_share: list[float]
    error: list[float]
    low: list[float]
    high: list[float]
    by_state: dict[str, list[float]]
    path_share: dict[str, float]

    @property
    def horizon_steps(self) -> int:
        """The largest lag at which the median share is 1 % or more; 0 if nothing enters."""
        far = [lag for lag, v in enumerate(self.log_share) if v >= _LOG_HORIZON]
        return max(far, default=0)

    @property
    def is_horizon_beyond(self) -> bool:
        """Whether it is so at the largest lag there is."""
        last = len(self.log_share) - 1
        return last > 0 and self.horizon_steps == last

    @property
    def growth_per_step(self) -> float:
        """The geometric mean up to the last lag at which anything arrives; 0 if nothing does."""
        arrived = [lag for lag, v in enumerate(self.log_share) if lag and v > -math.inf]
        return _exp(self.log_share[arrived[-1]] / arrived[-1]) if arrived else 0.0


def _summarised(by_state: Tensor, states: tuple[str, ...]) -> LagSummary:
    """Medians and quantiles of log norms, [L, S, pairs]."""
    logs = _joined(by_state.unsqueeze(-1)).squeeze(-1)
    pairs = ~logs.isnan().all(-1)
    size = int(pairs.nonzero().max()) + 1 if pairs.any() else 0
    if not size:
        return LagSummary(
            [-math.inf], [0.0], [0.0], [0.0], {s: [0.0] for s in states}, dict.fromkeys(states, 0.0)
        )
    logs, by_state = logs[:size], by_state[:size]
    entered = log_quantile(logs[0], 0.5)
    share = logs - logs[0]

    def listed(of: Tensor, q: float = 0.5) -> list[float]:
        return torch.exp(log_quantile(of, q) + entered).nan_to_num(0.0, math.inf).tolist()

    return LagSummary(
        log_share=log_quantile(share, 0.5).nan_to_num(-math.inf, math.inf, -math.inf).tolist(),
        error=listed(share),
        low=listed(share, 0.1),
        high=listed(share, 0.9),
        by_state={s: listed(by_state[:, i] - logs[0]) for i, s in enumerate(states)},
        path_share=_path_share(logs, by_state, states),
    )


def _path_share(logs: Tensor, by_state: Tensor, states: tuple[str, ...]) -> dict[str, float]:
    """The share of each state in the squared error, mean over pairs and then over lags from 1."""
    shares = torch.exp(2.0 * (by_state - logs.unsqueeze(1)))  # NaN where nothing arrives
    beyond = shares[1:] if logs[1:].gt(-math.inf).any() else shares[:1]
    mean = beyond.nanmean(-1).nanmean(0)
    return dict(zip(states, mean.nan_to_num(0.0).tolist(), strict=True))


def _exp(log: float) -> float:
    """Infinity where the number is too large."""
    return math.exp(log) if log < _LOG_LARGEST else math.inf


def time_map(starts: Sequence[int], logs: Tensor) -> TimeMap:
    """The median over rows as a map of t and k.

    Args:
        starts: The steps t, the latest first.
        logs: Natural logarithms, NaN where a pair does not exist.

    Shape:
        logs: [K, M, B]
    """
    columns = _columns(logs.shape[0])
    found = log_quantile(logs[columns], 0.5).flip(1).T / math.log(10.0)
    rows = [[round(v, 4) if math.isfinite(v) else None for v in row] for row in found.tolist()]
    return TimeMap(sorted(starts), columns, rows)
