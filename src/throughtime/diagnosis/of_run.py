"""How is the model of a run diagnosed? On held-out data of its own, longer than its windows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from throughtime.diagnosis.cures import for_run
from throughtime.diagnosis.diagnose import diagnose
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.memory_of_text import memory_of_text
from throughtime.diagnosis.training import Training
from throughtime.errors import ConfigError, DataError
from throughtime.models import LanguageModel, SequenceModel
from throughtime.records import RunFolder, read_config, read_metrics
from throughtime.records.diagnosis import NeededLag, TrainingFacts
from throughtime.tasks import streams
from throughtime.train.batch import as_tensors
from throughtime.train.config import config_from
from throughtime.train.generated import TaskLesson, as_task_tensors
from throughtime.train.lesson import Lesson
from throughtime.train.lessons import make_lesson
from throughtime.train.saved import load_run
from throughtime.train.text import TextLesson

__all__ = ["diagnose_run", "facts_of_run"]

_ROWS = 32  # of the batch that the loss is taken over
_LEAST_STEPS = 200
_WINDOWS = 4  # a text is examined over as many windows, to see beyond the one of training
_MOST_STEPS = 512
_SETTLED_PART = 0.5  # of the updates: those before it show how training began, not how it goes


class _Examined(NamedTuple):
    batch: Any
    loss: Callable[[Any, Any], Tensor]


def diagnose_run(
    folder: Path, *, needs_lag: int | None = None, rows: int = 8, seed: int = 0
) -> Diagnosis:
    """Diagnose the model that a run saved last.

    A text is examined on its validation part, in windows four times as long as those of training;
    a task on fresh sequences that no update has seen.

    Args:
        folder: Of the run.
        needs_lag: As in `diagnose`; the task's own where it has one.
        rows: As in `diagnose`.
        seed: As in `diagnose`.

    Raises:
        ConfigError: The folder holds no saved model.
        DataError: The data are not those of the run, or too short.
    """
    saved = load_run(folder)
    lesson = make_lesson(saved.config)
    if lesson.sha256 != saved.data_sha256:
        raise DataError(
            f"the data {lesson.name} is not the one that the run learnt: its sha256 is "
            f"{lesson.sha256}, not {saved.data_sha256}. Restore it."
        )
    found = _examined(lesson, seed)
    stated = None if needs_lag is None else NeededLag(needs_lag, "--needs-lag")
    diagnosis = diagnose(
        saved.model, found.batch, found.loss, training=folder, rows=rows, seed=seed,
        needs_lag=stated or _of_task(lesson), title=str(folder),
    )  # fmt: skip
    if isinstance(saved.model, LanguageModel) and isinstance(lesson, TextLesson):
        text = memory_of_text(saved.model, lesson.corpus)
        diagnosis = diagnosis.changed(replace(diagnosis.record, text=text))
    return diagnosis.changed(for_run(diagnosis.record, folder, saved.config))


def _of_task(lesson: Lesson) -> NeededLag | None:
    if not isinstance(lesson, TaskLesson) or not lesson.task.needs_lag:
        return None
    return NeededLag(lesson.task.needs_lag, f"task {lesson.task.name}")


def _examined(lesson: Lesson, seed: int) -> _Examined:
    if isinstance(lesson, TaskLesson):
        return _of_sequences(lesson, seed)
    assert isinstance(lesson, TextLesson), "a lesson is of a task or of a text"
    return _of_windows(lesson)


def _of_sequences(lesson: TaskLesson, seed: int) -> _Examined:
    # Runs draw from (seed, update) with updates from 0: no run sees this one.
    batch = lesson.task.batch(np.random.default_rng([seed, 2**40]), _ROWS)
    inputs, targets, is_counted, lengths = as_task_tensors(batch, torch.device("cpu"))

    def loss(model: SequenceModel, x: Tensor) -> Tensor:
        return model.loss(x, targets, is_counted, lengths).mean()

    return _Examined(inputs, loss)


def _of_windows(lesson: TextLesson) -> _Examined:
    corpus, window_steps = lesson.corpus, lesson.config.run.window_steps
    wanted = min(max(_LEAST_STEPS, _WINDOWS * window_steps), _MOST_STEPS)
    rows = max(1, min(_ROWS, (len(corpus.valid) - 1) // wanted))
    steps = min(wanted, len(corpus.valid) - 2)
    if steps < 2:
        raise DataError(
            f"the validation part of {corpus.name} has {len(corpus.valid)} symbols, too few to "
            "follow a gradient in. Train with a larger --valid-fraction, or on a longer text."
        )
    windows = streams(corpus.valid, corpus.valid_starts, rows, steps)
    inputs, targets, reset = as_tensors(windows.window(0), torch.device("cpu"))

    def loss(model: LanguageModel, tokens: Tensor) -> Tensor:
        nll_nats, _ = model.nll_nats(tokens, targets, reset=reset)
        return nll_nats.mean()

    return _Examined(inputs, loss)


def facts_of_run(folder: Path) -> tuple[TrainingFacts, list[dict[str, Any]]]:
    """What the folder of a run tells of its loop, and what its gauge saw.

    Raises:
        ConfigError: It is no run's folder.
    """
    files = RunFolder(folder)
    if not files.config.exists():
        raise ConfigError(f"{folder} holds no run: it has no {files.config.name}.")
    config = config_from(read_config(files.config))
    records = list(read_metrics(files.metrics, "train")) if files.metrics.exists() else []
    settled = records[int(len(records) * _SETTLED_PART) :]
    gauge = list(read_metrics(files.metrics, "flow")) if files.metrics.exists() else []
    is_text = config.data.task is None
    training = Training(
        window_steps=config.run.window_steps if is_text else None,
        state_carried=True if is_text else None,
        clip_norm=config.optimiser.clip_norm or None,
        gradient_norms=[float(r["gradient_norm"]) for r in settled],
    )
    return training.facts(), gauge
