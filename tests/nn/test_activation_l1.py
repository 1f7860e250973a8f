"""Is the L1 penalty on outputs added to the gradients, as if the loss had it?"""

import copy

import pytest
import torch
from nested import assert_same

import throughtime as tt
from throughtime.errors import ConfigError

T, B, I, H = 6, 4, 3, 5
LENGTHS = [6, 0, 2, 5]
REAL = (torch.arange(T)[:, None] < torch.tensor(LENGTHS)).unsqueeze(-1)
STACK = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64}


def twins(kind=tt.GRU, weight=0.7, **options):
    """Two layers of the same parameters, one of them with the penalty."""
    penalised = kind(I, H, activation_l1=weight, **STACK, **options)
    plain = kind(I, H, **STACK, **options)
    plain.load_state_dict(penalised.state_dict())
    return penalised, plain


def gradients(loss, layer):
    return torch.autograd.grad(loss, list(layer.parameters()))


def outputs(layer, x):
    """The outputs of each layer of a plain stack, one after the other."""
    found = []
    for run in range(layer.num_layers):
        single = type(layer)(x.shape[-1], H, bidirectional=True, dtype=x.dtype)
        own = {k: v for k, v in layer.named_parameters() if f"_l{run}" in k}
        names = {k.replace(f"_l{run}", "_l0"): v for k, v in own.items()}
        x = torch.func.functional_call(single, names, (x,), {"lengths": LENGTHS})[0]
        found.append(x)
    return found


def test_gradients_are_those_of_a_loss_with_the_penalty():
    penalised, plain = twins()
    x = torch.randn(T, B, I, dtype=torch.float64)
    y, _ = penalised(x, lengths=LENGTHS)
    got = gradients(y.square().sum(), penalised)
    layers = outputs(plain, x)
    penalty = sum(y.abs().sum() for y in layers) / sum(LENGTHS)
    assert_same(got, gradients(layers[-1].square().sum() + 0.7 * penalty, plain))
    assert penalised.penalties() == {"activation_l1": pytest.approx(penalty.item())}


def test_without_lengths_all_steps_count():
    penalised, _ = twins(weight=1.0)
    x = torch.randn(T, B, I, dtype=torch.float64)
    y, _ = penalised(x)
    y.retain_grad()
    first = gradients(y.sum() * 0.0, penalised)
    second = gradients(penalised(x, lengths=[T] * B)[0].sum() * 0.0, penalised)
    assert_same(first, second)


def test_a_loss_of_the_last_state_alone_is_penalised_too():
    penalised, plain = twins(tt.LSTM)
    x = torch.randn(T, B, I, dtype=torch.float64)
    got = gradients(penalised(x)[1][1].sum(), penalised)
    without = gradients(plain(x)[1][1].sum(), plain)
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(got, without, strict=True))


def test_the_values_are_those_of_a_plain_layer_and_may_be_changed_in_place():
    penalised, plain = twins()
    x = torch.randn(T, B, I, dtype=torch.float64)
    got, want = (layer(x, lengths=LENGTHS, return_all_states=True) for layer in (penalised, plain))
    assert_same(got, want)
    single = tt.RNN(I, H, activation_l1=0.7)
    y, _ = single(x.float())
    y += 1.0
    y.sum().backward()
    assert single.weight_hh_l0.grad.isfinite().all()


def test_outside_training_there_is_none():
    penalised, plain = twins()
    x = torch.randn(T, B, I, dtype=torch.float64)
    penalised.eval()
    assert_same(gradients(penalised(x)[0].sum(), penalised), gradients(plain(x)[0].sum(), plain))
    with torch.no_grad():
        penalised.train()(x)
    assert penalised.penalties() == {}


def test_under_torch_func_and_for_second_derivatives():
    penalised, plain = twins()
    x = torch.randn(T, B, I, dtype=torch.float64)
    weights = dict(penalised.named_parameters())

    def loss(weights):
        return torch.func.functional_call(penalised, weights, (x,))[0].square().sum()

    expected = gradients(penalised(x)[0].square().sum(), penalised)
    assert_same(list(torch.func.grad(loss)(weights).values()), list(expected))
    x.requires_grad_()
    found = []
    for layer in (penalised, plain):
        (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        found.append(gradients(first.square().sum(), layer))
    assert all(g.isfinite().all() for g in found[0])
    assert not torch.allclose(found[0][0], found[1][0])


def test_it_makes_outputs_smaller():
    torch.manual_seed(0)
    x, target = torch.randn(T, B, I), torch.randn(T, B, H)
    sizes = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        layer = tt.RNN(I, H, nonlinearity="relu", activation_l1=weight)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(50):
            optimiser.zero_grad()
            (layer(x)[0] - target).square().mean().backward()
            optimiser.step()
        sizes.append(layer(x)[0].abs().mean().item())
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_compiled():
    penalised, _ = twins(weight=0.7)
    x = torch.randn(T, B, I, dtype=torch.float64)
    want = gradients(penalised(x)[0].square().sum(), penalised)
    compiled = torch.compile(penalised, backend="aot_eager", fullgraph=True)
    assert_same(gradients(compiled(x)[0].square().sum(), penalised), want)


def test_empty_batches_and_no_real_step():
    layer = tt.RNN(I, H, activation_l1=1.0)
    for x, lengths in ((torch.randn(T, 0, I), None), (torch.randn(T, 2, I), [0, 0])):
        layer(x, lengths=lengths)[0].sum().backward()
        assert layer.weight_hh_l0.grad.abs().max() == 0
        assert layer.penalties() == {"activation_l1": 0.0}


def test_copies_text_and_refusals():
    layer = tt.RNN(I, H, activation_l1=0.5)
    layer(torch.randn(T, B, I))
    assert "activation_l1=0.5" in repr(layer)
    twin = copy.deepcopy(layer)
    assert twin.penalties() == layer.penalties() != {}
    twin(torch.zeros(T, B, I))
    assert twin.penalties() != layer.penalties()
    for value in (-1, "much", float("inf")):
        with pytest.raises(ConfigError, match=r"activation_l1=.*; expected a finite number from 0"):
            tt.RNN(I, H, activation_l1=value)
