"""Does each rule of the update do what its equation says?"""

import math

import pytest
import torch
from torch import nn

from throughtime.train.config import OptimiserConfig
from throughtime.train.optimise import SimplifiedNesterov, learning_rate, make_optimiser, take_step

SCHEDULES = ("constant", "linear", "cosine", "exponential")


def parameter_with_gradient(gradient, value=1.0):
    parameter = nn.Parameter(torch.full((len(gradient),), value))
    parameter.grad = torch.tensor(gradient)
    return parameter


def sgd(parameters, **options):
    options = {"optimiser": "sgd", "learning_rate": 0.5, "clip_norm": 0.0} | options
    config = OptimiserConfig(**options)
    return make_optimiser(config, parameters), config


# --- Nesterov -----------------------------------------------------------------------------------


def quadratic_gradient(theta):
    return torch.tensor([3.0, 0.2], dtype=torch.float64) * theta


def test_nesterov_is_momentum_with_the_gradient_taken_ahead():
    """The law v = mu v - lr g(theta + mu v), theta += v, with rate and momentum that change."""
    rates = [0.05 * (1 + math.sin(k)) for k in range(30)]
    momenta = [0.5 + 0.4 * math.cos(k) for k in range(31)]
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    v = torch.zeros_like(theta)
    held = nn.Parameter(theta.clone())
    optimiser = SimplifiedNesterov([held], lr=1.0)
    for k, rate in enumerate(rates):
        ahead = theta + momenta[k] * v
        torch.testing.assert_close(held.data, ahead, rtol=1e-13, atol=1e-13)
        v = momenta[k] * v - rate * quadratic_gradient(ahead)
        theta = theta + v
        optimiser.param_groups[0].update(lr=rate, momentum=momenta[k + 1])
        held.grad = quadratic_gradient(held.data)
        optimiser.step()


def test_nesterov_equals_torch_while_the_rate_stays():
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    pair = (
        (ours, SimplifiedNesterov(ours.parameters(), **options)),
        (theirs, torch.optim.SGD(theirs.parameters(), nesterov=True, **options)),
    )
    x = torch.randn(5, 3, dtype=torch.float64)
    for _ in range(10):
        for model, optimiser in pair:
            optimiser.zero_grad()
            model(x).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)


def test_the_named_optimisers_are_torchs():
    kinds = {
        "sgd": torch.optim.SGD,
        "nesterov": SimplifiedNesterov,
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    for name, kind in kinds.items():
        config = OptimiserConfig(optimiser=name, learning_rate=0.03, weight_decay=0.2)
        optimiser = make_optimiser(config, [nn.Parameter(torch.ones(2))])
        assert type(optimiser) is kind
        assert optimiser.param_groups[0]["lr"] == 0.03
        assert optimiser.param_groups[0]["weight_decay"] == 0.2


@pytest.mark.parametrize(("name", "absent"), [("sgd", 0.0), ("rmsprop", 0.0), ("nesterov", 0.9)])
def test_momentum_reaches_the_optimiser(name, absent):
    for given, expected in ((None, absent), (0.7, 0.7), (0.0, 0.0)):
        config = OptimiserConfig(optimiser=name, momentum=given)
        optimiser = make_optimiser(config, [nn.Parameter(torch.ones(2))])
        assert optimiser.param_groups[0]["momentum"] == expected


# --- Schedule -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_rises_to_its_largest_value_and_stays_below_it(schedule):
    config = OptimiserConfig(learning_rate=2.0, schedule=schedule, warmup=0.1)
    rates = [learning_rate(config, u, 200) for u in range(200)]
    assert rates[:20] == [2.0 * (u + 1) / 20 for u in range(20)]
    assert max(rates) == rates[20] == 2.0
    assert min(rates) > 0.0


def test_the_rate_falls_by_its_formula():
    def rate(schedule, update):
        config = OptimiserConfig(learning_rate=1.0, schedule=schedule, warmup=0.0)
        return learning_rate(config, update, 100)

    assert [rate("constant", u) for u in (0, 50, 99)] == [1.0, 1.0, 1.0]
    assert [rate("linear", u) for u in (0, 50, 99)] == pytest.approx([1.0, 0.5, 0.01])
    cosine = [0.5 * (1 + math.cos(math.pi * u / 100)) for u in (0, 50, 99)]
    assert [rate("cosine", u) for u in (0, 50, 99)] == pytest.approx(cosine)
    halved = [0.5 ** (9 * u / 100) for u in (0, 50, 99)]
    assert [rate("exponential", u) for u in (0, 50, 99)] == pytest.approx(halved)


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_the_rate_is_held_and_then_falls_as_it_would(schedule):
    held = OptimiserConfig(schedule=schedule, warmup=0.1, hold=0.3)
    plain = OptimiserConfig(schedule=schedule, warmup=0.0)
    rates = [learning_rate(held, u, 200) for u in range(200)]
    assert rates[20:80] == [held.learning_rate] * 60
    assert rates[80:] == [learning_rate(plain, u, 120) for u in range(120)]


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(updates):
    for schedule in SCHEDULES:
        config = OptimiserConfig(schedule=schedule, hold=None if schedule == "constant" else 0.5)
        rates = [learning_rate(config, u, updates) for u in range(updates)]
        assert all(0.0 < rate <= config.learning_rate for rate in rates)


# --- Clipping -----------------------------------------------------------------------------------


def test_the_joint_norm_scales_all_gradients_by_one_factor():
    a, b = parameter_with_gradient([3.0]), parameter_with_gradient([0.0, 4.0])
    optimiser, config = sgd([a, b], clip_norm=1.0)
    step = take_step(optimiser, config)
    assert (step.gradient_norm, step.is_clipped, step.is_finite) == (5.0, True, True)
    torch.testing.assert_close(a.data, torch.tensor([1 - 0.5 * 0.6]))
    torch.testing.assert_close(b.data, torch.tensor([1.0, 1 - 0.5 * 0.8]))


def test_a_short_gradient_is_left_alone():
    a = parameter_with_gradient([0.3, 0.4])
    optimiser, config = sgd([a], clip_norm=1.0, clip_value=0.5)
    step = take_step(optimiser, config)
    assert step.gradient_norm == pytest.approx(0.5)
    assert not step.is_clipped
    torch.testing.assert_close(a.data, torch.tensor([1 - 0.15, 1 - 0.2]))


def test_clipping_by_value_bounds_each_element():
    a = parameter_with_gradient([3.0, -4.0, 0.1])
    optimiser, config = sgd([a], clip_value=2.0)
    step = take_step(optimiser, config)
    assert step.is_clipped
    assert step.gradient_norm == pytest.approx(math.sqrt(25.01))
    torch.testing.assert_close(a.data, torch.tensor([1 - 1.0, 1 + 1.0, 1 - 0.05]))


def test_the_norm_is_clipped_after_the_values():
    a = parameter_with_gradient([3.0, 40.0])
    optimiser, config = sgd([a], clip_value=3.0, clip_norm=math.sqrt(18.0) / 3)
    take_step(optimiser, config)
    torch.testing.assert_close(a.data, torch.tensor([0.5, 0.5]))


# --- Gradients that are not finite --------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip_value", [0.0, 1.0])
@pytest.mark.parametrize(
    ("rule", "value_after"), [("skip", 2.0), ("stop", 2.0), ("shrink", 2.0 * (1 - 0.1 * 0.5))]
)
def test_a_gradient_that_is_not_finite_meets_its_rule(rule, value_after, bad, clip_value):
    a = parameter_with_gradient([1.0, bad], value=2.0)
    optimiser, config = sgd([a], nonfinite=rule, clip_value=clip_value, momentum=0.9)
    step = take_step(optimiser, config)
    assert not step.is_finite
    assert not math.isfinite(step.gradient_norm)
    torch.testing.assert_close(a.data, torch.full((2,), value_after))
    assert not optimiser.state[a]  # the moments never saw it


@pytest.mark.parametrize("clip_norm", [0.0, 0.25])
def test_the_rule_random_steps_as_far_as_a_clipped_gradient(clip_norm):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        pair = [parameter_with_gradient([math.nan, 1.0]), parameter_with_gradient([math.inf] * 3)]
        optimiser, config = sgd(pair, nonfinite="random", clip_norm=clip_norm)
        step = take_step(optimiser, config)
        assert not step.is_finite
        found.append(torch.cat([p.data - 1.0 for p in pair]))
        assert float(found[-1].norm()) == pytest.approx(0.5 * (clip_norm or 1.0))
    assert not torch.allclose(*found)


def test_an_update_after_a_skipped_one_is_as_if_nothing_had_been():
    a, b = parameter_with_gradient([math.nan]), parameter_with_gradient([0.25])
    for parameter in (a, b):
        optimiser, config = sgd([parameter], optimiser="adam")
        take_step(optimiser, config)
        parameter.grad = torch.tensor([0.25])
        if parameter is a:
            take_step(optimiser, config)
    assert torch.equal(a.data, b.data)
