"""How is the model of a run used afterwards?"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from throughtime.errors import ConfigError, DataError
from throughtime.models import LanguageModel
from throughtime.records import RunFolder
from throughtime.tasks import Vocabulary, load_corpus
from throughtime.train.checkpoint import load_model
from throughtime.train.config import Device, TrainConfig, config_from
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.lessons import make_lesson
from throughtime.train.score import metric_name, metric_value
from throughtime.train.setup import make_language_model, resolve_device
from throughtime.train.state import load_weights

__all__ = ["Evaluation", "SavedModel", "Writer", "evaluate_run", "load_run", "load_writer"]


class SavedModel(NamedTuple):
    """A trained model, in evaluation mode, and how it came about."""

    model: nn.Module
    vocabulary: Vocabulary | None
    config: TrainConfig
    data_sha256: str


class Writer(NamedTuple):
    """A trained language model and its symbols."""

    model: LanguageModel
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Evaluation:
    """How well a model does.

    Attributes:
        data: What it was scored on, in words.
        symbols: How many symbols of a text were scored; None for a task.
        metric: What its score is called, with its unit.
        score: In that unit.
        valid: The loss under its name, and what else was counted.
    """

    data: str
    symbols: int | None
    metric: str
    score: float
    valid: dict[str, float]


def load_run(folder: Path) -> SavedModel:
    """The model that a run saved last.

    Raises:
        ConfigError: The folder holds no model yet.
        CheckpointError: The model's file is damaged.
        DataError: The data of the run's task cannot be used.
    """
    path = RunFolder(folder).model
    if not path.exists():
        raise ConfigError(
            f"{folder} holds no saved model: {path.name} is not there. Name the folder of a run "
            "that has saved, such as runs/topics-lstm-1."
        )
    saved = load_model(path)
    config = config_from(saved.meta["config"])
    vocabulary = None
    if config.data.task is None:
        vocabulary = Vocabulary.from_dict(saved.meta["vocabulary"])
        model = make_language_model(config.model, config.data.unit, vocabulary.size)
    else:
        model = make_lesson(config).new_model()
    load_weights(model, saved.tensors)
    return SavedModel(model.eval(), vocabulary, config, saved.meta["data_sha256"])


def load_writer(folder: Path) -> Writer:
    """The language model of a run, and its symbols.

    Raises:
        ConfigError: The folder holds no model yet, or one of a task, which writes nothing.
    """
    saved = load_run(folder)
    if not isinstance(saved.model, LanguageModel) or saved.vocabulary is None:
        raise ConfigError(
            f"{folder} holds a model of the task {saved.config.data.task}, which writes no text. "
            f"Name a run of a text, or give `throughtime evaluate {folder}`."
        )
    return Writer(saved.model, saved.vocabulary)


def evaluate_run(folder: Path, data: Path | None = None, *, device: Device = "auto") -> Evaluation:
    """Score the model of a run: on a text, or on the test part of its task.

    Of the text that the run learnt, and of a folder, that is the validation part; another file is
    scored from end to end.

    Raises:
        ConfigError: The folder holds no model yet.
        CheckpointError: The model's file is damaged.
        DataError: The data cannot be used, or the run's own is another one by now.
    """
    saved = load_run(folder)
    saved.model.to(resolve_device(device))
    if saved.config.data.task is not None:
        return _evaluate_task(saved, data)
    return _evaluate_text(saved, data)


def _evaluate_task(saved: SavedModel, data: Path | None) -> Evaluation:
    if data is not None:
        raise ConfigError(
            f"DATA is {data}, but the run learnt the task {saved.config.data.task}, whose test "
            "part is scored. Leave DATA out."
        )
    lesson = make_lesson(saved.config)
    found = lesson.score(saved.model, "test")
    valid = {lesson.loss_name: found.loss, "wrong_share": found.wrong_share or 0.0}
    return Evaluation(f"{lesson.name}, the test part", None, lesson.metric, found.score, valid)


def _evaluate_text(saved: SavedModel, data: Path | None) -> Evaluation:
    assert isinstance(saved.model, LanguageModel), "a run without a task has one"
    assert saved.vocabulary is not None, "and its symbols"
    options = saved.config.data
    path = data or options.data
    corpus = load_corpus(path, options.unit, options.valid_fraction, options.max_vocabulary)
    if corpus.sha256 == saved.data_sha256:
        ids, starts, text = corpus.valid, corpus.valid_starts, corpus.valid_text
    elif data is None:
        raise DataError(
            f"the text {corpus.name} is not the one that the run learnt: its sha256 is "
            f"{corpus.sha256}, not {saved.data_sha256}. Restore it, or name a text to score."
        )
    else:
        text = corpus.valid_text if data.is_dir() else corpus.train_text + corpus.valid_text
        ids, starts = saved.vocabulary.encode(text), np.zeros(1, np.int64)
    loss_nats = mean_nll_nats(saved.model, ids, starts)
    metric = metric_name(options.unit)
    score = metric_value(loss_nats, options.unit, len(ids) / len(text))
    part = "the validation part" if text == corpus.valid_text else "all of it"
    valid = {"loss_nats": loss_nats, metric: score}
    return Evaluation(f"{corpus.name}, {part}", len(ids), metric, score, valid)
