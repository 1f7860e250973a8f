"""Are gates, what they keep, saturation and dead units measured as defined? By hand."""

import math

import pytest
import torch
from passages import CELLS, Drawn

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.flow import seen
from throughtime.flow.gates import gate_measures, kept_shares, squashed
from throughtime.flow.measure import measure


def measured(cell, **drawn):
    made = Drawn(cell, **drawn)
    given = made.passage()
    return made, given.steps, gate_measures(given.steps, given.real)


def by_name(found):
    return {g.name: g for g in found.gates}


def time_constants(share):
    return (-1.0 / share.log()).tolist()


def test_the_gates_of_an_lstm():
    lengths = torch.tensor([20, 7, 0])
    _, steps, found = measured(CATALOGUE["lstm"], T=20, gain=3.0, lengths=lengths)
    real = torch.arange(20)[:, None] < lengths
    acts = {n: torch.sigmoid(steps.gates[n][real]) for n in "ifo"}
    acts["g"] = torch.tanh(steps.gates["g"][real])
    bounds = {"g": (-0.98, 0.98)}
    assert [g.name for g in found.gates] == ["i", "f", "g", "o"]
    assert [g.role for g in found.gates] == ["write", "keep", "other", "other"]
    near = {
        n: (a < bounds.get(n, (0.02,))[0]) | (a > bounds.get(n, (0, 0.98))[1])
        for n, a in acts.items()
    }
    for gate in found.gates:
        mean = acts[gate.name].mean(0)
        want = torch.quantile(mean, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        assert [gate.low, gate.median, gate.high] == pytest.approx(want.tolist())
        assert gate.saturated_share == pytest.approx(near[gate.name].double().mean().item())
        assert 0.0 < gate.saturated_share < 1.0
    all_near = torch.stack(list(near.values())).double().mean().item()
    assert found.saturated_share == pytest.approx(all_near)
    constants = by_name(found)["f"].time_constants_steps
    assert constants == pytest.approx(time_constants(acts["f"].mean(0)))
    assert all(g.time_constants_steps == [] for g in found.gates if g.name != "f")


@pytest.mark.parametrize("name", ["gru", "gru_notes"])
def test_of_a_gru_either_convention_tells_what_is_kept(name):
    _, steps, found = measured(CATALOGUE[name])
    z = torch.sigmoid(steps.gates["z"]).mean((0, 1))
    kept = z if name == "gru" else 1.0 - z
    gate = by_name(found)["z"]
    assert gate.role == "keep"
    assert gate.time_constants_steps == pytest.approx(time_constants(kept))
    assert gate.median == pytest.approx(z.quantile(0.5).item())  # of the gate itself


def forget(steps):
    return torch.sigmoid(steps.gates["f"]).mean((0, 1))


def zoned_out(m, f):
    return (m + (1.0 - m) * f).mean((0, 1))


# The cure, the gate that keeps, and what is kept of a state from how many steps back.
CURES = {
    "leaky rnn": (
        tt.leaky(tt.cells.rnn, rate=0.1),
        "h kept",
        1,
        lambda s: torch.full((4,), 0.9, dtype=torch.float64),
    ),
    "leaky lstm": (tt.leaky(tt.cells.lstm, rate=0.1), "f", 1, lambda s: 0.9 + 0.1 * forget(s)),
    "zoneout": (
        tt.zoneout(tt.cells.lstm, 0.3),
        "f",
        1,
        lambda s: zoned_out(s.inputs.extras[1], torch.sigmoid(s.gates["f"])),
    ),
    "dilate": (tt.dilate(tt.cells.lstm, 3), "f", 3, forget),
    "remove": (tt.remove(tt.cells.lstm, [2]), "f", 2, forget),
    "clockwork": (
        tt.clockwork(tt.cells.rnn, [1, 2, 4, 8]),
        "h kept",
        1,
        lambda s: torch.tensor([0.0, 1 / 2, 3 / 4, 7 / 8]),
    ),
}


@pytest.mark.parametrize("name", CURES)
def test_what_cures_keep_counts(name):
    cell, gate, lag, share = CURES[name]
    _, steps, found = measured(cell, T=16)
    want = [lag * v for v in time_constants(share(steps).double())]
    got = by_name(found)[gate].time_constants_steps
    assert by_name(found)[gate].role == "keep"
    assert got == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", ["rnn", "indrnn", "lru"])
def test_what_is_kept_inside_a_nonlinearity_or_turned_has_no_time_constant(name):
    assert kept_shares(CATALOGUE[name]) == {}


def test_what_is_handed_to_another_state_is_not_kept():
    swapped = tt.cell("u v", name="swapped")(
        lambda x, u, v: (0.5 * v, tt.tanh(tt.affine("a", x, u)))
    )
    assert kept_shares(swapped) == {}


def test_all_is_the_same_however_many_steps_are_looked_at_at_once(monkeypatch):
    given = Drawn(CATALOGUE["mgu"], T=12).passage()
    before = gate_measures(given.steps, given.real)
    monkeypatch.setattr(seen, "_MOST_NUMBERS", 5 * 3 * 4)
    after = gate_measures(given.steps, given.real)
    assert after.saturated_share == before.saturated_share
    for got, want in zip(after.gates, before.gates, strict=True):
        assert got.median == pytest.approx(want.median)
        assert got.time_constants_steps == pytest.approx(want.time_constants_steps)


@pytest.mark.parametrize("name", CELLS)
def test_every_gate_has_a_name_of_the_cell(name):
    cell = CELLS[name]
    known = {*cell.gates, *(p.name for p in cell.params)}
    names = [gate for gate, _ in squashed(cell)]
    assert set(names) <= known
    assert len(names) == len(set(names))


def test_a_squashed_state_is_no_gate_but_a_squashed_pre_activation_is():
    assert {gate for gate, _ in squashed(CATALOGUE["lstm"])} == set("ifgo")  # tanh(c) is none
    made, _, found = measured(CATALOGUE["rnn_notes"], gain=4.0)
    near = (torch.tanh(made.every[0]).abs() >= 0.98).double().mean().item()
    assert 0.0 < near == pytest.approx(found.saturated_share)


def test_where_nothing_is_bounded_no_share_is_told():
    _, _, found = measured(CATALOGUE["rnn_relu"])
    assert (found.gates, found.saturated_share) == ([], None)


def test_units_that_never_change_are_dead():
    made = Drawn(CATALOGUE["rnn_relu"], T=6, lengths=torch.tensor([6, 6, 3]))
    ih, hh, bias = made.inputs.weights
    bias = bias.clone()
    bias[:3] = -100.0  # never above zero
    made.inputs = made.inputs._replace(weights=(ih, hh, bias))
    assert measure(made.passage(), exponents=1).dead_share == 0.75
    made.inputs = made.inputs._replace(weights=(ih.abs(), hh.abs(), bias.abs()))
    made.inputs = made.inputs._replace(x=made.inputs.x.abs(), states=(0.0 * made.inputs.states[0],))
    assert measure(made.passage(), exponents=1).dead_share == 0.0


def test_of_one_step_nothing_is_said_of_dead_units():
    assert measured(CATALOGUE["rnn"], T=1, B=1)[2].dead_share == 0.0


def test_a_unit_that_keeps_everything_has_no_time_constant():
    made = Drawn(CATALOGUE["lstm"], T=4)
    weights = [w.clone() for w in made.inputs.weights]
    weights[2][4:8] = 1000.0  # sigmoid is 1 to the last bit
    made.inputs = made.inputs._replace(weights=tuple(weights))
    record = measure(made.passage(), exponents=1)
    forget_gate = next(g for g in record.gates if g.name == "f")
    assert forget_gate.time_constants_steps == [None] * 4
    assert forget_gate.saturated_share == 1.0
    assert not math.isnan(record.saturated_share)
