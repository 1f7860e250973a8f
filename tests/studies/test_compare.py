"""Does a comparison run everything once, go on where it was, and survive what breaks?"""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from throughtime.diagnosis.of_run import diagnose_run
from throughtime.errors import ConfigError, RunBusyError
from throughtime.records import RunFolder, read_metrics, read_results
from throughtime.studies import compare as module
from throughtime.studies.compare import compare
from throughtime.studies.comparison import CompareWatch
from throughtime.studies.config import CompareConfig
from throughtime.train.checkpoint import load_model
from throughtime.train.runlock import RunLock

TINY = CompareConfig(
    "recall", cells="rnn,stack:gru", lengths="5,6", seeds=1, updates=3, hidden=4, batch_size=4,
    validations=1,
)  # fmt: skip


class Told(CompareWatch):
    def __init__(self):
        self.done, self.ended_rows, self.timed = None, [], 0
        self.diagnosed, self.refused = [], []

    def timing(self, runs):
        self.timed = runs

    def planned(self, study, rows):
        self.study, self.done = study, len(rows)

    def ended(self, row):
        self.ended_rows.append(row)

    def diagnosing(self, runs):
        self.diagnosed = [run.name for run in runs]

    def not_diagnosed(self, run, why):
        self.refused.append((run.name, why))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare") / "study"


@pytest.fixture(scope="module")
def found(folder):
    return compare(TINY, folder)


def test_every_cell_is_run_at_every_length(found):
    assert [(r.cell, r.length, r.seed) for r in found.rows] == [
        ("rnn", 5, 0), ("stack:gru", 5, 0), ("rnn", 6, 0), ("stack:gru", 6, 0)
    ]  # fmt: skip
    assert {r.updates for r in found.rows} == {3}
    assert all(r.score > 0 and r.error is None and not r.solved for r in found.rows)
    assert [(s.cell, s.length, s.mean) for s in found.summary] == [
        (r.cell, r.length, r.score) for r in found.rows
    ]


def test_a_score_is_that_of_the_run_on_its_test_part(found):
    for run in found.study.runs:
        (test,) = read_metrics(RunFolder(run.folder).metrics, "test")
        row = next(
            r for r in found.rows if (r.cell, r.length) == (run.variant.text, run.task.length)
        )
        assert row.score == test["score"]
        config = load_model(RunFolder(run.folder).model).meta["config"]
        assert config["model"]["layers"] == (2 if run.variant.text == "stack:gru" else 1)
        assert config["data"]["length"] == run.task.length


def test_the_results_are_what_the_command_promises(found, folder):
    values = read_results(folder / "results.json")
    assert values.keys() >= {"task", "rows", "summary", "baseline"}
    assert all(
        row.keys() == {"cell", "length", "seed", "score", "solved", "updates", "elapsed_s"}
        for row in values["rows"]
    )
    assert all(
        s.keys() >= {"cell", "length", "mean", "low", "high", "success_rate"}
        for s in values["summary"]
    )
    assert values["baseline"] == {"5": pytest.approx(found.baseline[5]), "6": found.baseline[6]}
    assert len(values["curves"]) == 4
    ET.fromstring((folder / "picture.svg").read_bytes())
    report = (folder / "report.html").read_text()
    assert "has the lowest mean" in report
    assert values["needs_lag"] == {str(t.length): t.needs_lag for t in found.study.tasks}
    assert values["memory"] is None
    assert "memory.html" not in report


def test_the_same_again_runs_nothing_and_more_of_it_runs_the_rest(found, folder):
    told = Told()
    again = compare(TINY, folder, told)
    assert (told.done, told.ended_rows) == (4, [])
    assert again.rows == found.rows
    told = Told()
    more = compare(replace(TINY, seeds=2, lengths="5"), folder, told)
    assert told.done == 2
    assert [(r.cell, r.seed) for r in told.ended_rows] != []
    assert [r.seed for r in more.rows] == [0, 1, 0, 1]
    assert more.rows[0] == found.rows[0]


def test_other_options_need_another_folder(found, folder):
    with pytest.raises(ConfigError, match="holds a comparison with another hidden"):
        compare(replace(TINY, hidden=5), folder)


@pytest.fixture(scope="module")
def remembered(found, folder):
    """The same again, with one run of each cell diagnosed."""
    told = Told()
    return told, compare(TINY, folder, told, diagnose=True)


def test_one_run_of_each_cell_is_diagnosed_at_the_longest_length(remembered, folder):
    told, found = remembered
    assert told.diagnosed == ["rnn 6 0", "stack:gru 6 0"]
    assert told.refused == []
    runs = {run.name: run for run in found.study.runs}
    for row in read_results(folder / "results.json")["rows"]:
        assert ("horizon_steps" in row) is (row["length"] == 6)
        if "horizon_steps" in row:
            run = runs[f"{row['cell']} 6 0"]
            layers = diagnose_run(run.folder).layers
            farthest = max(layers, key=lambda layer: layer.horizon_steps)
            assert row["horizon_steps"] == farthest.horizon_steps
            assert row["is_horizon_beyond"] is farthest.is_horizon_beyond


def test_the_memories_of_cells_are_drawn_beside_each_other(remembered, folder):
    page = (folder / "memory.html").read_text()
    assert "<h1>rnn, beside stack:gru</h1>" in page
    assert "Recurrent(rnn)" in page
    assert "Recurrent(gru)" in page
    report = (folder / "report.html").read_text()
    assert '<a href="memory.html">' in report
    assert "horizon, steps" in report
    assert "needed lag, steps" in report


def test_memories_stay_when_the_same_is_asked_for_without_them(remembered, folder):
    _, before = remembered
    told = Told()
    assert compare(TINY, folder, told).rows == before.rows
    assert told.diagnosed == []
    assert '<a href="memory.html">' in (folder / "report.html").read_text()


def test_a_run_that_cannot_be_diagnosed_does_not_sink_the_rest(remembered, folder, monkeypatch):
    def refusing(run, **options):
        if "rnn" in run.name:
            raise ConfigError("no")
        return diagnose_run(run, **options)

    monkeypatch.setattr("throughtime.diagnosis.of_run.diagnose_run", refusing)
    told = Told()
    compare(TINY, folder, told, diagnose=True)
    assert told.refused == [("rnn 6 0", "no")]
    assert "<h1>stack:gru</h1>" in (folder / "memory.html").read_text()


def test_a_comparison_has_one_writer(found, folder):
    with RunLock(folder), pytest.raises(RunBusyError):
        compare(TINY, folder)


def test_one_broken_run_does_not_sink_the_rest(tmp_path):
    """An initialisation that the plain cell has no gate for."""
    config = replace(TINY, cells="chrono(rnn, t_max=9),gru", lengths="5")
    found = compare(config, tmp_path / "study")
    broken, good = found.rows
    assert broken.score is None
    assert "gate" in broken.error
    assert good.error is None
    assert [s.success_rate for s in found.summary] == [0.0, 0.0]
    assert found.summary[0].mean is None


def test_a_budget_becomes_the_updates_of_the_slowest_for_all(tmp_path, monkeypatch):
    asked = []

    def measured(configs, budget_s, jobs):
        asked.append(([c.model.cell for c in configs], budget_s, jobs))
        return [7, "ConfigError: no", 3, 5]

    monkeypatch.setattr(module, "updates_for_all", measured)
    config, told = replace(TINY, updates=None, budget="90s"), Told()
    found = compare(config, tmp_path / "study", told, jobs=1)
    assert asked == [(["rnn", "gru"] * 2, 90.0, 1)]
    assert {r.updates for r in found.rows} == {3}
    assert told.timed == 4
    compare(config, tmp_path / "study", jobs=1)
    assert len(asked) == 1  # decided once


def test_runs_are_timed_in_processes_of_their_own():
    task = TINY.tasks()[0]
    good = TINY.at(task, 1, 0)
    bad = replace(good, model=replace(good.model, cell="rnn", init=("chrono:9",)))
    small, error = module.updates_for_all([good, bad], 1000.0, 1)
    assert small > 3
    assert "gate" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": "5,5"}, "different whole numbers"),
        ({"lengths": "five"}, "lengths is 'five'"),
        ({"lengths": ""}, "lengths is ''"),
        ({"cells": "rnm"}, "did you mean 'rnn'"),
        ({"cells": ""}, "cell"),
        ({"task": "recal"}, "Did you mean recall"),
        ({"seeds": 0}, "seeds is 0"),
        ({"budget": "1m"}, "Give --updates or --budget"),
        ({"budget": "soon", "updates": None}, "budget is 'soon'"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_run(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        compare(replace(TINY, **change), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_runs_need_a_process(tmp_path):
    with pytest.raises(ConfigError, match="jobs is 0"):
        compare(TINY, tmp_path / "study", jobs=0)


def test_ctrl_c_stops_the_runs_and_the_same_command_goes_on(tmp_path):
    command = [
        sys.executable, "-m", "throughtime", "compare", "recall", "--lengths", "5", "--cells",
        "rnn,gru", "--seeds", "1", "--updates", "3000", "--hidden", "4", "--batch-size", "4",
        "--validations", "40", "--json", "--out", str(tmp_path / "study"),
    ]  # fmt: skip
    first = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What a shell ran in the background would ignore Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline_s = time.monotonic() + 60
    while not any(
        path.stat().st_size > 2000 for path in (tmp_path / "study").glob("runs/*/metrics.jsonl")
    ):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGINT)
    out, error = first.communicate(timeout=90)
    assert first.returncode == 130
    assert out == b""
    assert b"saved" in error
    assert len(list((tmp_path / "study").glob("runs/*/last.ckpt"))) >= 1
    again = subprocess.run(command, capture_output=True, check=True, timeout=120)
    values = json.loads(again.stdout)
    assert [(r["cell"], r["updates"]) for r in values["rows"]] == [("rnn", 3000), ("gru", 3000)]
    assert values["task"] == "recall"
