"""Which engine runs a layer, and does it say why?"""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from throughtime import engine as engines
from throughtime.errors import ConfigError, EngineError

X = torch.zeros(4, 2, 3)


def lines_of(layer, *call, **options):
    return layer.explain(*call, **options).splitlines()


def test_a_cell_of_torchs_goes_to_its_fused_op():
    first, *_ = lines_of(tt.LSTM(3, 5), X)
    assert first == "vendor: torch's own fused op (oneDNN or cuDNN)"


@pytest.mark.parametrize(("layer", "steps"), [(tt.RNN, 3), (tt.LSTM, 10), (tt.GRU, 1)])
def test_long_calls_of_torchs_cells_go_to_the_fused_engine(layer, steps):
    asked = layer(3, 5)
    for count in (steps - 1, steps):
        x = torch.zeros(count, 2, 3)
        if count:
            first, *_ = lines_of(asked, x)
            assert first.startswith("vendor" if count < steps else "llvm"), count
    with torch.no_grad():  # a step saves less there, the call costs as much less
        short, long = lines_of(asked, X), lines_of(asked, torch.zeros(16, 2, 3))
    assert short[0].startswith("llvm" if layer is tt.GRU else "vendor")
    assert long[0].startswith("llvm")
    assert lines_of(asked)[0].startswith("llvm")


def test_a_cell_of_a_user_goes_there_too_if_its_equations_do():
    @tt.cell("cell hidden", emit=lambda hidden: hidden)
    def mine(x, cell, hidden):
        out, keep, write, add = tt.affine("out keep write add", x, hidden)
        cell = cell * tt.sigmoid(keep) + tt.tanh(add) * tt.sigmoid(write)
        return cell, tt.tanh(cell) * tt.sigmoid(out)

    @tt.cell("hidden cell")
    def permuted(x, cell, hidden):
        out, keep, write, add = tt.affine("out keep write add", hidden, x)
        cell = cell * tt.sigmoid(keep) + tt.tanh(add) * tt.sigmoid(write)
        return tt.tanh(cell) * tt.sigmoid(out), cell

    assert lines_of(tt.Recurrent(permuted, 3, 5), X)[0].startswith("vendor")
    # The states in another order are another cell: hx would be another one.
    assert lines_of(tt.Recurrent(mine, 3, 5))[0].startswith("llvm")


NOT_TORCHS = "  not vendor: the equations of mgu are not those of torch's RNN, LSTM or GRU"


def test_another_cell_goes_to_the_fused_engine_and_it_says_why():
    first, second, *_ = lines_of(tt.Recurrent(CELLS["mgu"], 3, 5))
    assert first == "llvm: a fused kernel, built in memory from the cell's equations"
    assert second == NOT_TORCHS


def test_what_no_fused_engine_can_do_goes_to_the_reference_and_it_says_why():
    layer = tt.Recurrent(CELLS["mgu"], 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        first, *others = lines_of(layer, X)
    assert first.startswith("reference: ")
    assert set(others) == {
        NOT_TORCHS,
        "  not llvm: under autocast products are rounded, which its kernels do not do",
    }
    first, *others = lines_of(layer.to(torch.bfloat16), X.to(torch.bfloat16))
    assert first.startswith("reference: ")
    refused = "  not llvm: it computes in float32 or float64, and this is bfloat16"
    assert set(others) == {NOT_TORCHS, refused}


def test_the_call_counts_too():
    layer = tt.LSTM(3, 5)
    assert lines_of(layer, X)[0].startswith("vendor")
    assert "no steps" in lines_of(layer, X[:0])[1]
    assert "every step" in lines_of(layer, X, return_all_states=True)[1]
    assert lines_of(layer, X, lengths=[0, 3], reset=X[..., 0] > 0)[0].startswith("vendor")


def test_an_engine_asked_for_is_the_reason():
    layer = tt.LSTM(3, 5, engine="reference")
    assert lines_of(layer)[1] == "  not llvm: engine='reference' was asked for"


@pytest.mark.parametrize("call", [{"input": X[:0]}, {"input": X, "return_all_states": True}])
def test_an_engine_named_is_used_or_refused(call):
    with pytest.raises(EngineError, match=r"engine='vendor' cannot do this: .* 'llvm' here"):
        tt.LSTM(3, 5, engine="vendor")(**call)
    tt.LSTM(3, 5)(**call)


@pytest.mark.parametrize("name", ["reference", "vendor", "llvm"])
def test_the_engine_named_is_the_one_that_runs(name, monkeypatch):
    ran, spies = [], []
    for engine in engines.dispatch.ENGINES:
        spied = engine._replace(
            sequence=lambda job, inputs, e=engine: ran.append(e.name) or e.sequence(job, inputs)
        )
        monkeypatch.setattr(engines.dispatch, engine.name.upper(), spied)
        spies.append(spied)
    monkeypatch.setattr(engines.dispatch, "ENGINES", tuple(spies))
    with torch.no_grad():
        tt.LSTM(3, 5, engine=name)(X)
    assert ran == [name]


def test_an_unknown_engine_is_refused():
    with pytest.raises(ConfigError, match="engine='fast' is unknown; it must be one of auto"):
        tt.LSTM(3, 5, engine="fast")
