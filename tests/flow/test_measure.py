"""Is the record of a layer whole, whatever the layer? And plain enough for JSON?"""

import json
from dataclasses import fields, replace

import pytest
import torch
from passages import CELLS, Drawn

from throughtime.cells import CATALOGUE
from throughtime.flow.linear import Pulled
from throughtime.flow.measure import measure
from throughtime.records.diagnosis import DiagnosisRecord, LayerRecord, diagnosis_from


def roundtrip(record):
    whole = DiagnosisRecord("t", "eval", 1.0, [], {}, [record])
    return diagnosis_from(json.loads(whole.to_json())).layers[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_has_a_whole_record(name, dtype):
    record = measure(Drawn(CELLS[name], dtype=dtype).passage(), exponents=3)
    assert isinstance(record, LayerRecord)
    lags = len(record.error_by_lag)
    assert lags == 9
    assert {len(record.error_low), len(record.error_high), len(record.bound_by_lag)} == {lags}
    assert {len(v) for v in record.error_by_state.values()} == {lags}
    assert len(record.weight_by_lag) in {0, lags}
    assert len(record.lyapunov) == len(record.lyapunov_spread) == min(3, record.units)
    assert len(record.condition_lags) == len(record.condition_log10) == 4
    assert len(record.directions_by_lag) == 4
    for f in fields(LayerRecord):
        plain(getattr(record, f.name))
    assert roundtrip(record).error_by_lag == record.error_by_lag


def plain(value):
    if isinstance(value, list):
        for part in value:
            plain(part)
    else:
        assert not isinstance(value, torch.Tensor)


class Bare:
    """Steps that tell nothing of gates: what a plain function is to be diagnosed as."""

    def __init__(self, steps):
        self.states, self.widths, self.depth = steps.states, steps.widths, steps.depth
        self.count, self.rows, self._steps = steps.count, steps.rows, steps

    def pulled(self, t, adjoints):
        return Pulled(self._steps.pulled(t, adjoints).past, {})


@pytest.mark.parametrize("name", ["lstm", "remove"])
def test_of_steps_without_gates_all_is_measured_that_needs_none(name):
    given = Drawn(CELLS[name], B=5, lengths=torch.tensor([9, 9, 3, 9, 9])).passage()
    known, bare = measure(given), measure(replace(given, steps=Bare(given.steps)))
    assert (bare.weight_by_lag, bare.gates, bare.bound_factor) == ([], [], None)
    assert bare.error_by_lag == known.error_by_lag
    assert bare.lyapunov == pytest.approx(known.lyapunov)
    assert bare.condition_log10 == pytest.approx(known.condition_log10)


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e30])
def test_a_model_that_is_not_finite_has_a_record(value):
    made = Drawn(CATALOGUE["lstm"], dtype=torch.float32)
    weights = [w.clone() for w in made.inputs.weights]
    weights[1][0, 0] = value
    made.inputs = made.inputs._replace(weights=tuple(weights))
    roundtrip(measure(made.passage(), exponents=3))


@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 4), (2, 1), (0, 2), (3, 0)])
def test_the_smallest_passages_have_records(T, B):
    record = measure(Drawn(CATALOGUE["lstm"], T=T, B=B).passage(), exponents=3)
    roundtrip(record)
    assert (record.steps, record.rows) == (T, B)


def test_the_same_passage_has_the_same_record():
    made = Drawn(CATALOGUE["gru"])
    assert measure(made.passage(), exponents=2) == measure(made.passage(), exponents=2)
    other = measure(made.passage(), exponents=2, seed=1)
    assert other.lyapunov != measure(made.passage(), exponents=2).lyapunov
    assert other.error_by_lag == measure(made.passage(), exponents=2).error_by_lag


def test_no_gradient_is_recorded():
    made = Drawn(CATALOGUE["gru"])
    made.inputs = made.inputs._replace(
        weights=tuple(w.requires_grad_() for w in made.inputs.weights)
    )
    measure(made.passage(), exponents=2)
    assert all(w.grad is None for w in made.inputs.weights)
