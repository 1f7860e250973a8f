"""What does `retain_grad` on a fused layer's output read, and what does training really use?

The output of `nn.LSTM` is not on the path that the state takes from step to step: that path lies
inside the fused op. So its gradient holds what the loss asks of each output, and nothing of what
comes back through time. With a loss on the last step it is zero at every other one, which looks as
if nothing were learnt from them.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.flow.capture import watching
from throughtime.flow.measure import measure

__all__ = ["FalseZero", "KindRow", "false_zero"]

KINDS: dict[str, Callable[[int, int], nn.RNNBase]] = {
    "nn.RNN": nn.RNN,
    "nn.LSTM": nn.LSTM,
    "nn.GRU": nn.GRU,
}
STEPS, BATCH, INPUTS = 32, 16, 8
SIZES, SEEDS = (16, 64, 256), (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class KindRow:
    """One kind of layer with one number of units.

    Attributes:
        kind: Such as "nn.LSTM".
        hidden: Units.
        retained_by_lag: What `output.retain_grad()` reads, lag by lag: the largest over seeds and
            rows, as a share of that at lag 0.
        true_by_lag: The error that arrives, the median over seeds of the median over rows, as a
            share of that at lag 0.
        true_low, true_high: The smallest and the largest seed's.
        replay_error: The largest difference of the stepped layer's outputs from the layer's own.
    """

    kind: str
    hidden: int
    retained_by_lag: list[float]
    true_by_lag: list[float]
    true_low: list[float]
    true_high: list[float]
    replay_error: float


@dataclass(frozen=True)
class FalseZero:
    """All that was measured."""

    steps: int
    seeds: list[int]
    rows: list[KindRow]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def false_zero() -> FalseZero:
    """Read both for layers as torch makes them, on noise, with the loss on the last step."""
    rows = [_row(kind, hidden) for kind in KINDS for hidden in SIZES]
    return FalseZero(STEPS, list(SEEDS), rows)


def _row(kind: str, hidden: int) -> KindRow:
    found = [_read(kind, hidden, seed) for seed in SEEDS]
    retained, true, errors = zip(*found, strict=True)
    by_lag = list(zip(*true, strict=True))
    return KindRow(
        kind=kind,
        hidden=hidden,
        retained_by_lag=[max(at_lag) for at_lag in zip(*retained, strict=True)],
        true_by_lag=[median(at_lag) for at_lag in by_lag],
        true_low=[min(at_lag) for at_lag in by_lag],
        true_high=[max(at_lag) for at_lag in by_lag],
        replay_error=max(errors),
    )


def _read(kind: str, hidden: int, seed: int) -> tuple[list[float], list[float], float]:
    """What `retain_grad` reads and what arrives, by lag, and the replay error."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = KINDS[kind](INPUTS, hidden)
        x = torch.randn(STEPS, BATCH, INPUTS)
    retained = _retained(layer, x)
    with watching(layer) as watch:
        loss = _loss(layer(x)[0])
    passage = watch.passages(loss, rows=BATCH)[0]
    record = measure(passage, exponents=1)
    first = record.error_by_lag[0]
    return retained, [e / first for e in record.error_by_lag], record.replay_error


def _retained(layer: nn.RNNBase, x: Tensor) -> list[float]:
    """The largest gradient of a row of the output at each step, the last one first."""
    output, _ = layer(x)
    output.retain_grad()
    _loss(output).backward()
    assert output.grad is not None, "retained"
    norms = output.grad.norm(dim=-1).amax(-1).flip(0)
    return (norms / norms[0]).tolist()


def _loss(output: Tensor) -> Tensor:
    return output[-1].square().mean()
