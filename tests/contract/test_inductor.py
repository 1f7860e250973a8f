"""torch.compile's own backend, once, where a C++ compiler exists; the rest uses aot_eager."""

import shutil

import pytest
import torch

import throughtime as tt
from tolerances import TOLERANCE


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs g++, which is not here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inductor's own
def test_inductor_gives_the_same_numbers():
    layer = tt.LSTM(3, 5, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    compiled = torch.compile(lambda a: layer(a.sin())[0].cos(), fullgraph=True)
    results = []
    for run in (compiled, lambda a: layer(a.sin())[0].cos()):
        leaf = x.clone().requires_grad_()
        out = run(leaf)
        results.append([out.detach(), *torch.autograd.grad(out.sum(), [leaf, *layer.parameters()])])
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= TOLERANCE["derivatives", torch.float64].bound
