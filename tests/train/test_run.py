"""Is a run what was planned, and is one that was broken off the run that was not?"""

import errno
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from throughtime.errors import CheckpointError, ConfigError, DataError, EngineError, RunBusyError
from throughtime.records import RunFolder, atomic, read_config, read_metrics
from throughtime.tasks import baselines
from throughtime.train.checkpoint import load_model
from throughtime.train.config import config_from
from throughtime.train.lessons import read_corpus
from throughtime.train.loop import Ending
from throughtime.train.run import resume_run, start_run
from throughtime.train.runlock import RunLock
from throughtime.train.saved import evaluate_run, load_run
from train.tiny import (
    Crash,
    CrashError,
    assert_equal_bits,
    crash,
    final_tensors,
    tiny_config,
    write_text,
)


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path)


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    start_run(tiny_config(write_text(folder)), folder / "run")
    return load_model(folder / "run" / "model.safetensors").tensors


def records(folder):
    """All but what the gauge read, which goes by the clock."""
    return [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] != "flow"]


# --- What a run leaves --------------------------------------------------------------------------


def test_a_run_leaves_a_folder_that_explains_itself(text, tmp_path):
    config = tiny_config(text)
    result = start_run(config, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.toml", "model.safetensors", "last.ckpt", "metrics.jsonl", "samples.txt", "env.json"
    }  # fmt: skip
    assert config_from(read_config(tmp_path / "run" / "config.toml")) == config
    train = [r for r in records(tmp_path / "run") if r["kind"] == "train"]
    assert [r["update"] for r in train] == list(range(1, 13))
    valid = [r for r in records(tmp_path / "run") if r["kind"] == "valid"]
    assert [r["update"] for r in valid] == [6, 12]
    assert result.ending is Ending.FINISHED
    score = result.validation.score
    assert score.loss == valid[-1]["loss_nats"]
    assert score.score == pytest.approx(score.loss / math.log(2))
    assert score.sample in (tmp_path / "run" / "samples.txt").read_text()
    assert result.plan.baselines == pytest.approx(baselines(read_corpus(config)))
    assert result.plan.parameters == sum(
        p.numel() for p in load_run(tmp_path / "run").model.parameters()
    )


def test_the_saved_model_scores_as_the_run_said(text, tmp_path):
    result = start_run(tiny_config(text), tmp_path / "run")
    score = result.validation.score
    wanted = {"loss_nats": score.loss, "bits_per_char": score.score}
    assert evaluate_run(tmp_path / "run").valid == wanted
    assert evaluate_run(tmp_path / "run", text).valid == wanted
    other = tmp_path / "other.txt"
    other.write_text("another text, all of which is scored")
    assert evaluate_run(tmp_path / "run", other).symbols == 36
    assert evaluate_run(tmp_path / "run", other).valid["loss_nats"] != wanted["loss_nats"]


@pytest.mark.parametrize(
    ("unit", "metric"),
    [("char", "bits_per_char"), ("byte", "bits_per_char"), ("word", "perplexity")],
)
def test_the_score_is_in_the_units_of_the_field(text, tmp_path, unit, metric):
    text.write_text(text.read_text().replace("a", "ä"), encoding="utf-8")
    config = tiny_config(text)
    config = replace(config, data=replace(config.data, unit=unit))
    result = start_run(config, tmp_path / unit)
    corpus, valid = read_corpus(config), result.validation.score
    sum_nats = valid.loss * len(corpus.valid)
    by_hand = {
        "bits_per_char": sum_nats / math.log(2) / len(corpus.valid_text),
        "perplexity": math.exp(valid.loss),
    }
    assert result.plan.lesson.metric == metric
    assert valid.score == pytest.approx(by_hand[metric])
    assert set(evaluate_run(tmp_path / unit).valid) == {"loss_nats", metric}


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("model", {"layers": 2}),
        ("model", {"hidden": 7}),
        ("model", {"embedding": 5}),
        ("model", {"embedding_range": 0.1}),
        ("model", {"cell": "gru"}),
        ("model", {"dropout": 0.0}),
        ("model", {"embedding": 6, "tied": True}),
        ("model", {"adaptive": (8,)}),
        ("model", {"cell": "lstm_projection", "projection": 2, "engine": "reference"}),
        ("optimiser", {"optimiser": "rmsprop"}),
        ("optimiser", {"optimiser": "nesterov", "momentum": 0.5}),
        ("optimiser", {"learning_rate": 0.001}),
        ("optimiser", {"weight_decay": 0.1}),
        ("optimiser", {"schedule": "linear"}),
        ("optimiser", {"warmup": 0.5}),
        ("optimiser", {"hold": 0.5}),
        ("optimiser", {"clip_norm": 0.01, "optimiser": "sgd"}),
        ("optimiser", {"clip_value": 1e-4, "optimiser": "sgd"}),
        ("run", {"seed": 1}),
        ("run", {"batch_size": 4}),
        ("run", {"window_steps": 4}),
        ("run", {"updates": 13}),
        ("data", {"valid_fraction": 0.2}),
        ("data", {"max_vocabulary": 10}),
        ("data", {"unit": "byte"}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_every_option_that_decides_is_read(plain_weights, text, tmp_path, group, change):
    config = tiny_config(text)
    changed = replace(config, **{group: replace(getattr(config, group), **change)})
    start_run(changed, tmp_path / "run")
    other = load_model(tmp_path / "run" / "model.safetensors").tensors
    assert plain_weights.keys() != other.keys() or not all(
        t.shape == other[n].shape and torch.equal(t, other[n]) for n, t in plain_weights.items()
    )


# --- Broken off and gone on ---------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sgd", "nesterov", "rmsprop", "adam", "adamw"])
def test_a_run_broken_off_twice_ends_with_the_same_bits(text, tmp_path, optimiser):
    config = tiny_config(text, optimiser={"optimiser": optimiser}, model={"layers": 2})
    start_run(config, tmp_path / "whole")
    crash(config, tmp_path / "broken", 4)
    with pytest.raises(CrashError):
        resume_run(tmp_path / "broken", Crash(9))
    resume_run(tmp_path / "broken")
    assert_equal_bits(final_tensors(tmp_path / "broken"), final_tensors(tmp_path / "whole"))
    whole, broken = (load_model(tmp_path / n / "model.safetensors") for n in ("whole", "broken"))
    assert_equal_bits(broken.tensors, whole.tensors)
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    samples = [(tmp_path / n / "samples.txt").read_text() for n in ("whole", "broken")]
    assert samples[0] == samples[1]


def test_what_was_not_saved_is_done_again(text, tmp_path):
    config = tiny_config(text, save_s=1e6)
    start_run(config, tmp_path / "whole")
    crash(config, tmp_path / "broken", 10)
    assert not (tmp_path / "broken" / "last.ckpt").exists()
    resume_run(tmp_path / "broken")
    assert_equal_bits(final_tensors(tmp_path / "broken"), final_tensors(tmp_path / "whole"))
    assert records(tmp_path / "broken") == records(tmp_path / "whole")


def test_a_finished_run_that_goes_on_is_the_same_run(text, tmp_path):
    result = start_run(tiny_config(text), tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.name != ".lock"}
    again = resume_run(tmp_path / "run")
    after = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.name != ".lock"}
    assert after == before
    assert again.validation == result.validation
    assert again.plan.baselines == result.plan.baselines


def test_a_crash_between_checkpoint_and_model_is_mended(text, tmp_path):
    start_run(tiny_config(text), tmp_path / "run")
    good = (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"old")
    resume_run(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == good


def test_a_damaged_checkpoint_gives_way_to_the_one_before(text, tmp_path):
    config = tiny_config(text)
    start_run(config, tmp_path / "whole")
    crash(config, tmp_path / "broken", 4)
    last = RunFolder(tmp_path / "broken").last
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    watch = Crash(update=None)
    resume_run(tmp_path / "broken", watch)
    assert len(watch.notes) == 1
    assert "last.ckpt is damaged" in watch.notes[0]
    assert_equal_bits(final_tensors(tmp_path / "broken"), final_tensors(tmp_path / "whole"))


def test_a_full_disk_stops_the_run_and_costs_nothing_saved(text, tmp_path, monkeypatch):
    config = tiny_config(text)
    start_run(config, tmp_path / "whole")
    write, left = os.write, [60_000]

    def full(descriptor, data):
        if len(data) > left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        return write(descriptor, data)

    monkeypatch.setattr(atomic, "DISK", replace(atomic.DISK, write=full))
    with pytest.raises(CheckpointError, match=r"no room to save .*: [\d,]+ bytes are needed"):
        start_run(config, tmp_path / "full")
    monkeypatch.undo()
    assert 0 < len([r for r in records(tmp_path / "full") if r["kind"] == "train"]) < 12
    resume_run(tmp_path / "full")
    assert_equal_bits(final_tensors(tmp_path / "full"), final_tensors(tmp_path / "whole"))


# --- Refusals -----------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_written_over(text, tmp_path):
    start_run(tiny_config(text), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds a run already\. Give --resume"):
        start_run(tiny_config(text), tmp_path / "run")


def test_a_second_writer_is_refused(text, tmp_path):
    start_run(tiny_config(text), tmp_path / "run")
    with RunLock(tmp_path / "run"):
        with pytest.raises(RunBusyError, match=f"process {os.getpid()} on"):
            resume_run(tmp_path / "run")
        with pytest.raises(RunBusyError):
            start_run(tiny_config(text), tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_refused_before_training(text, tmp_path):
    for folder in (text / "run", "/proc/run"):
        with pytest.raises(ConfigError, match="cannot write into the folder"):
            start_run(tiny_config(text), tmp_path / folder, Crash(1))


def test_there_must_be_a_run_to_go_on_with(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no run: it has no config.toml"):
        resume_run(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="holds no saved model"):
        load_run(tmp_path)


def test_another_text_is_refused(text, tmp_path):
    crash(tiny_config(text), tmp_path / "run", 4)
    text.write_text(text.read_text() + "more", encoding="utf-8")
    with pytest.raises(DataError, match="is not the one that the run learnt"):
        resume_run(tmp_path / "run")
    with pytest.raises(DataError, match="is not the one that the run learnt"):
        evaluate_run(tmp_path / "run")


def test_a_plan_that_was_changed_is_refused(text, tmp_path):
    crash(tiny_config(text), tmp_path / "run", 4)
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(CheckpointError, match=r"config.toml was changed after last.ckpt"):
        resume_run(tmp_path / "run")
    path.write_text(path.read_text().replace("seed = 1", "sead = 1"))
    with pytest.raises(ConfigError, match="sead"):
        resume_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({"cell": "lstn"}, ConfigError, r"'lstn' is unknown; did you mean 'lstm'\?"),
        ({"cell": "mgu", "engine": "vendor"}, EngineError, "vendor.*mgu"),
        ({"tied": True}, ConfigError, "one matrix needs"),
        ({"adaptive": (5000,)}, ConfigError, "cut-off 5000"),
    ],
)
def test_what_cannot_be_built_is_refused_before_there_is_a_folder(
    text, tmp_path, model, error, message
):
    with pytest.raises(error, match=message):
        start_run(tiny_config(text, model=model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        start_run(tiny_config(text, device="cuda"), tmp_path / "run")
    with pytest.raises(ConfigError, match="device is 'gpu'; expected one of auto, cpu, cuda"):
        start_run(tiny_config(text, device="gpu"), tmp_path / "run")


def test_other_threads_are_noted(text, tmp_path):
    crash(tiny_config(text), tmp_path / "run", 4)
    threads = torch.get_num_threads()
    watch = Crash(update=None)
    try:
        torch.set_num_threads(threads + 1)
        resume_run(tmp_path / "run", watch)
    finally:
        torch.set_num_threads(threads)
    assert f"had threads {threads} and has {threads + 1} now" in watch.notes[0]


def test_the_default_folder_is_the_first_free_one(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [start_run(tiny_config(text, updates=1)).plan.folder for _ in range(2)]
    assert [str(path) for path in found] == ["runs/text-lstm-1", "runs/text-lstm-2"]


def test_a_run_goes_on_from_another_working_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny_config(text)
    config = replace(config, data=replace(config.data, data=type(text)("text.txt")))
    crash(config, tmp_path / "run", 4)
    monkeypatch.chdir("/")
    assert resume_run(tmp_path / "run").ending is Ending.FINISHED


def test_metrics_hold_what_a_diagnosis_needs(text, tmp_path):
    start_run(tiny_config(text), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    gauge = json.loads(lines[0])
    assert gauge.keys() >= {"layer", "horizon_steps", "lags", "error_at_lags"}
    assert (gauge["kind"], gauge["update"]) == ("flow", 1)
    first = json.loads(lines[1])
    assert first.keys() >= {"loss_nats", "learning_rate", "gradient_norm", "is_clipped"}
    norms = np.array([json.loads(line).get("gradient_norm", 1.0) for line in lines])
    assert (norms > 0).all()
