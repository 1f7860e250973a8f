"""Do gradients come back however autograd is asked for them?"""

from itertools import product

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS

T, B, I, H = 5, 3, 2, 4
LENGTHS = [5, 0, 3]
CASES = [
    ("lstm", "reference"),
    ("lstm", "vendor"),
    ("gru", "vendor"),
    ("rnn_relu", "vendor"),
    ("delayed_lstm", "reference"),
    ("emitting", "reference"),
    ("clockwork", "reference"),
    ("lstm", "llvm"),
    ("delayed_lstm", "llvm"),
    ("emitting", "llvm"),
]
every_case = pytest.mark.parametrize(("name", "engine"), CASES)


def made(name, engine, **options):
    layer = tt.Recurrent(CELLS[name], I, H, engine=engine, dtype=torch.float64, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)


def scalar(output, hx, part):
    last = hx[0] if isinstance(hx, tuple) else hx
    return {
        "output": lambda: output.square().sum(),
        "last": lambda: last.sin().sum(),
        "both": lambda: output.square().sum() + last.sin().sum(),
    }[part]()


def gradients(layer, x, part="both"):
    loss = scalar(*layer(x, lengths=LENGTHS), part)
    return torch.autograd.grad(loss, [x, *layer.parameters()], materialize_grads=True)


def equal(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@every_case
def test_backward_works_in_eval_mode_and_gives_the_same(name, engine):
    layer, x = made(name, engine)
    trained = gradients(layer.train(), x)
    assert equal(gradients(layer.eval(), x), trained)
    assert all(g.abs().max() > 0 for g in trained)


@every_case
def test_backward_twice_over_one_graph(name, engine):
    layer, x = made(name, engine)
    leaves = [x, *layer.parameters()]
    loss = scalar(*layer(x, lengths=LENGTHS), "both")
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert equal(torch.autograd.grad(loss, leaves, retain_graph=True), first)
    assert equal(torch.autograd.grad(loss, leaves), first)
    with pytest.raises(RuntimeError, match=r"second time|already been freed"):
        torch.autograd.grad(loss, leaves)


@every_case
def test_backward_on_two_outputs_in_turn(name, engine):
    layer, x = made(name, engine)
    together = gradients(layer, x)
    output, hx = layer(x, lengths=LENGTHS)
    scalar(output, hx, "output").backward(retain_graph=True)
    scalar(output, hx, "last").backward()
    for leaf, both in zip([x, *layer.parameters()], together, strict=True):
        torch.testing.assert_close(leaf.grad, both, rtol=1e-12, atol=1e-12)


@every_case
@pytest.mark.parametrize("part", ["output", "last"])
def test_an_output_alone_gives_its_share(name, engine, part):
    layer, x = made(name, engine)
    other = {"output": "last", "last": "output"}[part]
    shares = [gradients(layer, x, p) for p in (part, other)]
    for a, b, both in zip(*shares, gradients(layer, x), strict=True):
        torch.testing.assert_close(a + b, both, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["reference", "vendor", "llvm"])
def test_any_subset_of_gradients(engine):
    layer, x = made("lstm", engine)
    hx = [torch.randn(1, B, H, dtype=torch.float64, requires_grad=True) for _ in "hc"]
    leaves = [x, *hx, *layer.parameters()]

    def wanted(mask):
        for leaf, want in zip(leaves, mask, strict=True):
            leaf.requires_grad_(want)
        output, last = layer(x, tuple(hx), lengths=LENGTHS)
        assert output.requires_grad == any(mask)
        chosen = [leaf for leaf in leaves if leaf.requires_grad]
        return torch.autograd.grad(scalar(output, last, "both"), chosen) if chosen else ()

    every = wanted([True] * len(leaves))
    for mask in product([False, True], repeat=len(leaves)):
        want = [g for g, chosen in zip(every, mask, strict=True) if chosen]
        for got, expected in zip(wanted(mask), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@every_case
def test_a_weight_changed_before_backward_is_noticed(name, engine):
    layer, x = made(name, engine)
    loss = scalar(*layer(x, lengths=LENGTHS), "both")
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every_case
def test_nothing_is_recorded_without_gradients(name, engine):
    layer, x = made(name, engine)
    want = layer(x)[0]
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output = layer(x)[0]
        assert not output.requires_grad
        assert torch.equal(output, want)


@pytest.mark.parametrize("name", ["clockwork", "every_third", "delayed_clock"])
def test_a_clock_handed_in_gets_no_gradient(name):
    layer, x = made(name, "auto")
    _, (h, k) = layer(x)
    k = k.clone().requires_grad_()
    output, last = layer(x, (h, k))
    assert not last[1].requires_grad
    assert torch.autograd.grad(output.sum(), k, allow_unused=True) == (None,)
