"""Does a backward pass that runs the forward pass again give the same, and keep nothing?"""

import gc
import weakref

import pytest
import torch

import throughtime as tt
from throughtime.engine import dispatch
from throughtime.errors import DtypeError
from tolerances import TOLERANCE

NAMES = ["reference", "vendor", "llvm"]


def passes(name, *, recompute):
    """Output, states and all gradients of one training step."""
    torch.manual_seed(0)
    layer = tt.LSTM(3, 5, engine=name, recompute=recompute, bidirectional=True)
    x = torch.randn(12, 4, 3, requires_grad=True)
    y, (h, c) = layer(x, lengths=[12, 7, 0, 1])
    (y.square().sum() + h.sum() + c.square().sum()).backward()
    found = [y, h, c, x.grad, *(p.grad for p in layer.parameters())]
    return [t.detach() for t in found]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_same(name):
    """To the bit, but for torch's op, which computes in another way when it keeps nothing."""
    bound = TOLERANCE["loop", torch.float32].bound if name == "vendor" else 0.0
    for a, b in zip(passes(name, recompute=True), passes(name, recompute=False), strict=True):
        assert (a - b).abs().max() <= bound * max(1.0, float(b.abs().max()))


def test_the_forward_pass_runs_again_and_its_saved_values_are_not_kept(monkeypatch):
    linearised, alive = dispatch.LLVM.linearised, []

    def watched(job, inputs, wanted):
        outputs, pull = linearised(job, inputs, wanted)
        alive.append(weakref.ref(pull.__self__))  # the call, which holds what it saved
        return outputs, pull

    put = dispatch.LLVM._replace(linearised=watched)
    monkeypatch.setattr(dispatch, "ENGINES", (put, dispatch.VENDOR, dispatch.REFERENCE))
    kept = {}
    for recompute in (False, True):
        alive.clear()
        layer = tt.LSTM(3, 5, engine="llvm", recompute=recompute)
        y, _ = layer(torch.randn(12, 4, 3))
        gc.collect()
        kept[recompute] = [ref() is not None for ref in alive]
        y.sum().backward()
        assert len(alive) == 1
    assert kept == {False: [True], True: []}


def test_second_derivatives_still_come_from_the_reference():
    layer = tt.LSTM(2, 3, engine="llvm", recompute=True, dtype=torch.float64)
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


def test_the_option_is_shown_and_checked():
    assert "recompute=True" in repr(tt.GRU(3, 5, recompute=True))
    with pytest.raises(DtypeError, match="recompute should be of type bool, got: int"):
        tt.GRU(3, 5, recompute=1)
