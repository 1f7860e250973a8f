"""How do cures change what flows back through time? Step Jacobians, and which lags have gradients.

The state of a step is all that is carried: every state that is not a clock, with its history.
"""

import itertools

import pytest
import torch
from torch.autograd.functional import jacobian

import throughtime as tt
from cells.cures import CURES
from graph_loop import Given, draw_given, forward
from throughtime import cells
from throughtime.declare.slots import Sizes
from throughtime.declare.surgery import probed
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["loop", torch.float64].bound
SIZES = Sizes(input=5, hidden=4, projection=3)
SHOWN = [cells.rnn, cells.lstm, cells.gru, cells.lstm_projection]
named = pytest.mark.parametrize("cell", SHOWN, ids=lambda cell: cell.name)


def moving(cell):
    return [s.name for s in cell.states if not s.clock]


def given_to(cell, steps, **options):
    return draw_given(cell, SIZES, steps=steps, batch=1, seed=0, **options)


def step_jacobian(cell, given):
    """d(new states) / d(carried histories): [sum of w, D * sum of w], the oldest value first."""
    names, depth = moving(cell), cell.depth
    widths = [given.histories[name].shape[-1] for name in names]

    def step(carried):
        rows = carried.view(depth, 1, -1).split(widths, -1)
        histories = given.histories | dict(zip(names, rows, strict=True))
        seen = forward(cell, SIZES, Given(given.x, histories, given.weights, given.params))
        return torch.cat([seen.states[name][0, 0] for name in names])

    carried = torch.cat([given.histories[name] for name in names], -1)
    return jacobian(step, carried.flatten())


@named
@pytest.mark.parametrize("retain", [0.25, 0.9])
def test_the_jacobian_of_a_leaky_cell(cell, retain):
    given = given_to(cell, steps=1)
    plain = step_jacobian(cell, given)
    leaky = step_jacobian(tt.leaky(cell, retain), given)
    identity = torch.eye(plain.shape[0], dtype=torch.float64)
    assert error_to_largest(leaky, retain * identity + (1 - retain) * plain) <= BOUND


def test_the_matrix_of_a_delay_stands_in_the_block_of_its_lag():
    """For h_t = tanh(a_t) it is diag(1 - h_t^2) U_d, and all other blocks are zero."""
    for cell, matrices in (
        (tt.skip(cells.rnn, [3]), {1: "weight_hh", 3: "weight_hh_d3"}),
        (tt.remove(cells.rnn, [2, 5]), {2: "weight_hh", 5: "weight_hh_d5"}),
        (tt.dilate(tt.skip(cells.rnn, [2]), 2), {2: "weight_hh", 4: "weight_hh_d4"}),
    ):
        given = given_to(cell, steps=1)
        found = step_jacobian(cell, given).split(SIZES.hidden, 1)
        slope = 1 - forward(cell, SIZES, given).states["h"][0, 0] ** 2
        for lag in range(1, cell.depth + 1):
            block = found[cell.depth - lag]
            if lag in matrices:
                want = slope[:, None] * given.weights[matrices[lag]]
                assert error_to_largest(block, want) <= BOUND
            else:
                assert not block.any()


def test_the_leak_stands_where_it_reads():
    leak = 0.7 * torch.eye(SIZES.hidden, dtype=torch.float64)
    for cell, lag in (
        (tt.leaky(tt.remove(cells.rnn, [3]), 0.7), 1),
        (tt.remove(tt.leaky(cells.rnn, 0.7), [3]), 3),
    ):
        given = given_to(cell, steps=1)
        given.weights["weight_hh"].zero_()
        found = step_jacobian(cell, given).split(SIZES.hidden, 1)
        assert [block.any().item() for block in found] == [lag == 3, False, lag == 1]
        assert error_to_largest(found[3 - lag], leak) <= BOUND


STEPS = 24


def reached_lags(cell):
    """The lags L at which the last output has a gradient with respect to x, L steps before."""
    given = given_to(cell, steps=STEPS)
    given.x.requires_grad_(True)
    last = forward(cell, SIZES, given).out[-1].sum()
    size = torch.autograd.grad(last, given.x)[0].abs().sum((1, 2))
    return {STEPS - 1 - t for t in range(STEPS) if size[t] != 0}


def sums(delays):
    """Every sum of delays below STEPS, the empty one included."""
    found = {0}
    for _ in range(STEPS):
        found |= {a + d for a, d in itertools.product(found, delays) if a + d < STEPS}
    return found


@named
@pytest.mark.parametrize("delays", [(5, 8), (4,), (7, 9, 10)])
def test_gradients_are_zero_exactly_where_no_sum_of_delays_reaches(cell, delays):
    mixing = (lambda c: c, CURES["leaky"], CURES["zoneout"], CURES["recurrent_dropout"])
    for mix in mixing:
        assert reached_lags(tt.remove(mix(cell), delays)) == sums(delays)
    assert reached_lags(tt.remove(tt.clockwork(cell, (1, 2)), delays)) <= sums(delays)
    assert reached_lags(tt.leaky(tt.remove(cell, delays), 0.5)) == set(range(STEPS))


@named
def test_dilation_is_interleaved_copies(cell):
    """Also with a leak and a clock inside: everything ticks once in a copy's own step."""
    for inner in (cell, tt.leaky(cell, rate=0.3), tt.clockwork(cell, (1, 2))):
        for made in (tt.dilate(inner, 3), tt.remove(inner, (3,))):
            given = draw_given(made, SIZES, steps=7, batch=2, seed=0)
            seen = forward(made, SIZES, given)
            for r in range(3):
                own = Given(
                    given.x[r::3],
                    {name: h[r::3] for name, h in given.histories.items()},
                    given.weights,
                    given.params,
                )
                copy = forward(inner, SIZES, own)
                assert torch.equal(seen.out[r::3], copy.out)
                assert all(torch.equal(seen.states[s][r::3], v) for s, v in copy.states.items())


PROBED = [*SHOWN, *(cure(cells.lstm) for cure in CURES.values())]


@pytest.mark.parametrize("cell", PROBED, ids=lambda cell: cell.name)
def test_the_gradient_of_a_probe_is_that_of_the_state_carried_on(cell):
    """Against the loss as a function of the states that a window begins with."""
    probe = probed(cell)
    given = given_to(probe, steps=6)
    probes = {f"probe_{s}": given.extras[f"probe_{s}"] for s in moving(cell)}
    for value in probes.values():
        value.zero_().requires_grad_(True)
    seen = forward(probe, SIZES, given)
    weight = torch.randn_like(seen.out)
    found = torch.autograd.grad((weight * seen.out).sum(), list(probes.values()))
    found = dict(zip(probes, found, strict=True))
    plain = forward(cell, SIZES, given)
    assert torch.equal(seen.out, plain.out)
    for t in range(6):
        # What is emitted at t, and all that the steps after t make of the states of step t.
        past = {s: [*given.histories[s], *seen.states[s].detach()] for s in seen.states}
        start = {s: torch.stack(v[t + 1 :][: cell.depth]) for s, v in past.items()}
        newest = {s: start[s][-1].clone().requires_grad_(True) for s in moving(cell)}
        start |= {s: torch.cat([start[s][:-1], newest[s][None]]) for s in newest}
        later = Given(
            given.x[t + 1 :],
            start,
            given.weights,
            given.params,
            {name: e[t + 1 :] for name, e in given.extras.items()},
        )
        loss = (weight[t] * newest[cell.states[0].name]).sum()  # what these cells emit
        if t < 5:
            loss = loss + (weight[t + 1 :] * forward(cell, SIZES, later).out).sum()
        want = torch.autograd.grad(loss, list(newest.values()), allow_unused=True)
        for state, gradient in zip(newest, want, strict=True):
            gradient = torch.zeros_like(newest[state]) if gradient is None else gradient
            assert error_to_largest(found[f"probe_{state}"][t], gradient) <= BOUND
