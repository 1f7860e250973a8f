"""Is a sequence of any length right? cuDNN's LSTM stops at 65,535 steps."""

import pytest
import torch

import throughtime as tt
from tolerances import TOLERANCE, error_to_largest

ON_GPU = [pytest.param(n, "cuda", marks=pytest.mark.gpu) for n in (65_535, 65_536, 65_537)]


@pytest.mark.parametrize(("steps", "device"), [(65_537, "cpu"), *ON_GPU])
def test_a_long_sequence_equals_its_windows(steps, device):
    layer = tt.LSTM(1, 2, device=device)
    x = torch.randn(steps, 1, 1, device=device)
    leaves = list(layer.parameters())
    whole, last = layer(x)
    hx, parts = None, []
    for window in x.split(20_000):
        part, hx = layer(window, hx)
        parts.append(part)
    found = torch.autograd.grad(whole.square().mean(), leaves)
    wanted = torch.autograd.grad(torch.cat(parts).square().mean(), leaves)
    pairs = zip((whole, *last, *found), (torch.cat(parts), *hx, *wanted), strict=True)
    for got, want in pairs:
        error = error_to_largest(got.detach(), want.detach())
        assert error <= TOLERANCE["loop", torch.float32].bound
