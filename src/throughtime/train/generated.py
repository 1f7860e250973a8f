"""How is a task learnt? From whole sequences, drawn anew for every update."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from throughtime.models import SequenceModel
from throughtime.tasks.task import Batch, Part, Task
from throughtime.train.config import TrainConfig
from throughtime.train.lesson import Hx, Lesson, Score
from throughtime.train.setup import make_sequence_model

__all__ = ["TaskLesson", "as_task_tensors"]


class TaskLesson(Lesson):
    """Answer a task.

    The sequences of update n are drawn by numpy's generator of (seed, n), so that a run that goes
    on sees what an unbroken one sees.

    Args:
        task: What is asked.
        config: Options of the run.
    """

    has_test_part = True
    steps = "steps"
    steps_per_pass = None

    def __init__(self, task: Task, config: TrainConfig) -> None:
        self.task, self.config = task, config
        self.name, self.metric = f"{task.name}-{task.length}", task.unit
        self.loss_name = "loss_mse" if task.answer == "value" else "loss_nats"
        first = self._batch(0)
        self.sha256 = hashlib.sha256(b"".join(part.tobytes() for part in first)).hexdigest()
        self.steps_per_update = int(first.lengths.sum())

    def new_model(self) -> nn.Module:
        """A model of the task's sizes with weights drawn from torch's generator."""
        return make_sequence_model(self.config.model, self.task)

    def loss(self, model: nn.Module, hx: Hx, update: int) -> tuple[Tensor, Hx]:
        """The mean loss of fresh sequences; no state is carried from update to update."""
        assert isinstance(model, SequenceModel), "made by `new_model`"
        tensors = as_task_tensors(self._batch(update), model.device)
        return model.loss(*tensors).mean(), None

    def _batch(self, update: int) -> Batch:
        options = self.config.run
        return self.task.batch(np.random.default_rng([options.seed, update]), options.batch_size)

    @torch.no_grad()
    def score(self, model: nn.Module, part: Part) -> Score:
        """The mean loss over every counted step of a part, and the share of wrong sequences."""
        found = list(self._judged(model, part))
        total, steps, wrong, rows = (sum(each) for each in zip(*found, strict=True))
        loss, wrong_share = total / steps, wrong / rows
        solved = self.task.is_solved(loss, wrong_share)
        return Score(
            loss, loss, wrong_share=wrong_share, is_solved=None if solved is None else bool(solved)
        )

    def _judged(self, model: nn.Module, part: Part) -> Iterator[tuple[float, int, int, int]]:
        """For each batch of a part: sum of losses, counted steps, wrong rows, rows."""
        assert isinstance(model, SequenceModel), "made by `new_model`"
        was_training = model.training
        model.eval()
        for batch in self.task.held_out(part):
            inputs, targets, is_counted, lengths = as_task_tensors(batch, model.device)
            outputs, _ = model(inputs, lengths=lengths)
            losses = model.losses(outputs[is_counted], targets[is_counted])
            wrong = self.task.is_wrong(outputs.cpu().numpy(), batch)
            yield float(losses.double().sum()), losses.numel(), int(wrong.sum()), len(wrong)
        model.train(was_training)

    @torch.no_grad()
    def score_s(self, model: nn.Module, part: Part) -> float:
        """Seconds that a scoring takes, guessed from its first batch."""
        begun_s = time.perf_counter()
        next(self._judged(model, part))
        first_s = time.perf_counter() - begun_s
        return first_s * sum(1 for _ in self.task.held_out(part))

    def engine(self, model: nn.Module) -> str:
        """Which engine runs the first update."""
        assert isinstance(model, SequenceModel), "made by `new_model`"
        inputs, _, _, lengths = as_task_tensors(self._batch(0), model.device)
        return model.recurrent.explain(inputs, lengths=lengths)

    def baselines(self) -> dict[str, float]:
        """What a model without memory scores on the test part."""
        return {"memoryless": self.task.baseline()}

    def facts(self) -> list[tuple[str, str]]:
        """The task, its dial and its source."""
        task = self.task
        return [
            ("task", f"{task.name}, length {task.length}: the answer needs {task.needs_lag} steps"),
            ("", task.source),
        ]

    def meta(self) -> dict[str, Any]:
        """Nothing: the options name the task."""
        return {}

    def metric_of(self, loss: float) -> float:
        """The loss itself."""
        return loss


def as_task_tensors(
    batch: Batch, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Inputs, targets, counted steps and lengths; None for lengths where nothing is padded."""

    def moved(part: NDArray[Any]) -> Tensor:
        return torch.from_numpy(part).to(device)

    is_padded = bool((batch.lengths < len(batch.inputs)).any())
    lengths = torch.from_numpy(batch.lengths) if is_padded else None
    return moved(batch.inputs), moved(batch.targets), moved(batch.is_counted), lengths
