"""Are the weights of a call those that the layer has now? Tied, replaced, parametrized, edited."""

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import throughtime as tt
from nn.nested import assert_same
from throughtime.cells import CATALOGUE

T, B, H = 5, 3, 4
X = torch.randn(T, B, H, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KINDS = {
    "LSTM": lambda **o: tt.LSTM(H, H, 2, dtype=torch.float64, **o),
    "GRU": lambda **o: tt.GRU(H, H, 2, dtype=torch.float64, **o),
    "mgu": lambda **o: tt.Recurrent(CATALOGUE["mgu"], H, H, 2, dtype=torch.float64, **o),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def twin_of(layer, kind):
    twin = KINDS[kind]()
    twin.load_state_dict(layer.state_dict())
    return twin


@every_kind
def test_an_edit_in_place_is_seen(kind):
    layer = KINDS[kind]()
    before = layer(X)[0]
    layer.weight_hh_l1.data.mul_(2.0)
    with torch.no_grad():
        layer.weight_ih_l0[0, 0] += 1.0
    assert not torch.equal(layer(X)[0], before)
    assert torch.equal(layer(X)[0], twin_of(layer, kind)(X)[0])


@every_kind
def test_a_replaced_parameter_is_used_and_gets_the_gradient(kind):
    layer = KINDS[kind]()
    old = layer.weight_hh_l0
    layer.weight_hh_l0 = torch.nn.Parameter(torch.randn_like(old))
    output = layer(X)[0]
    output.sum().backward()
    assert old.grad is None
    assert layer.weight_hh_l0.grad is not None
    assert torch.equal(output, twin_of(layer, kind)(X)[0])


@every_kind
def test_tied_weights_are_one_and_their_gradients_add_up(kind):
    layer = KINDS[kind]()
    apart = twin_of(layer, kind)
    with torch.no_grad():
        apart.weight_ih_l1.copy_(apart.weight_ih_l0)
    layer.weight_ih_l1 = layer.weight_ih_l0
    output, want = layer(X)[0], apart(X)[0]
    assert_same(output, want)
    assert len(list(layer.parameters())) == len(list(apart.parameters())) - 1
    got = torch.autograd.grad(output.sin().sum(), layer.weight_ih_l0)[0]
    both = torch.autograd.grad(want.sin().sum(), [apart.weight_ih_l0, apart.weight_ih_l1])
    assert_same(got, sum(both))
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
    assert layer.weight_ih_l1.eq(0).all()


@every_kind
def test_two_layers_share_a_weight(kind):
    a, b = KINDS[kind](), KINDS[kind]()
    b.weight_hh_l0 = a.weight_hh_l0
    (a(X)[0] + b(X)[0]).sum().backward()
    want = [torch.autograd.grad(m(X)[0].sum(), m.weight_hh_l0)[0] for m in (a, b)]
    assert_same(a.weight_hh_l0.grad, sum(want))


class Skew(torch.nn.Module):
    def forward(self, w):
        return w.triu(1) - w.triu(1).mT


@every_kind
@pytest.mark.parametrize("name", ["weight_norm", "orthogonal", "spectral_norm"])
def test_parametrized_weights(kind, name):
    layer = KINDS[kind]()
    getattr(parametrizations, name)(layer, "weight_hh_l0")
    layer.eval()
    output = layer(X)[0]
    plain = KINDS[kind]()
    with torch.no_grad():
        for tensor, _ in plain.named_parameters():
            getattr(plain, tensor).copy_(getattr(layer, tensor))
    assert_same(output, plain(X)[0])
    output.sum().backward()
    raw = dict(layer.parametrizations.weight_hh_l0.named_parameters())
    assert raw
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in raw.values())


@every_kind
def test_a_parametrization_comes_and_goes(kind):
    layer = KINDS[kind]()
    before = layer(X)[0]
    parametrizations.weight_norm(layer, "weight_ih_l0")
    assert_same(layer(X)[0], before)
    parametrize.remove_parametrizations(layer, "weight_ih_l0")
    assert_same(layer(X)[0], before)


@every_kind
def test_functional_call_takes_other_weights_and_leaves_the_layers_own(kind):
    layer, other = KINDS[kind](), KINDS[kind]()
    before = layer(X)[0]
    weights = dict(other.named_parameters())
    output = torch.func.functional_call(layer, weights, (X,))[0]
    assert torch.equal(output, other(X)[0])
    assert torch.equal(layer(X)[0], before)
    output.sum().backward()
    assert all(p.grad is None for p in layer.parameters())
    assert all(p.grad is not None for p in other.parameters())


@every_kind
def test_strided_weights(kind):
    layer = KINDS[kind]()
    want = layer(X)[0]
    for name, parameter in list(layer.named_parameters()):
        if parameter.dim() == 2:
            setattr(layer, name, torch.nn.Parameter(parameter.detach().mT.contiguous().mT))
    assert not layer.weight_hh_l0.is_contiguous()
    assert_same(layer(X)[0], want)


@every_kind
def test_frozen_weights_stand_still(kind):
    layer = KINDS[kind]()
    layer.weight_hh_l0.requires_grad_(False)
    layer(X)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None
    assert layer.weight_hh_l1.grad is not None


@every_kind
def test_another_dtype_after_use(kind):
    layer = KINDS[kind]()
    want = layer(X)[0]
    output = layer.float()(X.float())[0]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), want, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.double()(X)[0], twin_of(layer, kind)(X)[0])


def test_there_is_no_flat_buffer():
    layer = tt.LSTM(H, H, 2)
    layer.flatten_parameters()
    addresses = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    assert len(addresses) == len(list(layer.parameters())) == 8


def test_an_optimiser_moves_what_a_call_reads():
    layer = KINDS["LSTM"]()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (layer(X)[0] - 0.5).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
