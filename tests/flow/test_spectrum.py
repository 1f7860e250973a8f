"""Are Lyapunov exponents and long products right? Known answers, published maps, determinants."""

import math

import pytest
import torch
from passages import CELLS, Drawn, step_jacobian

import throughtime as tt
from throughtime.engine import reference
from throughtime.errors import ConfigError
from throughtime.flow.measure import measure
from throughtime.flow.spectrum import companion, lyapunov, spectrum_of
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["flow", torch.float64].bound


def with_weights(drawn, **given):
    """The call with other weights, by the beginning of their names, and its states run again."""
    weights = [
        next((v for name, v in given.items() if slot.name == name), w)
        for slot, w in zip(drawn.job.slots, drawn.inputs.weights, strict=True)
    ]
    drawn.inputs = drawn.inputs._replace(weights=tuple(w.to(drawn.inputs.x) for w in weights))
    found = reference.sequence(drawn.job, drawn.inputs)
    drawn.every = list(found[1 + len(drawn.inputs.states) :])
    return drawn


def exponents(drawn, count=None, rows=1000):
    return spectrum_of(drawn.passage(), count, rows, 0).exponents


LINEAR = tt.cell("h", name="linear")(lambda x, h: tt.affine("a", x, h, bias=False))


def orthogonal(n):
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q


def test_a_linear_cell_has_the_logarithms_of_its_eigenvalues():
    values = torch.tensor([0.95, -0.7, 0.5, 0.3, -0.1], dtype=torch.float64)
    P = torch.randn(5, 5, dtype=torch.float64)
    W = P @ torch.diag(values) @ torch.linalg.inv(P)
    off = []
    for T in (200, 400, 800):
        torch.manual_seed(1)
        found = exponents(with_weights(Drawn(LINEAR, T=T, B=2, hidden=5), weight_hh=W))
        off.append((found - values.abs().log()).abs().max().item())
    assert off[0] < 10.0 / 200
    assert off[1:] == pytest.approx([off[0] / 2.0, off[0] / 4.0], rel=1e-2)  # the start's share


@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_an_orthogonal_matrix_has_one_exponent(gain):
    drawn = with_weights(Drawn(LINEAR, T=50, hidden=5), weight_hh=gain * orthogonal(5))
    assert (exponents(drawn) - math.log(gain)).abs().max() < BOUND


def test_a_leaky_unit_by_itself_has_its_time_constant():
    cell = tt.leaky(tt.cells.rnn, retain=0.9)
    drawn = with_weights(Drawn(cell, T=50, hidden=4), weight_hh=torch.zeros(4, 4))
    assert (exponents(drawn) - math.log(0.9)).abs().max() < BOUND


def test_a_gru_that_keeps_everything_has_zeros():
    drawn = Drawn(tt.cells.gru, T=50, hidden=4)
    hh, bias = (w.clone() for w in drawn.inputs.weights[1:3])
    hh[4:8], bias[4:8] = 0.0, 60.0  # z = 1 to the last bit
    ih = drawn.inputs.weights[0].clone()
    ih[4:8] = 0.0
    drawn = with_weights(drawn, weight_ih=ih, weight_hh=hh, bias=bias)
    assert exponents(drawn).abs().max() < BOUND


def test_an_irnn_whose_units_are_all_active_has_zeros():
    drawn = Drawn(tt.cells.rnn_relu, T=50, hidden=4)
    drawn.inputs = drawn.inputs._replace(
        x=drawn.inputs.x.abs(), states=(drawn.inputs.states[0].abs(),)
    )
    ih, _, bias = drawn.inputs.weights
    drawn = with_weights(drawn, weight_ih=ih.abs(), weight_hh=torch.eye(4), bias=bias.abs())
    assert exponents(drawn).abs().max() < BOUND


@pytest.mark.parametrize("name", CELLS)
def test_all_exponents_sum_to_the_mean_log_determinant(name):
    drawn = Drawn(CELLS[name], T=6, B=2)
    given = drawn.passage()
    pull, units = companion(given.steps, given.seeds[0])
    unit = torch.eye(units, dtype=torch.float64)[:, None].expand(units, 2, units)
    dets = torch.stack([torch.linalg.slogdet(pull(t, unit).transpose(0, 1))[1] for t in range(6)])
    found = exponents(drawn)
    assert found.shape == (2, units)
    assert torch.equal(found, found.sort(-1, descending=True).values)
    if dets.isfinite().all():
        assert error_to_largest(found.sum(-1), dets.mean(0)) < BOUND
    else:
        assert found.sum(-1).isinf().all()


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_notes", "remove"])
def test_the_companion_is_the_jacobian_of_the_whole_state(name):
    drawn = Drawn(CELLS[name], T=2, B=2)
    given = drawn.passage()
    pull, units = companion(given.steps, given.seeds[0])
    unit = torch.eye(units, dtype=torch.float64)[:, None].expand(units, 2, units)
    got = pull(1, unit).transpose(0, 1)
    lags = drawn.job.cell.lags()
    places = [
        (s, lag) for s in range(len(lags)) for lag in range(1, lags[given.steps.states[s]] + 1)
    ]
    widths = [given.steps.widths[s] for s, _ in places]
    jacobian, starts = step_jacobian(drawn, 1), [sum(widths[:i]) for i in range(len(widths))]
    want = torch.zeros_like(got)
    for row, (new, j), h in zip(starts, places, widths, strict=True):
        for column, (past, lag), w in zip(starts, places, widths, strict=True):
            if j == 1:
                want[:, row : row + h, column : column + w] = jacobian[new, past, lag]
            elif new == past and lag == j - 1:
                want[:, row : row + h, column : column + w] = torch.eye(h)
    assert error_to_largest(got, want) < BOUND


@pytest.mark.parametrize("kind", ["", "_sigmoid"])
def test_both_conventions_of_the_rnn_have_the_same_exponents_in_the_limit(kind):
    """Finite products differ by their ends alone, so exponents by O(1/T)."""
    f = {"": torch.tanh, "_sigmoid": torch.sigmoid}[kind]
    off = []
    for T in (50, 100, 200, 400):
        torch.manual_seed(1)
        notes = Drawn(CELLS[f"rnn_notes{kind}"], T=T, B=200, hidden=3, gain=2.0)
        rnn = Drawn(CELLS[f"rnn{kind}"], T=T, B=200, hidden=3)
        ih, hh = notes.inputs.weights
        rnn.inputs = notes.inputs._replace(
            states=(f(notes.inputs.states[0]),), weights=(ih, hh, torch.zeros(3))
        )
        rnn = with_weights(rnn)
        assert error_to_largest(rnn.every[0], f(notes.every[0])) < BOUND
        off.append((exponents(rnn) - exponents(notes)).abs().median().item())
    assert all(off[i] == pytest.approx(2.0 * off[i + 1], rel=0.25) for i in range(3))


def run_map(step, states, T, B):
    """Exponents of a map, each row from another point; its transient left out."""
    drawn = Drawn(tt.cell(states, name="map")(step), T=T + 100, B=B, hidden=1)
    start = tuple(0.05 + 0.1 * torch.rand_like(s) for s in drawn.inputs.states)
    drawn.inputs = drawn.inputs._replace(states=start)
    given = with_weights(drawn).passage()
    pull, units = companion(given.steps, given.seeds[0])
    after = (torch.arange(T + 100) >= 100)[:, None].expand(-1, B)
    return lyapunov(pull, units, T + 100, rows=B, counted=after).exponents


def henon(x, u, v):
    return 1.0 - 1.4 * u * u + v, 0.3 * u


def delayed_henon(x, u):
    return 1.0 - 1.4 * u * u + 0.3 * tt.ago(u, 2)


def lozi(x, u, v):
    return 1.0 - 1.7 * tt.absolute(u) + v, 0.5 * u


def logistic(x, u):
    return 4.0 * u * (1.0 - u)


# Sprott 2003, Chaos and Time-Series Analysis, appendix A; the logistic map at 4 is exact.
MAPS = {
    "henon": (henon, "u v", [0.4192, -1.6232], math.log(0.3)),
    "henon with a delay": (delayed_henon, "u", [0.4192, -1.6232], math.log(0.3)),
    "lozi": (lozi, "u v", [0.4702, -1.1634], math.log(0.5)),
    "logistic": (logistic, "u", [math.log(2.0)], None),
}


@pytest.mark.parametrize("name", MAPS)
def test_published_maps(name):
    step, states, want, total = MAPS[name]
    found = run_map(step, states, T=2000, B=150)
    error = 3.0 * (found.std(0) / 150**0.5).max().item()  # of the mean over rows
    assert error < 3e-3
    assert found.mean(0).tolist() == pytest.approx(want, abs=error + 0.7 / 2000)  # the start's
    if total is not None:
        assert (found.sum(-1) - total).abs().max() < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_published_maps_to_three_digits(name):
    step, states, want, _ = MAPS[name]
    found = run_map(step, states, T=4000, B=1500)
    assert found.mean(0).tolist() == pytest.approx(want, abs=5e-4)


def test_maps_need_no_cell():
    """The doubling of two coordinates at different rates, as bare Jacobians."""
    J = torch.diag(torch.tensor([3.0, 0.25], dtype=torch.float64))
    found = lyapunov(lambda t, q: q @ J, 2, 400, rows=2)
    assert found.mean() == pytest.approx([math.log(3.0), math.log(0.25)], abs=0.02)
    assert sum(found.mean()) == pytest.approx(math.log(0.75))
    leading = lyapunov(lambda t, q: q @ J, 2, 400, count=1)
    assert leading.mean() == pytest.approx([math.log(3.0)], abs=0.02)


def test_products_have_the_singular_values_of_the_product():
    values = torch.tensor([1.0, 0.8, 0.5, 0.1], dtype=torch.float64)
    Q = orthogonal(4)
    J = Q @ torch.diag(values) @ Q.T
    found = lyapunov(lambda t, q: q @ J, 4, 600)
    assert found.lags == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    exact = [lag * math.log(10.0) for lag in found.lags]
    assert found.log_condition[:4] == pytest.approx(exact[:4], rel=1e-6)
    assert found.log_condition[4:] == pytest.approx(exact[4:], abs=5.0)  # by R_jj, past rounding
    assert found.directions == [int((values**lag > 0.01).sum()) for lag in found.lags]


def test_products_are_multiplied_in_the_order_of_backpropagation():
    J = torch.randn(8, 5, 5, dtype=torch.float64)
    found = lyapunov(lambda t, q: q @ J[t], 5, 8)
    product, conditions, strong = torch.eye(5, dtype=torch.float64), [], []
    for lag in range(1, 9):
        product = product @ J[8 - lag]
        values = torch.linalg.svdvals(product)
        conditions.append(math.log(values[0] / values[-1]))
        strong.append(int((values > 0.01 * values[0]).sum()))
    powers = [0, 1, 3, 7]
    assert found.log_condition == pytest.approx([conditions[i] for i in powers], rel=1e-6)
    assert found.directions == [strong[i] for i in powers]


def test_a_matrix_without_an_inverse_loses_directions():
    J = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    found = lyapunov(lambda t, q: q @ J, 2, 8)
    assert found.exponents[0, 0] == pytest.approx(math.log(2.0), abs=0.2)
    assert found.exponents[0, 1] < -4.0
    assert found.directions == [1, 1, 1, 1]


def test_padding_and_what_lies_behind_a_reset_do_not_count():
    reset = torch.zeros(12, 2, dtype=torch.bool)
    reset[5, 0] = True
    drawn = Drawn(CELLS["lstm"], T=12, B=2, lengths=torch.tensor([12, 7]), reset=reset)
    given = drawn.passage()
    pull, units = companion(given.steps, given.seeds[0])
    unit = torch.eye(units, dtype=torch.float64)[:, None].expand(units, 2, units)
    dets = torch.stack([torch.linalg.slogdet(pull(t, unit).transpose(0, 1))[1] for t in range(12)])
    first = dets[[t for t in range(12) if t != 5], 0].mean()
    want = torch.stack([first, dets[:7, 1].mean()])
    found = spectrum_of(given, None, 2, 0)
    assert error_to_largest(found.exponents.sum(-1), want) < BOUND
    assert found.lags == [1, 2, 4]  # of at most seven steps, 5 and 6 and 7
    assert exponents(drawn, rows=1).shape[0] == 1, "the longest row"
    assert error_to_largest(exponents(drawn, rows=1).sum(-1), want[:1]) < BOUND


def test_rows_without_a_step_are_left_out_of_the_mean():
    counted = torch.tensor([[True, False]] * 5)
    found = lyapunov(lambda t, q: 2.0 * q, 3, 5, rows=2, counted=counted)
    assert found.exponents[1].isnan().all()
    assert found.mean() == pytest.approx([math.log(2.0)] * 3)
    assert found.spread() == [0.0] * 3


def test_float32_carries_a_thousand_steps():
    for gain in (1e-3, 30.0):
        W = gain * orthogonal(3)
        drawn = with_weights(Drawn(LINEAR, T=4, hidden=3, dtype=torch.float32), weight_hh=W)
        steps = drawn.passage().steps
        found = lyapunov(
            lambda t, q, s=steps: s.pulled(0, [q]).past[0, 1], 3, 1000, rows=3, dtype=torch.float32
        )
        assert (found.exponents - math.log(gain)).abs().max() < 1e-4
        assert found.directions == [3] * 10
        assert max(found.log_condition) < 1e-3


def test_the_record_has_means_and_spreads_over_rows():
    drawn = Drawn(CELLS["gru"], T=30, B=6, hidden=8)
    record = measure(drawn.passage(), exponents=5)
    found = exponents(drawn, count=5, rows=4)
    assert record.lyapunov == pytest.approx(found.mean(0).tolist())
    assert record.lyapunov_spread == pytest.approx(found.std(0, correction=0).tolist())
    assert len(measure(drawn.passage(), exponents="all").lyapunov) == 8
    for wrong in (0, True, "some", 2.0):
        with pytest.raises(ConfigError, match="exponents is"):
            measure(drawn.passage(), exponents=wrong)
