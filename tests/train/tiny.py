"""What is the smallest run that has every part of a large one?"""

import random
import shlex
from pathlib import Path

import pytest
import torch

from throughtime.train.checkpoint import load_checkpoint
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)
from throughtime.train.explicit import explicit_command
from throughtime.train.run import start_run
from throughtime.train.watch import Watch

__all__ = [
    "TINY_FLAGS",
    "Crash",
    "CrashError",
    "assert_equal_bits",
    "crash",
    "final_tensors",
    "tiny_config",
    "write_text",
]

_WORDS = ("the", "state", "of", "a", "cell", "is", "carried", "through", "time", "and", "back")


def write_text(folder: Path, words: int = 300) -> Path:
    """A text file of words in an order that can be learnt a little."""
    choose = random.Random(0)
    path = folder / "text.txt"
    path.write_text(" ".join(choose.choice(_WORDS) for _ in range(words)), encoding="utf-8")
    return path


def tiny_config(
    data: Path | None, *, model: dict | None = None, optimiser: dict | None = None, **run
):
    """A run of some milliseconds an update, with dropout and clipping on."""
    return TrainConfig(
        data=DataConfig(data=data),
        model=ModelConfig(**{"hidden": 6, "embedding": 4, "dropout": 0.2} | (model or {})),
        optimiser=OptimiserConfig(**{"clip_norm": 0.5} | (optimiser or {})),
        run=RunConfig(**{
            "batch_size": 3, "window_steps": 5, "updates": 12, "validations": 2, "sample": 5,
            "save_s": 0.0, "device": "cpu",
        } | run),
    )  # fmt: skip


# The same as flags of the command; one that comes later counts.
TINY_FLAGS = shlex.split(" ".join(explicit_command(tiny_config(None))))[2:]


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All that a run saved last: weights, moments, carried state and generators."""
    return load_checkpoint(folder / "last.ckpt").tensors


def assert_equal_bits(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    """Two runs ended with the same bits, everywhere."""
    assert got.keys() == want.keys()
    different = [name for name in want if not torch.equal(got[name], want[name])]
    assert not different, different


class CrashError(Exception):
    """The run is broken off here, as by a crash: nothing after it is saved."""


class Crash(Watch):
    def __init__(self, update):
        self.update, self.notes = update, []

    def updated(self, record):
        if record.update == self.update:
            raise CrashError

    def noted(self, text):
        self.notes.append(text)


def crash(config, out, update):
    with pytest.raises(CrashError):
        start_run(config, out, Crash(update))
