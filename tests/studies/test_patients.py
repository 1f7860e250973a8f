"""The bench of the instrument: who is in it, and that a patient is what its name says."""

import json

import numpy as np
import pytest
import torch

from throughtime.cli.main import main
from throughtime.errors import ConfigError
from throughtime.records.diagnosis import CODES
from throughtime.studies.clinic import PLANTS, make
from throughtime.studies.diagnosis_bench import BenchRow, DiagnosisBench, treated
from throughtime.studies.drawn_patients import drawn
from throughtime.studies.exercises import Stream
from throughtime.studies.patients import FIXED


def test_every_disease_stands_in_two_cells_two_tasks_and_both_libraries():
    everyone = [*FIXED, *drawn(3)]
    assert len({p.name for p in FIXED}) == len(FIXED)
    for code in CODES:
        own = [p for p in everyone if p.disease == code]
        assert len({p.setting.cell for p in own}) >= 2, code
        assert len({p.exercise.name for p in own}) >= 2, code
        assert {p.library for p in own} == {"ours", "torch"}, code
    fixed = sum(p.disease != "healthy" for p in FIXED)
    assert fixed == sum(p.disease != "healthy" for p in drawn(3)) == 22
    assert len([p for p in everyone if p.disease == "healthy"]) == 10


def test_a_seed_draws_the_same_patients():
    assert [p.name for p in drawn(5)] == [p.name for p in drawn(5)]
    assert [p.setting for p in drawn(5)] == [p.setting for p in drawn(5)]
    assert [p.name for p in drawn(5)] != [p.name for p in drawn(6)]


@pytest.mark.parametrize("patient", FIXED, ids=lambda p: p.name)
def test_a_patient_is_built_and_its_fault_goes_with_the_cure(patient):
    plain = make(patient, patient.setting)
    again = make(patient, patient.setting)
    weights = torch.cat([w.flatten() for w in plain.recurrent.parameters()])
    assert torch.equal(weights, torch.cat([w.flatten() for w in again.recurrent.parameters()]))
    if patient.setting.plant is not None:
        assert patient.setting.plant in PLANTS
        cured = make(patient, patient.setting.cured({"init": ["orthogonal"]}))
        other = torch.cat([w.flatten() for w in cured.recurrent.parameters()])
        assert not torch.equal(weights, other)
        assert cured.recurrent.weight_hh_l0.abs().max() < 1.0 + 1e-5
    kind = "torch.nn" if patient.library == "torch" else "throughtime.nn"
    assert type(plain.recurrent).__module__.startswith(kind)


def test_a_cure_that_a_patient_cannot_take_is_refused():
    with pytest.raises(ConfigError, match="omega"):
        FIXED[0].setting.cured({"clip_norm": 1.0, "omega": 0.5})


@pytest.mark.parametrize("kind", ["average", "latest"])
def test_a_stream_is_what_its_equation_says(kind):
    found = Stream(kind, 5.0, rate=0.3).drawn(np.random.default_rng(0), 30, 2)
    level, kept = np.zeros(2), np.exp(-1 / 5)
    for x, y in zip(found.inputs[..., 0].numpy(), found.targets[..., 0].numpy(), strict=True):
        level = kept * level + x if kind == "average" else np.maximum(kept * level, x)
        assert np.allclose(level, y, atol=1e-6)


def test_a_patient_is_found_and_cured():
    patient = next(p for p in FIXED if p.name.startswith("forgetting/ours"))
    row = treated(patient, "fixed")
    assert row.is_right
    assert row.first == "forgetting"
    assert row.value < row.threshold
    assert row.options["init"][0].startswith("chrono:")
    assert row.is_cured
    assert "forgetting" not in row.codes_after


def row_of(disease, first, **values):
    return BenchRow(
        name="a", disease=disease, library="ours", cell="rnn", exercise="b", source="fixed",
        first=first, codes=[first], is_right=first == disease, value=1.0, threshold=1.0, unit="",
        score=1.0, **{"is_curable": disease != "healthy", **values},
    )  # fmt: skip


def test_the_counts_are_those_of_the_rows():
    rows = [
        row_of("vanishing", "vanishing", is_cured=True),
        row_of("vanishing", "healthy"),
        row_of("exploding", "exploding", is_cured=False),
        row_of("unused_context", "unused_context", is_curable=False),
        row_of("healthy", "healthy"),
        row_of("healthy", "vanishing"),
    ]
    counts = DiagnosisBench(rows).as_json()
    assert len(counts.pop("rows")) == 6
    assert counts == {
        "patients": 4, "right": 3, "controls": 2, "false_alarms": 1, "cured": 1, "curable": 3,
    }  # fmt: skip


def test_the_command(capsys):
    assert main(["bench", "diagnosis", "--only", "vanishing/torch", "--seed", "3", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["patients"] == len(found["rows"]) == 2
    assert {row["source"] for row in found["rows"]} == {"fixed", "drawn"}
    assert "vanishing/torch" in printed.err
    assert main(["bench", "diagnosis", "--only", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
