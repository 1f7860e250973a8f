"""Does every finding's cure give a run that can be made, and is another one?"""

from dataclasses import replace
from pathlib import Path

import pytest

from flow.diagnosed import LAG, curve, keep, layer, lstm, trained
from throughtime.diagnosis.cures import applied, cured_config, cures, for_run
from throughtime.errors import ConfigError
from throughtime.flow.remedies import facts_of, remedies
from throughtime.flow.verdicts import judge
from throughtime.flow.wording import cure_in_python
from throughtime.records.diagnosis import CODES, DiagnosisRecord
from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
    config_from,
)
from throughtime.train.lessons import make_lesson
from train.tiny import write_text

CELLS = ("rnn", "rnn_relu", "lstm", "gru", "lstm_projection", "mingru", "leaky:rnn", "indrnn")
SICK = [code for code in CODES if code != "healthy"]


def config(cell, *, text=None, **model):
    data = DataConfig(task="recall", length=12) if text is None else DataConfig(data=text)
    run = (
        RunConfig(updates=40, budget="2m")
        if text is None
        else RunConfig(updates=40, batch_size=2, window_steps=8)
    )
    return TrainConfig(data, ModelConfig(cell=cell, hidden=8, **model), run=run).settled()


def record(code="vanishing", window=None, median=0.4):
    layers = [lstm(keeps=keep(*[2.0] * 16), decay=0.5)]
    training = trained(window_steps=window, state_carried=window and True, median_norm=median)
    findings, not_examined = judge(layers, curve(1, gain=0.0), training, LAG)
    findings = [replace(findings[0], code=code), *findings[1:]]
    return DiagnosisRecord(
        "a test", "eval", 1.0, findings, not_examined, layers, LAG, None, training
    )  # fmt: skip


@pytest.mark.parametrize("code", SICK)
@pytest.mark.parametrize(
    ("cell", "kind"),
    [*((cell, "task") for cell in CELLS), ("rnn", "text"), ("lstm", "text"), ("gru", "text")],
)
def test_a_cure_changes_a_run_into_one_that_can_be_made(code, cell, kind, tmp_path):
    text = write_text(tmp_path, words=600) if kind == "text" else None
    before = config(cell, text=text)
    found = cures(before, code, record(code, window=8 if text else None))
    if code == "state_not_carried" or (code == "truncated" and text is None):
        # Texts carry their state, and whole sequences have no windows: nothing to do for a run.
        assert not [options for options in found if "state_carried" in options]
        return
    assert found
    for options in found:
        after = applied(before, options)
        assert after != applied(before, {})
        assert config_from(after.tables()) == after
        assert after.run.updates == options.get("updates", 40)
        assert after.run.budget is None
        assert after.run.seed == before.run.seed
        assert after.data == before.data
    for options in found if text is None else found[:1]:
        make_lesson(applied(before, options)).new_model()


@pytest.mark.parametrize(
    ("code", "cell", "first"),
    [
        ("vanishing", "rnn", {"cell": "gru", "init": ["chrono:64"]}),
        ("vanishing", "lstm", {"init": ["chrono:64"]}),
        ("forgetting", "gru", {"init": ["chrono:64"]}),
        ("exploding", "rnn", {"init": ["orthogonal"]}),
        ("exploding", "rnn_relu", {"init": ["orthogonal"]}),
        ("saturated", "lstm", {"init": ["orthogonal", "chrono:64"], "learning_rate": 4e-4}),
        ("dead_units", "rnn_relu", {"init": ["orthogonal"]}),
        ("rank_collapse", "rnn", {"init": ["orthogonal"]}),
        ("clipped_always", "lstm", {"clip_norm": 0.8}),
        ("unused_context", "lstm", {"updates": 120}),
        ("non_finite", "lstm", {"learning_rate": 4e-4}),
    ],
)
def test_the_first_cure_of_a_task(code, cell, first):
    assert cures(config(cell), code, record(code))[0] == first


def test_a_window_is_made_longer_than_the_lag(tmp_path):
    before = config("lstm", text=write_text(tmp_path))
    assert cures(before, "truncated", record(window=8))[0] == {"window_steps": 64}
    facts = facts_of([lstm()], replace(LAG, steps=9), trained(window_steps=8))
    assert remedies("truncated", facts)[0] == {"window_steps": 16}


def test_rectified_units_are_told_by_what_cannot_saturate():
    assert facts_of([layer(saturated_share=None)], LAG, None).is_relu
    assert not facts_of([layer()], LAG, None).is_relu
    assert not facts_of([lstm(saturated_share=None)], LAG, None).is_relu
    assert {"cell": "rnn", "init": ["orthogonal"]} in cures(
        config("rnn_relu"), "dead_units", record()
    )


def test_clipping_that_is_on_is_no_cure_again():
    before = config("rnn")
    assert all("clip_norm" not in options for options in cures(before, "exploding", record()))
    loose = replace(before, optimiser=OptimiserConfig(clip_norm=0.0))
    assert cures(loose, "exploding", record())[0]["clip_norm"] == 1.0


def test_what_a_new_start_does_not_replace_stays():
    before = config("lstm", init=("spectral:2,forget:3", "normal:0.1"))
    assert cures(before, "forgetting", record())[0] == {
        "init": ["spectral:2", "normal:0.1", "chrono:64"]
    }
    assert cures(before, "saturated", record())[0] == {"init": ["orthogonal", "chrono:64"]}
    plain = config("rnn", init=("spectral:2",))
    assert {"init": ["orthogonal"]} in cures(plain, "vanishing", record())


def test_a_start_that_the_cell_cannot_take_is_no_cure():
    before = config("indrnn")  # gateless, without a recurrent matrix
    assert all("orthogonal" not in o.get("init", ()) for o in cures(before, "vanishing", record()))


def test_a_cure_that_is_no_option_is_refused():
    finding = record().findings[0]
    assert cured_config(config("rnn"), finding) != config("rnn")
    with pytest.raises(ConfigError, match="state_carried is no option"):
        cured_config(config("rnn"), replace(finding, options={"state_carried": True}))
    with pytest.raises(ConfigError, match="no cure among the options"):
        cured_config(config("rnn"), replace(finding, options={}))


def test_the_findings_of_a_run_name_its_command_and_its_own_options():
    before = record()
    found = for_run(before, Path("runs/a b"), config("rnn"))
    assert found.findings[0].cure == "throughtime cure 'runs/a b'"
    assert found.findings[0].options == {"cell": "gru", "init": ["chrono:64"]}
    two = replace(
        before, findings=[before.findings[0], replace(before.findings[0], code="clipped_always")]
    )
    assert for_run(two, Path("r"), config("rnn")).findings[1].cure == (
        "throughtime train ... --clip-norm 0.8"
    )
    assert [f.cure for f in before.findings] == [record().findings[0].cure]


@pytest.mark.parametrize("code", SICK)
def test_the_lines_for_models_of_ones_own_are_python(code):
    for one in (layer(), layer(saturated_share=None), lstm()):
        facts = facts_of([one], LAG, trained(window_steps=8))
        for options in ({}, *remedies(code, facts)):
            compile(cure_in_python(code, options, "rnn", facts), "cure", "exec")
