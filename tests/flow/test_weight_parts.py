"""Is BPTT's sum taken apart rightly? By autograd, each step with its own copy of W."""

import pytest
import torch
from passages import CELLS, CURED, Drawn

import throughtime.flow.weights as weights_of
from throughtime.engine import reference
from throughtime.flow.measure import measure
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["flow", torch.float64].bound
WAYS = {
    "whole": {},
    "lengths, resets": {
        "lengths": torch.tensor([9, 6, 4]),
        "reset": torch.tensor([0, 4, 2])[None] == torch.arange(9)[:, None],
    },
}
WITHOUT = {"indrnn", "mingru", "minlstm", "lru"}  # no recurrent matrix


def parts(drawn):
    """[t, k, weights]."""
    return torch.stack([torch.stack(row) for row in drawn.recurrent_parts()])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CELLS)
def test_every_part_is_that_of_its_own_copy(name, way):
    drawn = Drawn(CELLS[name], **WAYS[way])
    record, brute = measure(drawn.passage(), exponents=1), parts(drawn)
    if name in WITHOUT:
        assert (record.weight_by_lag, record.weight_map.t) == ([], [])
        return
    steps = range(len(record.weight_by_lag))
    by_lag = [sum(brute[t, t - lag] for t in steps if t >= lag).norm() for lag in steps]
    got = torch.tensor(record.weight_by_lag, dtype=torch.float64)
    assert error_to_largest(got, torch.stack(by_lag)) < BOUND
    logs = brute.norm(dim=-1).log10()
    for t, row in zip(record.weight_map.t, record.weight_map.log10, strict=True):
        for k, value in zip(record.weight_map.k, row, strict=True):
            if value is None:
                assert k > t or logs[t, k] < -6.0
            else:
                assert value == pytest.approx(logs[t, k].item(), abs=1e-4)


def test_the_parts_of_all_lags_and_steps_make_the_whole_gradient():
    """dE/dW = sum_t sum_k: so the parts are immediate derivatives, none of them counted twice."""
    drawn = Drawn(CELLS["lstm"])
    shared = [w.clone().requires_grad_() for w in drawn.inputs.weights]
    out = reference.sequence(drawn.job, drawn.inputs._replace(weights=tuple(shared)))[0]
    grad = torch.autograd.grad((out * drawn.out_weights).sum(), shared)
    recurrent = {s.name: g for s, g in zip(drawn.job.slots, grad, strict=True)}["weight_hh"]
    assert error_to_largest(parts(drawn).sum((0, 1)), recurrent.flatten()) < BOUND


def test_at_one_lag_the_error_of_many_steps_may_cancel():
    """The norm is that of the sum over t, not the sum of norms."""
    drawn = Drawn(CELLS["rnn"], T=6, B=1)
    record, brute = measure(drawn.passage(), exponents=1), parts(drawn)
    norms = sum(brute[t, t].norm() for t in range(6))
    assert record.weight_by_lag[0] < 0.9 * norms


@pytest.mark.parametrize("name", ["clockwork", "clockwork lstm"])
def test_elements_that_a_mask_holds_at_zero_do_not_count(name):
    drawn = Drawn(CURED[name])
    steps = drawn.passage().steps
    groups = weights_of._groups(steps)
    assert groups
    assert all(g.used is not None and not g.used.all() for g in groups)


def test_too_many_adjoints_are_thinned(monkeypatch):
    drawn = Drawn(CELLS["lstm"], T=9, B=3)
    steps = drawn.passage().steps
    assert weights_of.thinned(steps, range(9)) == list(range(8, -1, -1))
    monkeypatch.setattr(weights_of, "_MOST_NUMBERS", 16 * 3 * 27)
    assert weights_of.thinned(steps, range(9)) == [8, 6, 4, 2, 0]
    record, brute = measure(drawn.passage(), exponents=1), parts(drawn)
    want = sum(brute[t, t - 2] for t in (8, 6, 4, 2)).norm().item()
    assert record.weight_by_lag[2] == pytest.approx(want)
    assert record.weight_map.t == list(range(9))
