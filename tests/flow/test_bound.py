"""Is no error ever above the bound? Exact for plain recurrences, else in ten thousand cases."""

import math

import pytest
import torch
from passages import CELLS, Drawn

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.flow import seen
from throughtime.flow.backward import arrivals
from throughtime.flow.bound import bound_factor, step_bounds
from throughtime.flow.lags import Lags
from throughtime.flow.measure import measure

ROUNDING = 1.0 + 1e-12
SLOPES = {"": 1.0, "_relu": 1.0, "_sigmoid": 0.25}


@pytest.mark.parametrize("kind", SLOPES)
@pytest.mark.parametrize("convention", ["rnn", "rnn_notes"])
def test_of_a_plain_recurrence_it_is_the_largest_singular_value_times_the_steepest_slope(
    convention, kind
):
    drawn = Drawn(CATALOGUE[convention + kind], hidden=6)
    record = measure(drawn.passage(), exponents=2)
    U = drawn.inputs.weights[1]
    beta_w = torch.linalg.matrix_norm(U, 2).item()
    assert record.beta_w == beta_w
    assert record.bound_factor == beta_w * SLOPES[kind]
    assert record.spectral_radius == pytest.approx(torch.linalg.eigvals(U).abs().max().item())
    start = record.error_by_lag[0]
    want = [start * (beta_w * SLOPES[kind]) ** lag for lag in range(len(record.error_by_lag))]
    assert record.bound_by_lag == pytest.approx(want, rel=1e-12)
    limits = zip(record.error_by_lag, record.bound_by_lag, strict=True)
    assert all(error <= limit * ROUNDING for error, limit in limits)


@pytest.mark.parametrize("name", ["lstm", "gru", "skip", "mgu", "lru"])
def test_the_matrix_is_told_only_where_there_is_one(name):
    record = measure(Drawn(CELLS[name]).passage(), exponents=2)
    assert (record.beta_w, record.spectral_radius) == (None, None)
    assert record.bound_factor is not None


ROUNDS, STEPS, ROWS = 4, 10, 8


@pytest.mark.parametrize("name", CELLS)
def test_ten_thousand_cases_stay_below(name):
    """Every step of every row is a case: 4 networks, 10 steps, 8 rows, for each of some forty."""
    cell = CELLS[name]
    assert len(CELLS) * ROUNDS * STEPS * ROWS > 10_000
    for gain in (0.3, 1.0, 2.0, 5.0)[:ROUNDS]:
        drawn = Drawn(cell, T=STEPS, B=ROWS, hidden=4, gain=gain)
        given = drawn.passage()
        check_steps(given)
        check_lags(given)


def check_steps(given):
    """Each block of each step's Jacobian."""
    steps, bounds = given.steps, step_bounds(given.steps, given.real)
    for new, (name, width) in enumerate(zip(steps.states, steps.widths, strict=True)):
        unit = torch.eye(width, dtype=torch.float64)[:, None].expand(width, ROWS, width)
        zeros = [unit.new_zeros(width, ROWS, w) for w in steps.widths]
        seeds = [unit if i == new else z for i, z in enumerate(zeros)]
        for t in range(STEPS):
            for (past, lag), block in steps.pulled(t, seeds).past.items():
                norms = torch.linalg.matrix_norm(block.transpose(0, 1), 2)
                limit = bounds[name].get((steps.states[past], lag), 0.0)
                assert norms.max() <= limit * ROUNDING, (name, past, lag)


def check_lags(given):
    """Errors of all steps at all lags, on the scale of their own start."""
    rho, starts = bound_factor(given.steps, given.real), list(range(STEPS))
    lags = Lags(given, starts)
    for arrival in arrivals(given, starts):
        lags.add(arrival)
    for m, t in enumerate(lags.starts):
        logs = lags.by_step()[: t + 1, m]  # from k = 0 to t; NaN in rows without an error at t
        lag = t - torch.arange(t + 1, dtype=torch.float64).unsqueeze(-1)
        assert not (logs > logs[-1] + lag * math.log(rho) + 1e-9).any()


SLOPED = {
    "exp": tt.exp,
    "log": tt.log,
    "sqrt": tt.sqrt,
    "square": lambda v: v**2,
    "cube": lambda v: v**3,
    "inverse": lambda v: v**-1,
    "inverse square": lambda v: v**-2,
    "quotient": lambda v: 2.0 / v,
    "tripled": lambda v: 3.0 * v,
    "a third": lambda v: v / 3.0,
    "first power": lambda v: v**1,
    "no power": lambda v: v**0,
    "sign": tt.sign,
    "negative": lambda v: -v,
    "absolute": tt.absolute,
    "wide clamp": lambda v: tt.clamp(v, -9.0, 9.0),
}


@pytest.mark.parametrize("name", SLOPED)
def test_of_one_operation_it_is_the_steepest_slope_of_the_passage(name):
    drawn = Drawn(tt.cell("h", name="f")(lambda x, h: SLOPED[name](h)), T=1)
    start = drawn.inputs.states[0].abs() + 0.2
    drawn.inputs = drawn.inputs._replace(states=(start,))
    given = drawn.passage()
    ones = torch.ones(1, 3, 4, dtype=torch.float64)
    slopes = given.steps.pulled(0, [ones]).past.get((0, 1), 0.0 * ones)
    found = step_bounds(given.steps, given.real)["h"].get(("h", 1), 0.0)
    assert found == pytest.approx(slopes.abs().max().item())


def test_a_sum_over_units_and_its_broadcast_count_with_their_norms():
    """The Jacobian is of ones, of norm w; sqrt(w) each for the sum and for the broadcast."""
    drawn = Drawn(tt.cell("h", name="f")(lambda x, h: tt.row_sum(h)), T=1)
    given = drawn.passage()
    assert step_bounds(given.steps, given.real)["h"]["h", 1] == pytest.approx(4.0)
    drawn = Drawn(tt.cell("h", name="f")(lambda x, h: 2.0 * h + tt.row_sum(h)), T=1)
    given = drawn.passage()
    assert step_bounds(given.steps, given.real)["h"]["h", 1] == pytest.approx(6.0)


def test_it_is_the_same_however_many_steps_are_looked_at_at_once(monkeypatch):
    given = Drawn(CATALOGUE["gru"], T=12).passage()
    before = bound_factor(given.steps, given.real)
    monkeypatch.setattr(seen, "_MOST_NUMBERS", 5 * 3 * 4)
    assert bound_factor(given.steps, given.real) == before


def test_below_one_it_proves_that_errors_vanish():
    drawn = Drawn(CATALOGUE["rnn_sigmoid"], T=30, gain=0.7)
    record = measure(drawn.passage(), exponents=2)
    assert record.bound_factor < 1.0
    assert record.error_by_lag[20] < record.error_by_lag[0] * record.bound_factor**20


@pytest.mark.parametrize("d", [2, 4])
def test_a_dilated_cell_is_bounded_by_the_root(d):
    """The same weights, a d-th of the steps: so the bound a step is the d-th root."""
    drawn = Drawn(tt.dilate(CATALOGUE["rnn"], d), T=12)
    beta_w = torch.linalg.matrix_norm(drawn.inputs.weights[1], 2).item()
    found = bound_factor(drawn.passage().steps, drawn.passage().real)
    assert found == pytest.approx(beta_w ** (1.0 / d))


def test_with_two_delays_it_solves_the_equation_of_both():
    drawn = Drawn(tt.skip(CATALOGUE["rnn"], [3]), T=12)
    steps = drawn.passage().steps
    norms = [torch.linalg.matrix_norm(steps.matrices["a", i], 2).item() for i in (1, 2)]
    rho = bound_factor(steps, drawn.passage().real)
    assert norms[0] / rho + norms[1] / rho**3 == pytest.approx(1.0)


def test_where_a_quotient_may_be_infinite_there_is_no_bound():
    @tt.cell("h")
    def inverse(x, h):
        return tt.affine("a", x) / h

    drawn = Drawn(inverse, T=3)
    start = torch.zeros_like(drawn.inputs.states[0])
    drawn.inputs = drawn.inputs._replace(states=(start,))
    record = measure(drawn.passage(), exponents=2)
    assert record.bound_factor is None
    assert set(record.bound_by_lag) == {None}


def test_padding_is_not_looked_at():
    lengths = torch.tensor([4, 9])
    drawn = Drawn(CATALOGUE["gru"], T=9, B=2, lengths=lengths)
    before = bound_factor(drawn.passage().steps, drawn.passage().real)
    drawn.every = [torch.where(drawn.passage().real[..., None], s, 1e6) for s in drawn.every]
    assert bound_factor(drawn.passage().steps, drawn.passage().real) == before
