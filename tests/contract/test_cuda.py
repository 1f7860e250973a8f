"""The same numbers on an NVIDIA GPU, where the vendor engine is cuDNN."""

import pytest
import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from tolerances import TOLERANCE

pytestmark = pytest.mark.gpu
T, B, I, H, P = 7, 4, 3, 5, 2
CLOSE = TOLERANCE["derivatives", torch.float64].bound


def layer_of(name, engine, **options):
    torch.manual_seed(3)
    cell = CATALOGUE[name]
    projects = any(s.width == "projection" for s in cell.states)
    made = tt.Recurrent(
        cell, I, H, 2, bidirectional=True, proj_size=P if projects else 0, dtype=torch.float64
    )
    made.engine = engine
    return made.eval()


def results(layer, device, masks):
    """Output, last state and all gradients, in eval mode, on the CPU."""
    layer = layer.to(device)
    torch.manual_seed(5)
    x = torch.randn(T, B, I, dtype=torch.float64)
    x = x.to(device).requires_grad_()
    output, hx = layer(x, **masks)
    states = hx if isinstance(hx, tuple) else (hx,)
    loss = sum((t**2).sum() for t in (output, *states))
    wanted = [x, *layer.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [t.detach().cpu() for t in (output, *states, *gradients)]


MASKS = {
    "dense": {},
    "lengths": {"lengths": [7, 0, 3, 5]},
    "reset": {"reset": torch.rand(T, B, generator=torch.Generator().manual_seed(1)) < 0.3},
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_cuda_agrees_with_the_cpu_reference(name, masks):
    expected = results(layer_of(name, "reference"), "cpu", masks)
    found = results(layer_of(name, "auto"), "cuda", masks)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= CLOSE * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_second_derivatives_on_cuda(name):
    layer = layer_of(name, "vendor").to("cuda")
    x = torch.randn(3, 2, I, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a: layer(a)[0], (x,), fast_mode=True)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_autocast_on_cuda(name):
    layer = tt.Recurrent(CATALOGUE[name], I, H).to("cuda")
    x = torch.randn(T, B, I, device="cuda")
    plain, _ = layer(x)
    with torch.autocast("cuda", torch.bfloat16):
        output, hx = layer(x)
    states = hx if isinstance(hx, tuple) else (hx,)
    assert output.dtype == torch.bfloat16
    assert all(s.dtype == torch.float32 for s in states)
    assert float((output.float() - plain).abs().max()) < 0.05
