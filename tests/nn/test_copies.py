"""Does a layer survive being copied, saved and sent to another process?"""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch

import throughtime as tt
from throughtime import Bernoulli, Blocks, Extra, Param, State, Uniform

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
PATIENCE_S = 120


def made():
    """A cell of lambdas with everything a cell can have; nothing of it can be imported."""
    cell = tt.cell(
        (State("h", width="projection"), "c", State("k", width=1, clock=True)),
        params=(
            Param("keep", Uniform(0.2, 0.8), low=0.0, high=1.0),
            Param("gain", Blocks((1.0, 2.0)), trainable=False),
        ),
        extras=(Extra("seen", Bernoulli(0.5, 2.0), eval=1.0, per="sequence"),),
        emit=lambda h, x: (h, tt.affine("y", h, x, width=2)),
        name="mine",
        source="nobody 2026",
    )(
        lambda x, h, c, k, keep, gain, seen: (
            tt.affine("p", seen * c, width="projection", bias=False),
            keep * c + (1.0 - keep) * tt.tanh(gain * tt.affine("a", x, h, tt.ago(h, 2))),
            tt.where(k + 1.0 >= 3.0, 0.0, k + 1.0),
        )
    )
    options = {"proj_size": 2, "bidirectional": True, "learn_initial_state": True}
    return tt.Recurrent(cell, 3, 4, 2, **options).eval()


def saved(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "torch.save": saved,
    "all of them": lambda layer: pickle.loads(pickle.dumps(copy.deepcopy(saved(layer)))),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("layer", [made(), tt.LSTM(3, 4), tt.GRUCell(3, 4)], ids=repr)
def test_a_copy_is_the_same_layer(way, layer):
    twin = COPIES[way](layer)
    x = X[0] if isinstance(layer, tt.GRUCell) else X
    got, want = twin(x), layer(x)
    assert repr(twin) == repr(layer)
    assert torch.equal(got[0], want[0])
    assert list(twin.state_dict()) == list(layer.state_dict())
    if way != "copy":
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert torch.equal(layer(x)[0], want[0])


def test_a_copied_layer_learns_on_its_own():
    layer = made()
    twin = copy.deepcopy(layer)
    twin(X)[0].sum().backward()
    assert all(p.grad is None for p in layer.parameters())
    assert sum(p.grad is not None for p in twin.parameters()) > 10


def test_a_copied_cell_is_the_same_cell():
    cell = made().cell
    for twin in (pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell), copy.copy(cell)):
        assert twin == cell
        assert hash(twin) == hash(cell)
        assert (twin.name, twin.source, twin.states) == (cell.name, cell.source, cell.states)
        assert (twin.params, twin.extras, twin.gates) == (cell.params, cell.extras, cell.gates)


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_another_process_computes_the_same(way):
    layer = made().requires_grad_(False)
    want = layer(X)[0]
    with multiprocessing.get_context(way).Pool(1) as pool:
        got = pool.apply_async(layer, (X,)).get(PATIENCE_S)[0]
    assert torch.equal(got, want)


def test_a_process_forked_after_use_computes_the_same():
    layer = made()
    layer(X)[0].sum().backward()
    layer.zero_grad()
    want = layer.requires_grad_(False)(X)[0]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        got = pool.apply_async(layer, (X,)).get(PATIENCE_S)[0]
    assert torch.equal(got, want)
