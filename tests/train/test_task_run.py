"""Is a task learnt, scored, kept and gone on with as a text is?"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from throughtime.diagnosis.of_run import diagnose_run
from throughtime.errors import ConfigError
from throughtime.records import read_config, read_metrics
from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.registry import TASKS, find_task
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
    config_from,
)
from throughtime.train.explicit import explicit_command
from throughtime.train.generated import TaskLesson
from throughtime.train.lessons import make_lesson
from throughtime.train.loop import Ending
from throughtime.train.run import resume_run, start_run
from throughtime.train.saved import evaluate_run, load_run, load_writer
from throughtime.train.watch import Watch
from train.tiny import assert_equal_bits, final_tensors

FROM_FILES = [name for name, kind in TASKS.items() if not issubclass(kind, GeneratedTask)]


class CrashError(Exception):
    """The run is broken off here."""


class Crash(Watch):
    def __init__(self, update):
        self.update = update

    def updated(self, record):
        if record.update == self.update:
            raise CrashError


def config(task="temporal-order", length=20, *, model=None, optimiser=None, **run):
    return TrainConfig(
        DataConfig(task=task, length=length),
        ModelConfig(**{"hidden": 5, "dropout": 0.1} | (model or {})),
        OptimiserConfig(**(optimiser or {})),
        RunConfig(**{
            "batch_size": 4, "updates": 9, "validations": 3, "save_s": 0.0, "device": "cpu"
        } | run),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _few_test_rows(monkeypatch):
    """Ten thousand sequences are for experiments."""
    right = TaskLesson._judged

    def few(self, model, part):
        whole, self.task = self.task, Few(self.task)
        try:
            yield from right(self, model, part)
        finally:
            self.task = whole

    monkeypatch.setattr(TaskLesson, "_judged", few)


class Few:
    """A task with one batch of held-out sequences a part."""

    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        return getattr(self.task, name)

    def held_out(self, part):
        yield next(iter(self.task.held_out(part)))


def test_a_run_of_a_task_is_scored_on_parts_of_its_own(tmp_path):
    result = start_run(config(), tmp_path / "run")
    assert result.ending is Ending.FINISHED
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [r["update"] for r in records if r["kind"] == "valid"] == [3, 6, 9]
    (test,) = (r for r in records if r["kind"] == "test")
    assert test["loss_nats"] == result.test.loss == result.test.score
    assert test["loss_nats"] != [r for r in records if r["kind"] == "valid"][-1]["loss_nats"]
    assert 0.0 < result.test.wrong_share <= 1.0
    assert not result.test.is_solved
    assert result.plan.baselines == {"memoryless": pytest.approx(math.log(4))}
    assert not (tmp_path / "run" / "samples.txt").exists()


def test_the_saved_model_is_the_one_that_was_scored(tmp_path):
    result = start_run(config(), tmp_path / "run")
    found = evaluate_run(tmp_path / "run")
    assert found.valid["loss_nats"] == result.test.loss
    assert found.valid["wrong_share"] == result.test.wrong_share
    with pytest.raises(ConfigError, match="writes no text"):
        load_writer(tmp_path / "run")
    with pytest.raises(ConfigError, match="Leave DATA out"):
        evaluate_run(tmp_path / "run", tmp_path)


def test_a_score_is_the_mean_over_all_counted_steps_of_a_part():
    lesson = make_lesson(config(task="copy", length=3).settled())
    torch.manual_seed(0)
    model = lesson.new_model()
    batch = next(iter(lesson.task.held_out("valid")))
    outputs, _ = model.eval()(torch.from_numpy(batch.inputs))
    log_p = torch.log_softmax(outputs, -1).detach().numpy()
    steps, rows = batch.targets.shape
    nll = [-log_p[t, b, batch.targets[t, b]] for t in range(steps) for b in range(rows)]
    found = lesson.score(model, "valid")
    assert found.loss == pytest.approx(np.mean(nll), rel=1e-6)
    wrong = (outputs.detach().numpy().argmax(-1) != batch.targets).any(0)
    assert found.wrong_share == pytest.approx(wrong.mean())


def test_the_loss_of_an_update_is_that_of_its_own_sequences():
    lesson = make_lesson(config(seed=3).settled())
    torch.manual_seed(0)
    model = lesson.new_model().eval()
    batch = find_task("temporal-order", 20).batch(np.random.default_rng([3, 7]), 4)
    outputs, _ = model(torch.from_numpy(batch.inputs))
    at = torch.from_numpy(batch.is_counted)
    want = torch.nn.functional.cross_entropy(outputs[at], torch.from_numpy(batch.targets)[at])
    loss, carried = lesson.loss(model, None, 7)
    torch.testing.assert_close(loss, want)
    assert carried is None
    assert lesson.loss(model, None, 8)[0] != loss


def test_a_broken_run_goes_on_to_the_same_bits(tmp_path):
    start_run(config(keep="best"), tmp_path / "whole")
    with pytest.raises(CrashError):
        start_run(config(keep="best"), tmp_path / "broken", Crash(5))
    again = resume_run(tmp_path / "broken")
    assert_equal_bits(final_tensors(tmp_path / "broken"), final_tensors(tmp_path / "whole"))
    records = [
        [r for r in read_metrics(tmp_path / n / "metrics.jsonl") if r["kind"] != "flow"]
        for n in ("whole", "broken")
    ]
    assert records[0] == records[1]
    count = len(read_metrics(tmp_path / "broken" / "metrics.jsonl"))
    assert resume_run(tmp_path / "broken").test == again.test
    assert len(read_metrics(tmp_path / "broken" / "metrics.jsonl")) == count


def script_scores(monkeypatch, *scores):
    """Let the validations come out as they are wanted."""
    right, coming = TaskLesson.score, iter(scores)

    def score(self, model, part):
        found = right(self, model, part)
        return replace(found, score=next(coming)) if part == "valid" else found

    monkeypatch.setattr(TaskLesson, "score", score)


def test_the_best_weights_are_kept_where_they_are_wanted(tmp_path, monkeypatch):
    script_scores(monkeypatch, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0)
    found = {keep: start_run(config(keep=keep), tmp_path / keep) for keep in ("last", "best")}
    assert [found[keep].validation.update for keep in ("last", "best")] == [9, 6]
    assert found["best"].test.score != found["last"].test.score
    kept = final_tensors(tmp_path / "best")
    assert not any(name.startswith("best.") for name in final_tensors(tmp_path / "last"))
    for name, p in load_run(tmp_path / "best").model.named_parameters():
        assert torch.equal(p, kept[f"best.{name}"])
        assert not torch.equal(p, kept[f"model.{name}"])
    assert evaluate_run(tmp_path / "best").score == found["best"].test.score


def test_patience_ends_a_run_that_gets_no_better(tmp_path, monkeypatch):
    script_scores(monkeypatch, 3.0, 1.0, 2.0, 1.0, 0.5)
    result = start_run(config(patience=2, updates=10, validations=5), tmp_path / "run")
    assert result.ending is Ending.NO_BETTER
    assert result.updates == 8
    again = resume_run(tmp_path / "run")
    assert (again.ending, again.updates, again.test) == (Ending.NO_BETTER, 8, result.test)


def test_the_length_is_settled_and_written_down(tmp_path):
    options = replace(config(), data=DataConfig(task="recall"))
    start_run(options, tmp_path / "run")
    found = config_from(read_config(tmp_path / "run" / "config.toml"))
    assert found.data.length == find_task("recall").length
    said = " ".join(explicit_command(found))
    assert f"--task recall --length {found.data.length}" in said
    assert "--window-steps" not in said
    assert "--unit" not in said


def images(path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4), np.uint8)
    classes = np.arange(40) % 3
    np.savez(path, x_train=pixels, y_train=classes, x_test=pixels[:9], y_test=classes[:9])


def rolls(path):
    roll = (np.random.default_rng(0).random((30, 5)) < 0.3).astype(np.uint8)
    parts = ("train", "valid", "test")
    lengths = {f"{part}_len": np.array([9, 21]) for part in parts}
    np.savez(path, **{f"{part}_roll": roll for part in parts}, **lengths)


@pytest.mark.parametrize(
    ("task", "write"), [(name, rolls if name == "music" else images) for name in FROM_FILES]
)
def test_a_run_on_a_file_is_found_again(tmp_path, task, write):
    write(tmp_path / "data.npz")
    options = replace(config(task, None), data=DataConfig(tmp_path / "data.npz", task=task))
    result = start_run(options, tmp_path / "run")
    assert evaluate_run(tmp_path / "run").score == result.test.score
    assert resume_run(tmp_path / "run").test.score == result.test.score
    assert diagnose_run(tmp_path / "run").layers


@pytest.mark.parametrize(
    ("group", "change", "flag"),
    [
        ("run", {"window_steps": 5}, "--window-steps"),
        ("run", {"sample": 5}, "--sample"),
        ("data", {"unit": "word"}, "--unit"),
        ("model", {"tied": True}, "--tied"),
        ("model", {"embedding": 5}, "--embedding"),
    ],
)
def test_options_of_texts_are_refused(group, change, flag):
    plain = config()
    with pytest.raises(ConfigError, match=f"has no use for it. Drop {flag}"):
        replace(plain, **{group: replace(getattr(plain, group), **change)})


def test_a_text_has_no_length():
    with pytest.raises(ConfigError, match="length is 5, but a text has none"):
        DataConfig(length=5)


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("model", {"connections": "residual", "layers": 2}),
        ("model", {"connections": "highway", "layers": 2}),
        ("model", {"weight_drop": 0.5}),
        ("model", {"activation_l1": 0.1}),
        ("model", {"omega": 1.0}),
        ("model", {"init": ("orthogonal",)}),
        ("model", {"cell": "leaky:lstm"}),
        ("data", {"length": 30}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_every_option_that_decides_is_read(tmp_path, group, change):
    plain = config(model={"layers": 2})
    changed = replace(plain, **{group: replace(getattr(plain, group), **change)})
    for name, options in {"plain": plain, "changed": changed}.items():
        start_run(options, tmp_path / name)
    one, other = (final_tensors(tmp_path / n) for n in ("plain", "changed"))
    assert one.keys() != other.keys() or any(
        one[n].shape != other[n].shape or not torch.equal(one[n], other[n])
        for n in one
        if n.startswith("model.")
    )
