"""Are errors by lag those of brute force? Probes in the reference, autograd, no Jacobian."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from passages import CELLS, Drawn

import throughtime as tt
from throughtime.flow.backward import arrivals
from throughtime.flow.lags import Lags, chosen_steps, log_quantile, time_map
from throughtime.flow.measure import measure
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["flow", torch.float64].bound
WAYS = {
    "whole": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": torch.tensor([9, 5, 0])},
    "reverse, lengths, resets": {
        "reverse": True,
        "lengths": torch.tensor([7, 9, 4]),
        "reset": torch.tensor([0, 4, 6])[None] == torch.arange(9)[:, None],
    },
    "resets": {"reset": (torch.arange(9)[:, None] - torch.tensor([0, 1, 2])) % 4 == 3},
}


def followed(drawn, at=32):
    given = drawn.passage()
    starts = chosen_steps(given, at)
    lags = Lags(given, starts)
    for arrival in arrivals(given, starts):
        lags.add(arrival)
    return given, starts, lags


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CELLS)
def test_every_error_is_that_of_brute_force(name, way):
    drawn = Drawn(CELLS[name], **WAYS[way])
    _, starts, lags = followed(drawn)
    brute = torch.cat(drawn.errors(), -1).norm(dim=-1)  # [t, k, B]
    got = lags.by_step().exp().nan_to_num(0.0).permute(1, 0, 2)
    assert error_to_largest(got, brute[lags.starts, : got.shape[1]]) < BOUND
    others = [t for t in range(9) if t not in starts]
    assert not brute[others].any(), "an error was not followed"


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_notes", "remove", "dilate"])
def test_the_curve_of_an_error_at_the_last_step_is_that_of_brute_force(name):
    drawn = Drawn(CELLS[name], T=40, B=5).only_at(39)
    record = measure(drawn.passage(), exponents=2)
    states = [e[39].norm(dim=-1).flip(0) for e in drawn.errors()]  # [L, B] each
    norms = torch.stack(states).norm(dim=0)
    entered = norms[0].quantile(0.5)
    shares = norms / norms[0]
    for got, q in ((record.error_by_lag, 0.5), (record.error_low, 0.1), (record.error_high, 0.9)):
        want = entered * shares.quantile(q, dim=-1)
        assert error_to_largest(torch.tensor(got, dtype=torch.float64), want) < BOUND
    for state, by_itself in zip(record.states, states, strict=True):
        want = entered * (by_itself / norms[0]).quantile(0.5, dim=-1)
        got = torch.tensor(record.error_by_state[state], dtype=torch.float64)
        assert error_to_largest(got, want) < BOUND
    median = shares.quantile(0.5, dim=-1)
    assert record.horizon_steps == int((median >= 0.01).nonzero().max())
    last = int((median > 0.0).nonzero().max())
    assert record.growth_per_step == pytest.approx(median[last].item() ** (1.0 / last), rel=BOUND)
    squares = [(s[1:] / norms[1:]) ** 2 for s in states]
    want = [s.nanmean(-1).nanmean().item() for s in squares]
    assert list(record.path_share.values()) == pytest.approx(want, rel=BOUND)
    assert sum(record.path_share.values()) == pytest.approx(1.0)


def test_the_map_holds_medians_over_rows():
    drawn = Drawn(CELLS["lstm"], T=12, B=5)
    _, starts, lags = followed(drawn, at=4)
    assert starts == [0, 4, 7, 11]
    found = time_map(starts, lags.by_step())
    brute = torch.cat(drawn.errors(), -1).norm(dim=-1).quantile(0.5, dim=-1).log10()
    assert found.t == starts
    assert found.k == list(range(12))
    for t, row in zip(found.t, found.log10, strict=True):
        assert row[: t + 1] == pytest.approx(brute[t, : t + 1].tolist(), abs=1e-4)
        assert row[t + 1 :] == [None] * (11 - t)


def test_a_delay_that_was_removed_carries_nothing():
    record = measure(Drawn(CELLS["dilate"], T=12).only_at(11).passage(), exponents=2)
    assert [lag for lag, e in enumerate(record.error_by_lag) if e > 0.0] == [0, 3, 6, 9]


def test_steps_are_chosen_among_those_at_which_an_error_enters():
    given = Drawn(CELLS["rnn"], T=9).only_at(1, 3, 6).passage()
    assert chosen_steps(given, 32) == [1, 3, 6]
    assert chosen_steps(given, 2) == [1, 6]
    assert chosen_steps(given, 1) == [6]
    assert chosen_steps(Drawn(CELLS["rnn"], T=100, B=1).passage(), 32)[::31] == [0, 99]


def test_a_row_that_ends_earlier_has_its_own_lag_0():
    drawn = Drawn(CELLS["rnn"], T=9, B=2, lengths=torch.tensor([9, 4])).only_at(3, 8)
    drawn.out_weights[3, 0] = 0.0  # each row has its error at its own last step
    record = measure(drawn.passage(), exponents=2)
    norms = [e.norm() for e in (drawn.errors()[0][8, 8, 0], drawn.errors()[0][3, 3, 1])]
    assert record.error_by_lag[0] == pytest.approx(float(sum(norms)) / 2.0)
    assert len(record.error_by_lag) == 9


def test_a_lag_that_reaches_behind_a_reset_is_no_lag():
    """So a reset does not look as if errors vanished: the row has fewer lags."""
    reset = torch.zeros(9, 3, dtype=torch.bool)
    reset[6, 1] = True
    lags = followed(Drawn(CELLS["rnn"], reset=reset).only_at(8))[2].by_step()[:, 0]
    assert lags.isnan().nonzero().tolist() == [[k, 1] for k in range(6)]


def test_a_layer_that_gets_no_error_has_a_whole_record():
    record = measure(Drawn(CELLS["lstm"]).only_at().passage(), exponents=2)
    assert record.error_by_lag == [0.0]
    assert (record.horizon_steps, record.is_horizon_beyond) == (0, False)
    assert record.growth_per_step == 0.0
    assert record.path_share == {"h": 0.0, "c": 0.0}


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_a_thousand_steps_neither_under_nor_overflow(gain):
    """h_t = gain * h_{t-1} + x_t by a matrix; float32 holds 38 powers of ten, float64 308."""
    drawn = linear(gain, T=1000, B=2, dtype=torch.float32).only_at(999)
    given, _, lags = followed(drawn)
    logs = lags.by_step()[:, 0]
    want = (999 - torch.arange(1000, dtype=torch.float64)) * math.log(gain)
    assert (logs - logs[-1] - want[:, None]).abs().max() < 1e-3 * want.abs().max()
    record = measure(given, exponents=2)
    assert record.growth_per_step == pytest.approx(gain, rel=1e-3)
    assert record.horizon_steps == (999 if gain > 1.0 else 0)
    assert record.is_horizon_beyond == (gain > 1.0)


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_delays_too(gain):
    drawn = linear(gain, T=300, B=2, dtype=torch.float32, delays=[2, 5]).only_at(299)
    _, _, lags = followed(drawn)
    logs = lags.by_step()[:, 0, 0].flip(0)
    logged = [0.0]  # the sum over all paths of steps of two and of five
    for lag in range(1, 300):
        ways = [logged[lag - d] + math.log(gain) for d in (2, 5) if lag >= d]
        top = max(ways, default=-math.inf)
        new = top + math.log(sum(math.exp(w - top) for w in ways)) if top > -math.inf else top
        logged.append(new)
    for lag, want in enumerate(logged):
        if want == -math.inf:
            assert logs[lag] == -math.inf
        else:
            assert logs[lag] - logs[0] == pytest.approx(want, rel=1e-3, abs=1e-3)


def linear(gain, delays=None, **drawn):
    cell = tt.cell("h", name="linear")(lambda x, h: tt.affine("a", x, h, bias=False))
    cell = tt.remove(cell, delays) if delays else cell
    made = Drawn(cell, hidden=3, **drawn)
    weights = [
        gain * torch.eye(3, dtype=w.dtype) if slot.name.startswith("weight_hh") else w
        for slot, w in zip(made.job.slots, made.inputs.weights, strict=True)
    ]
    made.inputs = made.inputs._replace(weights=tuple(weights))
    made.every = [torch.zeros_like(s) for s in made.every]  # its Jacobians need no states
    return made


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 1.0])
def test_quantiles_of_logarithms_are_those_of_the_numbers(q):
    numbers = torch.rand(7, 10, dtype=torch.float64)
    numbers[1, :4] = 0.0
    numbers[2, 3:] = torch.nan
    got = log_quantile(numbers.log(), q).exp()
    want = torch.from_numpy(np.nanquantile(numbers.numpy(), q, axis=-1))
    assert error_to_largest(got, want) < BOUND
    far = log_quantile(numbers.log() - 5000.0, q) + 5000.0  # no float64 by itself
    assert error_to_largest(far.exp(), want) < BOUND


def test_a_quantile_of_nothing_is_no_number():
    assert log_quantile(torch.full((1, 3), torch.nan), 0.5).isnan().all()
    assert log_quantile(torch.full((1, 3), -torch.inf), 0.5) == -torch.inf


@pytest.mark.parametrize("steps", [1, 5, 8, 256, 257, 1000])
def test_a_map_has_the_last_steps_one_by_one_and_no_more_than_256(steps):
    logs = -torch.arange(steps, dtype=torch.float64).flip(0)[:, None, None]
    found = time_map([steps - 1], logs)
    assert found.k[-8:] == list(range(steps))[-8:]
    assert found.k[0] == 0
    assert len(found.k) == min(steps, 256)
    assert found.k == sorted(set(found.k))
    gaps = [b - a for a, b in pairwise(found.k[:-8])]
    assert not gaps or max(gaps) - min(gaps) <= 1, "those before are spread evenly"
    assert found.log10[0] == [round((k - steps + 1) / math.log(10), 4) for k in found.k]
