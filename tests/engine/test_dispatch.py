"""Which engine is chosen, and what is said about it."""

import pytest
import torch

import throughtime as tt
from throughtime.errors import ConfigError, EngineError


@tt.cell("h")
def renamed(h, x):
    gate = tt.affine("q", h, x)
    return torch.tanh(gate)


@tt.cell("h")
def flipped(x, h):
    z, n = tt.affine("z n", x, h)
    return tt.sigmoid(z) * h + (1 - tt.sigmoid(z)) * n


def test_auto_takes_the_vendor_where_the_graph_is_torchs():
    assert tt.Recurrent(renamed, 3, 5).explain(torch.zeros(2, 1, 3)).startswith("vendor")
    said = tt.Recurrent(flipped, 3, 5).explain()
    assert said.startswith("llvm")
    assert "not vendor: the equations of flipped" in said


def test_a_named_engine_is_refused_not_swapped():
    layer = tt.Recurrent(flipped, 3, 5, engine="vendor")
    with pytest.raises(EngineError, match="cannot do this: the equations of flipped"):
        layer(torch.randn(4, 2, 3))
    with pytest.raises(EngineError, match="does not return the cell state of every step"):
        tt.LSTM(3, 5, engine="vendor")(torch.randn(4, 2, 3), return_all_states=True)


def test_a_named_engine_is_used_and_explained():
    layer = tt.LSTM(3, 5, engine="reference")
    assert "not llvm: engine='reference' was asked for" in layer.explain(torch.randn(4, 2, 3))


def test_an_engine_set_later_is_checked_too():
    layer = tt.LSTM(3, 5)
    layer.engine = "warp"
    with pytest.raises(ConfigError, match="engine='warp' is unknown; it must be one of auto"):
        layer(torch.randn(4, 2, 3))


def test_a_users_cell_of_torchs_graph_has_torchs_numbers():
    layer = tt.Recurrent(renamed, 3, 5, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    theirs = torch.nn.RNN(3, 5, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.weight_ih_l0)
        theirs.weight_hh_l0.copy_(layer.weight_hh_l0)
        theirs.bias_ih_l0.copy_(layer.bias_l0)
        theirs.bias_hh_l0.zero_()
    torch.testing.assert_close(layer(x)[0], theirs(x)[0], rtol=0, atol=1e-14)
