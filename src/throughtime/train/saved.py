"""How is the model of a run used afterwards?"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from throughtime.errors import ConfigError, DataError
from throughtime.models import LanguageModel
from throughtime.records import RunFolder
from throughtime.tasks import Vocabulary, load_corpus
from throughtime.train.checkpoint import load_model
from throughtime.train.config import Device, TrainConfig, config_from
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.score import metric_name, metric_value
from throughtime.train.setup import make_model, resolve_device
from throughtime.train.state import load_weights

__all__ = ["Evaluation", "SavedRun", "evaluate_run", "load_run"]

_ONE_START = np.zeros(1, np.int64)


class SavedRun(NamedTuple):
    """A trained model, in evaluation mode, and how it came about."""

    model: LanguageModel
    vocabulary: Vocabulary
    config: TrainConfig
    corpus_sha256: str


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text; `valid` has the loss in nats and the score in `metric`."""

    text: str
    symbols: int
    metric: str
    valid: dict[str, float]


def load_run(folder: Path) -> SavedRun:
    """The model that a run saved last.

    Raises:
        ConfigError: The folder holds no model yet.
        CheckpointError: The model's file is damaged.
    """
    path = RunFolder(folder).model
    if not path.exists():
        raise ConfigError(
            f"{folder} holds no saved model: {path.name} is not there. Name the folder of a run "
            "that has saved, such as runs/topics-lstm-1."
        )
    saved = load_model(path)
    config = config_from(saved.meta["config"])
    vocabulary = Vocabulary.from_dict(saved.meta["vocabulary"])
    model = make_model(config.model, config.data.unit, vocabulary.size)
    load_weights(model, saved.tensors)
    return SavedRun(model.eval(), vocabulary, config, saved.meta["corpus_sha256"])


def evaluate_run(folder: Path, data: Path | None = None, *, device: Device = "auto") -> Evaluation:
    """Score the model of a run on a text.

    Of the text that the run learnt, and of a folder, that is the validation part; another file is
    scored from end to end.

    Raises:
        ConfigError: The folder holds no model yet.
        CheckpointError: The model's file is damaged.
        DataError: The text cannot be used, or the run's own is another one by now.
    """
    saved = load_run(folder)
    options = saved.config.data
    path = data or options.data
    corpus = load_corpus(path, options.unit, options.valid_fraction, options.max_vocabulary)
    if corpus.sha256 == saved.corpus_sha256:
        ids, starts, text = corpus.valid, corpus.valid_starts, corpus.valid_text
    elif data is None:
        raise DataError(
            f"the text {corpus.name} is not the one that the run learnt: its sha256 is "
            f"{corpus.sha256}, not {saved.corpus_sha256}. Restore it, or name a text to score."
        )
    else:
        text = corpus.valid_text if data.is_dir() else corpus.train_text + corpus.valid_text
        ids, starts = saved.vocabulary.encode(text), np.zeros(1, np.int64)
    loss_nats = mean_nll_nats(saved.model.to(resolve_device(device)), ids, starts)
    metric = metric_name(options.unit)
    score = metric_value(loss_nats, options.unit, len(ids) / len(text))
    part = "the validation part" if text == corpus.valid_text else "all of it"
    return Evaluation(
        text=f"{corpus.name}, {part}",
        symbols=len(ids),
        metric=metric,
        valid={"loss_nats": loss_nats, metric: score},
    )
