"""Is a run trained again with the cure, compared, and not trained twice?"""

import json
import os
import signal

import pytest

from throughtime.cli.main import main
from throughtime.diagnosis import cure_of_run
from throughtime.diagnosis.cure_of_run import CureWatch, cure_run
from throughtime.errors import ConfigError
from throughtime.records import RunFolder, read_config, read_metrics
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
    config_from,
)
from throughtime.train.run import start_run
from throughtime.train.watch import Watch

LENGTH = 12


def run(folder, cell="rnn", **model):
    config = TrainConfig(
        DataConfig(task="recall", length=LENGTH),
        ModelConfig(cell=cell, hidden=6, **model),
        OptimiserConfig(),
        RunConfig(updates=3, validations=1, batch_size=4, budget="2m", seed=5, device="cpu"),
    )
    start_run(config, folder)
    return folder


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    return run(tmp_path_factory.mktemp("cure") / "run")


class Seen(CureWatch):
    def __init__(self):
        self.planned, self.tried_options, self.diagnoses = None, [], []

    def diagnosed(self, before, planned, found):
        self.planned = planned

    def trying(self, options):
        self.tried_options.append(options)

    def tried(self, trial, diagnosis):
        self.diagnoses.append(diagnosis)


def score(folder):
    return read_metrics(RunFolder(folder).metrics, "test")[-1]["score"]


def test_the_first_cure_is_tried_with_seed_data_and_updates_unchanged(patient):
    watch = Seen()
    found = cure_run(patient, watch=watch)
    cured = patient.with_name("run-cured-1")
    assert found.code == found.before.top.code == "vanishing"
    assert watch.tried_options == watch.planned == [{"cell": "gru", "init": ["chrono:22"]}]
    before, after = (config_from(read_config(RunFolder(f).config)) for f in (patient, cured))
    assert (after.model.cell, after.model.init) == ("gru", ("chrono:22",))
    assert (after.run.seed, after.run.updates, after.run.budget) == (5, 3, None)
    assert after.data == before.data
    (trial,) = found.trials
    assert trial.after.name == str(cured)
    assert found.before.score == pytest.approx(score(patient))
    assert trial.after.score == pytest.approx(score(cured))
    assert trial.is_gone == ("vanishing" not in trial.after.findings)
    assert trial.is_better == (trial.after.score < found.before.score)
    assert watch.diagnoses[0].record.findings[0] == trial.after.top
    assert watch.diagnoses[0].record.title == str(cured)
    assert found.metric == "nats"


def test_the_record_is_written_beside_the_run(patient):
    found = cure_run(patient)
    written = json.loads((patient / "cure.json").read_text())
    assert written == json.loads(found.to_json())
    assert written["trials"][0]["options"] == {"cell": "gru", "init": ["chrono:22"]}


def test_a_cure_that_is_done_is_not_trained_again(patient):
    cure_run(patient)
    stamp = (patient.with_name("run-cured-1") / "last.ckpt").stat().st_mtime_ns
    cure_run(patient)
    assert (patient.with_name("run-cured-1") / "last.ckpt").stat().st_mtime_ns == stamp
    assert not patient.with_name("run-cured-2").exists()


def test_a_folder_with_another_run_is_left_alone(tmp_path):
    folder = run(tmp_path / "run")
    other = run(tmp_path / "run-cured-1", cell="lstm")
    before = (other / "config.toml").read_bytes()
    found = cure_run(folder)
    assert found.trials[0].after.name == str(tmp_path / "run-cured-2")
    assert (other / "config.toml").read_bytes() == before


def test_all_cures_are_tried_each_alone(tmp_path):
    folder = run(tmp_path / "run")
    watch = Seen()
    found = cure_run(folder, all_cures=True, watch=watch)
    assert len(found.trials) == len(watch.planned) > 3
    for number, trial in enumerate(found.trials, 1):
        config = config_from(read_config(RunFolder(tmp_path / f"run-cured-{number}").config))
        for name, value in trial.options.items():
            group = config.model if hasattr(config.model, name) else config.optimiser
            got = getattr(group, name)
            assert (list(got) if isinstance(got, tuple) else got) == value


def test_a_cure_that_cannot_be_trained_does_not_sink_the_others(tmp_path, monkeypatch):
    folder, begin = run(tmp_path / "run"), cure_of_run.start_run

    def start(config, out, watch):
        if config.model.cell == "gru":
            raise ConfigError("the first cure fails.")
        return begin(config, out, watch)

    monkeypatch.setattr(cure_of_run, "start_run", start)
    found = cure_run(folder, all_cures=True)
    assert found.trials[0].failure == "the first cure fails."
    assert not found.trials[0].is_cured
    assert all(trial.after is not None for trial in found.trials[1:])


def test_a_healthy_run_has_nothing_to_cure(tmp_path):
    folder = run(tmp_path / "run", cell="gru", init=("chrono:24",))
    with pytest.raises(ConfigError, match="nothing to cure"):
        cure_run(folder)
    assert not (folder / "cure.json").exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        cure_run(tmp_path)


def test_a_lag_that_the_user_states_counts(tmp_path):
    folder = run(tmp_path / "run", cell="gru", init=("chrono:24",))
    found = cure_run(run(tmp_path / "short"), needs_lag=9)
    assert found.trials[0].options["init"] == ["chrono:18"]
    with pytest.raises(ConfigError, match="nothing to cure"):
        cure_run(folder, needs_lag=2)


def test_the_command_prints_one_object_and_the_report(tmp_path, capsys):
    folder = run(tmp_path / "run")
    status = main(["cure", str(folder), "--json"])
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.out.count("\n") == 1
    assert found["code"] == "vanishing"
    assert found["before"]["top"]["code"] == "vanishing"
    assert status == (0 if found["is_cured"] else 1)
    assert "before" in printed.err


def test_the_view_fits_into_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "run")
    assert main(["cure", "run", "--all"]) in {0, 1}
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "trying --cell gru --init chrono:22" in text
    assert "before" in text
    assert "run-cured-2" in text


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    assert main(["cure", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cure_that_is_stopped_goes_on(tmp_path, monkeypatch):
    """Ctrl-C in its first update; the same command then ends it."""
    folder = run(tmp_path / "run")

    class Stop(Watch):
        def updated(self, record):
            os.kill(os.getpid(), signal.SIGINT)

    class Stopping(CureWatch):
        def trying(self, options):
            return Stop()

    stopped = cure_run(folder, all_cures=True, watch=Stopping())
    assert stopped.signal_number == signal.SIGINT
    assert len(stopped.trials) == 1
    assert stopped.trials[0].after is None
    done = cure_run(folder)
    assert done.trials[0].after.name == str(tmp_path / "run-cured-1")
    assert len(read_metrics(RunFolder(tmp_path / "run-cured-1").metrics, "train")) == 3
