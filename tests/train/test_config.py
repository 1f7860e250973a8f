"""Are wrong options refused where they are made, by name, with what to do?"""

import re
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from throughtime.engine import NAMES
from throughtime.errors import ConfigError
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("1h30m", 5400), ("0.5h", 1800), ("1m1.5s", 61.5)],
)
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "m", "2 m", "2x", "-2m", "0s", "2m!", "nan", "1e3s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match=re.escape(repr(text)) + ".*--budget 2m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: DataConfig(valid_fraction=0.0), "valid_fraction"),
        (lambda: DataConfig(valid_fraction=1.0), "valid_fraction"),
        (lambda: DataConfig(max_vocabulary=1), "max_vocabulary"),
        (lambda: ModelConfig(layers=0), "layers"),
        (lambda: ModelConfig(hidden=-1), "hidden"),
        (lambda: ModelConfig(embedding=0), "embedding"),
        (lambda: ModelConfig(embedding_range=0.0), "embedding_range"),
        (lambda: ModelConfig(embedding_range=float("inf")), "embedding_range"),
        (lambda: ModelConfig(dropout=1.0), "dropout"),
        (lambda: ModelConfig(dropout=float("nan")), "dropout"),
        (lambda: ModelConfig(adaptive=(5, 5)), "adaptive"),
        (lambda: ModelConfig(adaptive=(0, 5)), "adaptive"),
        (lambda: ModelConfig(tied=True, adaptive=(5,)), "tied"),
        (lambda: OptimiserConfig(learning_rate=0.0), "learning_rate"),
        (lambda: OptimiserConfig(learning_rate=float("nan")), "learning_rate"),
        (lambda: OptimiserConfig(clip_norm=-0.1), "clip_norm"),
        (lambda: OptimiserConfig(clip_value=-1.0), "clip_value"),
        (lambda: OptimiserConfig(weight_decay=-0.1), "weight_decay"),
        (lambda: OptimiserConfig(warmup=1.0), "warmup"),
        (lambda: OptimiserConfig(hold=-0.1), "hold"),
        (lambda: OptimiserConfig(hold=0.95, warmup=0.05), "hold"),
        (lambda: OptimiserConfig(hold=float("nan")), "hold"),
        (lambda: OptimiserConfig(hold=0.3, schedule="constant"), "hold"),
        (lambda: OptimiserConfig(optimiser="adam", momentum=0.9), "momentum"),
        (lambda: OptimiserConfig(optimiser="sgd", momentum=1.0), "momentum"),
        (lambda: RunConfig(batch_size=0), "batch_size"),
        (lambda: RunConfig(window_steps=0), "window_steps"),
        (lambda: RunConfig(validations=0), "validations"),
        (lambda: RunConfig(updates=0), "updates"),
        (lambda: RunConfig(seed=-1), "seed"),
        (lambda: RunConfig(save_s=-1.0), "save_s"),
        (lambda: RunConfig(budget="soon"), "budget"),
    ],
)
def test_an_option_without_a_meaning_is_refused_by_name(make, name):
    with pytest.raises(ConfigError, match=f"^{name} "):
        make()


def test_the_engines_to_choose_from_are_those_there_are():
    hints = get_type_hints(ModelConfig)
    assert set(get_args(hints["engine"])) == set(NAMES)


def test_the_options_load_without_torch():
    code = "import sys, throughtime.train.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
