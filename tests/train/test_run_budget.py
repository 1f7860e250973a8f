"""Does a run take the time it was given, and does the clock leave no other trace?"""

from types import SimpleNamespace

import pytest

from throughtime.records import read_config
from throughtime.train import budget, loop, run
from throughtime.train.budget import Pace, updates_within
from throughtime.train.config import config_from
from throughtime.train.loop import Ending
from throughtime.train.run import resume_run, start_run
from throughtime.train.watch import Watch
from train.tiny import assert_equal_bits, crash, final_tensors, tiny_config, write_text


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path)


def test_the_updates_fill_the_budget():
    pace = Pace(update_s=0.1, validation_s=2.0, measuring_s=3.0)
    assert updates_within(60.0, pace, validations=5) == 470
    assert updates_within(1.0, pace, validations=5) == 1


def test_a_budget_becomes_updates_once_and_leaves_no_other_trace(text, tmp_path, monkeypatch):
    paces = iter([Pace(1.0, 0.0, 0.0)])
    measure = budget.measure_pace
    monkeypatch.setattr(
        "throughtime.train.run.measure_pace", lambda *args: (measure(*args), next(paces))[1]
    )
    by_budget = tiny_config(text, updates=None, budget="11s")
    crash(by_budget, tmp_path / "budget", 5)
    settled = config_from(read_config(tmp_path / "budget" / "config.toml"))
    assert (settled.run.updates, settled.run.budget) == (11, "11s")
    resume_run(tmp_path / "budget")  # `paces` would raise if it measured again
    start_run(tiny_config(text, updates=11), tmp_path / "updates")
    assert_equal_bits(final_tensors(tmp_path / "budget"), final_tensors(tmp_path / "updates"))


def test_twenty_updates_are_timed_and_what_fits_is_planned(text, tmp_path, monkeypatch):
    made, paces = [], []
    make_update, measure = budget.make_update, budget.measure_pace
    monkeypatch.setattr(budget, "make_update", lambda *a: made.append(make_update(*a)))
    monkeypatch.setattr(run, "measure_pace", lambda *a: paces.append(measure(*a)) or paces[0])
    config = tiny_config(text, updates=None, budget="1s")
    start_run(config, tmp_path / "run")
    planned = config_from(read_config(tmp_path / "run" / "config.toml")).run.updates
    assert len(made) == 20
    assert planned == updates_within(1.0, paces[0], config.run.validations)
    assert 0.0 < 20 * paces[0].update_s < 2.0 * paces[0].measuring_s


@pytest.mark.parametrize(
    ("late_s", "updates", "ending"), [(1.2, 12, Ending.FINISHED), (1.3, 4, Ending.OUT_OF_TIME)]
)
def test_the_guard_is_a_quarter_above_the_budget(
    text, tmp_path, monkeypatch, late_s, updates, ending
):
    now_s = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    class Slow(Watch):
        def updated(self, record):
            if record.update == 3:
                now_s[0] += late_s

    result = start_run(tiny_config(text, budget="1s"), tmp_path / "run", Slow())
    assert (result.updates, result.ending) == (updates, ending)
    assert result.validation.update == updates  # what it has is scored
    assert resume_run(tmp_path / "run").ending is Ending.FINISHED
