"""How far back do tanh units, leaky units, an LSTM and a GRU learn, before and after training?"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import ConfigError
from throughtime.flow.capture import watching
from throughtime.flow.measure import measure
from throughtime.models import SequenceModel
from throughtime.records.diagnosis import LayerRecord
from throughtime.studies.variants import Variant, read_variants
from throughtime.tasks.order import TemporalOrder
from throughtime.tasks.task import Task
from throughtime.train.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from throughtime.train.generated import TaskLesson
from throughtime.train.loop import make_update
from throughtime.train.optimise import make_optimiser
from throughtime.train.setup import make_sequence_model
from throughtime.train.state import TrainingState

__all__ = [
    "NAMES",
    "UNITS",
    "CellRow",
    "Memory",
    "Vanishing",
    "VanishingWatch",
    "memory_of",
    "vanishing",
]

NAMES: Mapping[str, str] = {
    "rnn": "tanh RNN",
    "leaky:rnn": "leaky tanh RNN",
    "lstm": "LSTM",
    "gru": "GRU",
}
"""What is compared: cells as `compare` names them, and what they are called in the picture."""

LENGTH, UNITS, _BATCH, _ROWS = 40, 32, 32, 8


@dataclass(frozen=True)
class Memory:
    """How far back an error reaches in one network at one moment.

    Attributes:
        horizon_steps: The largest lag at which 1 % of the error at lag 0 arrives.
        is_beyond: Whether that is the largest lag there is.
        share_by_lag: The error by lag over that at lag 0, medians over rows.
        share_at_need: The same at the lag that the task needs.
        bound_by_lag: No share can be above it; None where there is no bound.
        bound_factor: What the bound is multiplied by at every step, beta_W beta_h of a plain RNN.
    """

    horizon_steps: int
    is_beyond: bool
    share_by_lag: list[float]
    share_at_need: float
    bound_by_lag: list[float | None]
    bound_factor: float | None


@dataclass(frozen=True)
class CellRow:
    """One cell, before and after training.

    Attributes:
        cell: As `compare` names it.
        name: As people do.
        before, after: How far back an error reaches.
        score: On the test part after training, in nats; lower is better.
        wrong_share: Test sequences it got wrong over all.
        is_solved: Whether under 1 % are wrong.
        train_s: Seconds of training.
    """

    cell: str
    name: str
    before: Memory
    after: Memory
    score: float
    wrong_share: float
    is_solved: bool
    train_s: float

    def as_json(self) -> dict[str, Any]:
        """As plain values, both horizons beside the name."""
        values = asdict(self)
        before, after = values.pop("before"), values.pop("after")
        found = {"cell": values.pop("cell"), "name": values.pop("name")}
        for when, memory in (("before", before), ("after", after)):
            found[f"horizon_{when}_steps"] = memory.pop("horizon_steps")
            found |= {f"{name}_{when}": value for name, value in memory.items()}
        return found | values


@dataclass(frozen=True)
class Vanishing:
    """All that was measured.

    Attributes:
        task: Its name; length and lag as in `tasks`.
        baseline: The score of a model without memory, in nats.
        updates: Of each training.
        seed: Of weights and sequences.
        units: Of each network.
        rows: One a cell.
        elapsed_s: What it took.
    """

    task: str
    length: int
    needs_lag: int
    baseline: float
    updates: int
    seed: int
    units: int
    rows: list[CellRow] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def bound_factor(self) -> float | None:
        """Of the tanh network after training."""
        return self.rows[0].after.bound_factor

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        found = {k: v for k, v in asdict(self).items() if k not in {"rows", "elapsed_s"}}
        rows = [row.as_json() for row in self.rows]
        return found | {
            "rows": rows,
            "bound_factor": self.bound_factor,
            "elapsed_s": self.elapsed_s,
        }


class VanishingWatch:
    """What is told while it runs; every method may be left as it is."""

    def begun(self, name: str) -> None:
        """The training of a cell begins."""

    def updated(self, update: int) -> None:
        """An update of it is done."""

    def ended(self, row: CellRow) -> None:
        """A cell is measured."""


def vanishing(updates: int, seed: int = 0, watch: VanishingWatch | None = None) -> Vanishing:
    """Measure each network, train it on temporal order, and measure it again.

    Args:
        updates: Of each training.
        seed: Of weights and sequences.
        watch: Is told how it goes.
    """
    begun_s, watch = time.monotonic(), watch or VanishingWatch()
    task, threads = TemporalOrder(LENGTH), torch.get_num_threads()
    # Networks this small are no faster on two threads, and much slower where others compute.
    torch.set_num_threads(1)
    try:
        variants = read_variants(",".join(NAMES))
        rows = [_row(variant, task, updates, seed, watch) for variant in variants]
    finally:
        torch.set_num_threads(threads)
    return Vanishing(
        task.name, task.length, task.needs_lag, task.baseline(), updates, seed, UNITS, rows,
        time.monotonic() - begun_s,
    )  # fmt: skip


def _row(variant: Variant, task: Task, updates: int, seed: int, watch: VanishingWatch) -> CellRow:
    name = NAMES[variant.text]
    watch.begun(name)
    lesson, model = prepared(variant, task, updates, seed)

    def memory() -> Memory:
        # Of sequences that come after all that are learnt from.
        layer = measured(model, lambda examined: lesson.loss(examined, None, updates)[0])
        return memory_of(layer, task.needs_lag)

    before = memory()
    begun_s = time.monotonic()
    rule = lesson.config.optimiser
    state = TrainingState(model, make_optimiser(rule, model.parameters()))
    for _ in range(updates):
        _ = make_update(state, lesson, rule, updates)
        watch.updated(state.update)
    train_s = time.monotonic() - begun_s
    after, score = memory(), lesson.score(model, "test")
    assert score.wrong_share is not None, "sequences of a task are judged"
    row = CellRow(
        variant.text, name, before, after, score.score, score.wrong_share, bool(score.is_solved),
        train_s,
    )  # fmt: skip
    watch.ended(row)
    return row


def prepared(
    variant: Variant, task: Task, updates: int, seed: int
) -> tuple[TaskLesson, SequenceModel]:
    """What a cell learns, and its network with the weights that the seed gives."""
    config = variant.applied(
        TrainConfig(
            DataConfig(task=task.name, length=task.length),
            ModelConfig(hidden=UNITS),
            run=RunConfig(batch_size=_BATCH, updates=updates, seed=seed),
        ),
        task,
    )
    _ = torch.manual_seed(seed)
    model = make_sequence_model(config.model, task)
    return TaskLesson(task, config), model


def measured(model: nn.Module, loss: Callable[[Any], Tensor]) -> LayerRecord:
    """How far back the error of a loss reaches in the one recurrent layer of a model."""
    with watching(model) as watch:
        passages = watch.passages(loss(watch.model), rows=_ROWS, seed=0)
    if not passages:
        why = "; ".join(watch.refused.values())
        raise ConfigError(f"an error that never arrives cannot be followed: {why}.")
    return measure(passages[0], exponents=1)


def memory_of(layer: LayerRecord, needs_lag: int) -> Memory:
    """What is shown of a layer's record."""
    first = layer.error_by_lag[0] or math.nan
    share = [error / first for error in layer.error_by_lag]
    bound = [None if value is None else value / first for value in layer.bound_by_lag]
    return Memory(
        layer.horizon_steps, layer.is_horizon_beyond, share, share[needs_lag], bound,
        layer.bound_factor,
    )  # fmt: skip
