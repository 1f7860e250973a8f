"""Does a reservoir stay as drawn and echo its inputs, and is its readout the ridge regression?"""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.cells.mixtures import leaky
from throughtime.errors import ConfigError, DtypeError, ShapeError
from throughtime.models import EchoStateNetwork
from tolerances import TOLERANCE, error_to_largest

T, B, I, H, O = 40, 3, 2, 12, 4
BOUND = TOLERANCE["loop", torch.float64].bound
RNN = CATALOGUE["rnn"]


@tt.cell("h")
def linear(x, h):
    return tt.affine("a", x, h, bias=False)


def make(seed=0, inputs=I, units=H, outputs=O, **options):
    torch.manual_seed(seed)
    return EchoStateNetwork(inputs, units, outputs, **options).double()


def draw(steps=T, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, B, I, generator=generator, dtype=torch.float64)
    return x, torch.randn(steps, B, O, generator=generator, dtype=torch.float64)


def by_hand(model, x, rate=1.0):
    """States of each row in numpy, one step after the other."""
    u, w, b = (
        getattr(model.reservoir, f"{name}_l0").numpy()
        for name in ("weight_ih", "weight_hh", "bias")
    )
    h, found = np.zeros((B, H)), []
    for step in x.numpy():
        h = (1 - rate) * h + rate * np.tanh(step @ u.T + h @ w.T + b)
        found.append(h)
    return np.stack(found)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_the_readout_is_the_ridge_regression(ridge, rate):
    """The same minimum by least squares on features with the penalty as further rows."""
    (x, y), washout_steps = draw(), 7
    model = make(cell=RNN if rate == 1.0 else leaky(RNN, rate=rate))
    model.fit(x, y, washout_steps=washout_steps, ridge=ridge)
    features = np.concatenate([by_hand(model, x, rate), x.numpy()], -1)[washout_steps:]
    features = features.reshape(-1, H + I)
    wide = np.concatenate([features, np.ones((len(features), 1))], 1)
    penalty = np.sqrt(ridge) * np.eye(H + I, H + I + 1)
    target = np.concatenate([y[washout_steps:].flatten(0, 1).numpy(), np.zeros((H + I, O))])
    want = np.linalg.lstsq(np.concatenate([wide, penalty]), target)[0]
    bound = TOLERANCE["derivatives", torch.float64].bound
    assert error_to_largest(model.readout.weight.detach(), torch.tensor(want[:-1].T)) <= bound
    assert error_to_largest(model.readout.bias.detach(), torch.tensor(want[-1])) <= bound
    predicted = model(x)[0][washout_steps:].detach().flatten(0, 1)
    assert error_to_largest(predicted, torch.tensor(wide @ want)) <= bound


def test_without_a_penalty_the_shortest_of_many_solutions_is_taken():
    model, (x, y) = make(units=90), draw()
    model.fit(x[:, :1], y[:, :1], washout_steps=10, ridge=0.0)
    predicted = model(x[:, :1])[0][10:]
    assert error_to_largest(predicted, y[10:, :1]) < 1e-5, "30 steps, 92 features"
    assert model.readout.weight.abs().max() < 100.0


def test_what_comes_twice_shares_its_weight_and_what_never_changes_gets_none():
    """Either makes the normal equations singular without a penalty."""
    model, (x, y) = make(inputs=3), draw()
    x = torch.cat([x[..., :1], x[..., :1], torch.full_like(x[..., :1], 0.2)], -1)
    model.fit(x, y, washout_steps=10, ridge=0.0)
    twice, again, never = model.readout.weight.detach()[:, -3:].T
    assert error_to_largest(twice, again) < 1e-6, "1e-9 was seen"
    assert twice.abs().max() > 0.01
    assert never.abs().max() < 1e-6


def test_a_reservoir_is_buffers_and_only_the_readout_learns():
    model, (x, y) = make(cell=leaky(RNN, rate=tt.Uniform(0.1, 0.9))), draw()
    assert [name for name, _ in model.named_parameters()] == ["readout.weight", "readout.bias"]
    assert {n for n, _ in model.named_buffers()} == {
        f"reservoir.{n}_l0" for n in ("weight_ih", "weight_hh", "bias", "rate_h")
    }
    before = {name: b.clone() for name, b in model.named_buffers()}
    assert (model(x)[0] == 0).all()
    model.fit(x, y, washout_steps=5)
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert (model(x)[0] != 0).all()
    model.reset_parameters()
    assert not any(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert (model(x)[0] == 0).all()


@pytest.mark.parametrize("cell", [RNN, leaky(RNN, rate=0.2), linear], ids=lambda c: c.name)
@pytest.mark.parametrize("radius", [0.0, 0.5, 1.3])
def test_the_recurrent_matrix_has_the_spectral_radius(radius, cell):
    model = make(units=60, spectral_radius=radius, cell=cell)
    values = np.linalg.eigvals(model.reservoir.weight_hh_l0.numpy())
    assert abs(np.abs(values).max() - radius) < 1e-5, "scaled in float64, kept in float32"


def test_connections_and_scales_are_as_asked():
    model = make(units=200, connectivity=0.05, input_scale=0.25)
    share = (model.reservoir.weight_hh_l0 != 0).double().mean()
    assert abs(share - 0.05) < 0.005
    for weight in (model.reservoir.weight_ih_l0, model.reservoir.bias_l0):
        assert 0.24 < weight.abs().max() <= 0.25
        assert abs(weight.mean()) < 0.05


def distances(model, steps):
    """Between the states from two starts, at every step of the same input."""
    x = torch.randn(steps, 1, I, generator=torch.Generator().manual_seed(2)).double()
    units = model.reservoir.hidden_size
    starts = torch.rand(2, 1, 1, units, generator=torch.Generator().manual_seed(3)).double()
    first, second = (model.reservoir(x, start)[0] for start in starts)
    return (first - second).norm(dim=-1)[:, 0]


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_below_one_the_start_is_forgotten(rate):
    cell = RNN if rate == 1.0 else leaky(RNN, rate=rate)
    apart = distances(make(units=50, spectral_radius=0.8, cell=cell), 300)
    assert apart[0] > 0.1
    assert apart[-1] < 1e-12


@pytest.mark.parametrize("radius", [0.9, 1.1])
def test_a_linear_reservoir_forgets_or_grows_by_its_spectral_radius(radius):
    """d_t = W d_{t-1} whatever the input is, so |d_t| goes as radius^t in the long run."""
    apart = distances(make(units=50, spectral_radius=radius, cell=linear, connectivity=0.3), 240)
    rate = (apart[-1] / apart[119]).log() / 120
    assert abs(rate - math.log(radius)) < 1e-4
    assert (apart[-1] > apart[0]) == (radius > 1.0)


def test_a_large_radius_without_input_is_no_echo_state():
    """Two starts stay apart, as the network moves by itself."""
    model = make(units=100, spectral_radius=3.0, input_scale=0.01)
    assert distances(model, 300)[-1] > 0.1


def series(steps, seed=0):
    """Inputs drawn evenly from [0, 0.5]."""
    return 0.5 * torch.rand(steps, generator=torch.Generator().manual_seed(seed)).double()


def narma10(u):
    """y_{t+1} = 0.3 y_t + 0.05 y_t (y_t + .. + y_{t-9}) + 1.5 u_{t-9} u_t + 0.1."""
    y = torch.zeros_like(u)
    for t in range(9, len(u) - 1):
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
    return y


def relative_error(model, x, y, hx):
    """Root of the mean squared error over the variance: 1 is what a constant reaches."""
    predicted = model(x, hx)[0]
    return ((predicted - y).square().mean() / y.var()).sqrt().item()


def test_it_follows_narma10_where_one_without_memory_cannot():
    u = series(2600)
    x, y = u[:-1, None, None], narma10(u)[1:, None, None]
    errors = {}
    for radius, scale in ((0.9, 0.3), (0.0, 0.3)):
        model = make(
            0, 1, 150, 1, spectral_radius=radius, input_scale=scale, cell=RNN, connectivity=0.1
        )
        hx = model.fit(x[:1800], y[:1800], ridge=1e-6)
        errors[radius] = relative_error(model, x[1800:], y[1800:], hx)
    assert errors[0.9] < 0.35
    assert errors[0.0] > 0.85, "without recurrence it sees u_t alone"


def memory_capacity(radius, lags=40):
    """How many past inputs can be read out linearly: the sum over lags of the squared correlation.

    Jaeger 2001, "Short term memory in echo state networks"; it is at most H.
    """
    u = 2.0 * series(3000, seed=4) - 0.5
    past = torch.stack([u.roll(lag) for lag in range(1, lags + 1)], -1)[:, None]
    model = make(0, 1, 40, lags, spectral_radius=radius, input_scale=0.1)
    hx = model.fit(u[:2000, None, None], past[:2000], ridge=1e-9)
    predicted = model(u[2000:, None, None], hx)[0][:, 0]
    pairs = zip(predicted.T, past[2000:, 0].T, strict=True)
    return sum(torch.corrcoef(torch.stack(pair))[0, 1].item() ** 2 for pair in pairs)


def test_memory_grows_with_the_spectral_radius():
    capacities = [memory_capacity(radius) for radius in (0.2, 0.6, 0.95)]
    assert capacities[0] + 3 < capacities[1]
    assert capacities[1] + 3 < capacities[2] <= 40


@pytest.mark.parametrize("cell", [RNN, leaky(RNN, rate=0.3)], ids=lambda c: c.name)
def test_a_series_in_pieces_is_the_series(cell):
    model, (x, y) = make(cell=cell), draw()
    model.fit(x, y, washout_steps=5)
    whole, last = model(x)
    first, hx = model(x[:13])
    second, hx = model(x[13:], hx)
    assert error_to_largest(torch.cat([first, second]), whole) <= BOUND
    assert error_to_largest(hx, last) <= BOUND
    hx = model.fit(x[:13], y[:13], washout_steps=2)
    weight = model.readout.weight.clone()
    model.fit(x[13:], y[13:], hx, washout_steps=0)
    tail = make(cell=cell)
    tail.fit(x, y, washout_steps=13)
    bound = TOLERANCE["derivatives", torch.float64].bound
    assert error_to_largest(model.readout.weight.detach(), tail.readout.weight.detach()) <= bound
    assert not torch.equal(weight, tail.readout.weight)


def test_padding_is_neither_fitted_nor_predicted():
    (x, y), lengths = draw(), torch.tensor([T, 3, 25])
    real = (torch.arange(T)[:, None] < lengths)[..., None]
    found = []
    for hole in (0.0, torch.nan):
        model = make()
        model.fit(x.where(real, hole), y.where(real, hole), washout_steps=5, lengths=lengths)
        given = x.where(real, hole).requires_grad_()
        predicted, hx = model(given, lengths=lengths)
        grads = torch.autograd.grad(predicted.sum(), [given, *model.readout.parameters()])
        found.append([model.readout.weight, predicted, hx, *grads])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    weight, predicted, hx, *_ = found[0]
    assert (predicted.where(~real, 0.0) == 0).all()
    model = make()
    assert error_to_largest(hx[:, 2:], model(x[:25, 2:])[1]) <= BOUND
    rows = [(x[:n, b], y[:n, b]) for b, n in ((0, T), (2, 25))]  # row 1 ends within the washout
    seen = [torch.cat([model.reservoir(x[:, None])[0][:, 0], x], -1)[5:] for x, _ in rows]
    features, target = torch.cat(seen), torch.cat([y[5:] for _, y in rows])
    features, target = features - features.mean(0), target - target.mean(0)
    gram = features.T @ features + 1e-6 * torch.eye(H + I)
    want = torch.linalg.solve(gram, features.T @ target).T
    assert error_to_largest(weight.detach(), want) <= TOLERANCE["derivatives", torch.float64].bound


def test_a_float32_reservoir_is_fitted_in_float64():
    torch.manual_seed(0)
    model, (x, y) = EchoStateNetwork(I, H, O), draw()
    model.fit(x.float(), y.float(), washout_steps=5)
    double = make()
    double.fit(x, y, washout_steps=5)
    assert model.readout.weight.dtype == torch.float32
    got = model.readout.weight.detach().double()
    error = error_to_largest(got, double.readout.weight.detach())
    assert error < 1e-5, "1.2e-6 by float32's states; solved in float32 it would be 8e-5"


def test_the_readout_may_be_trained_further():
    model, (x, y) = make(), draw()
    hx = model.fit(x, y, washout_steps=0)
    assert not hx.requires_grad
    loss = (model(x)[0] - y).square().sum()
    loss.backward()
    assert model.readout.weight.grad.abs().max() < 1e-4, "all but the penalty's share"


def test_it_survives_copies_and_its_state_dict(tmp_path):
    model, (x, y) = make(cell=leaky(RNN, rate=0.3)), draw()
    model.fit(x, y, washout_steps=5)
    want = model(x)[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x)[0], want)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = make(1, cell=leaky(RNN, rate=0.3))
    assert not torch.equal(fresh(x)[0], want)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(fresh(x)[0], want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spectral_radius": -0.1}, "spectral_radius=-0.1; expected a number, zero or more"),
        ({"spectral_radius": math.nan}, "spectral_radius=nan; expected"),
        ({"input_scale": math.inf}, "input_scale=inf; expected"),
        ({"connectivity": 1.5}, "connectivity=1.5; expected a number, from 0 to 1"),
        ({"connectivity": 0.0}, f"connectivity=0.0 left the {H} units without a cycle"),
        ({"cell": CATALOGUE["lstm"]}, "cell lstm has 4 recurrent matrices; expected one"),
        ({"cell": CATALOGUE["mingru"]}, "cell mingru has 0 recurrent matrices; expected one"),
        ({"outputs": 0}, "output_size must be greater than zero, got 0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": draw()[1][:5]}, ShapeError, r"y has shape \[5, 3, 4\]; expected \[T, B, O\], \[40"),
        ({"y": draw()[1].int()}, DtypeError, "y is torch.int32; expected a floating-point"),
        ({"y": None}, DtypeError, "y is NoneType"),
        ({"x": draw()[0][0]}, ShapeError, "Expected input to be 3D, got 2D"),
        (
            {"washout_steps": T},
            ConfigError,
            f"washout_steps={T} leaves no step to fit: x has T={T}",
        ),
        ({"lengths": [5, 0, 0]}, ConfigError, "washout_steps=5 leaves no step"),
        ({"washout_steps": -1}, ConfigError, "washout_steps must be at least 0, got -1"),
        ({"ridge": -1.0}, ConfigError, "ridge=-1.0; expected a number, zero or more"),
        ({"y": draw()[1] * math.nan}, ConfigError, "holds values that are not finite"),
        ({"lengths": [T + 1, 1, 1]}, ShapeError, f"lengths holds {T + 1}"),
    ],
)
def test_fits_that_do_not_fit(change, error, message):
    x, y = draw()
    with pytest.raises(error, match=message):
        make().fit(**{"x": x, "y": y, "washout_steps": 5} | change)
