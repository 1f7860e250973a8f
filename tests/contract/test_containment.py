"""Where does a NaN go? Nowhere but forward in time (or back, in reverse) in its own row."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS

T, B, I, H = 7, 4, 3, 5
ROW, STEP = 2, 3
ON_VENDOR = ("lstm", "gru", "rnn", "lstm_projection")
CASES = [(name, "reference") for name in CELLS] + [(name, "vendor") for name in ON_VENDOR]
BAD = [torch.nan, torch.inf, -torch.inf]


def made(name, engine):
    projection = 2 if name in {"lstm_projection", "projected"} else 0
    options = {"proj_size": projection, "bidirectional": True, "dtype": torch.float64}
    return tt.Recurrent(CELLS[name], I, H, engine=engine, **options).eval()


def result(layer, x, reset=None):
    shape = {"gap_s": torch.full((T, B, 1), 0.7, dtype=torch.float64)}
    extras = {e.name: shape[e.name] for e in layer.cell.extras if e.sample is None}
    x = x.clone().requires_grad_()
    output, _ = layer(x, extras=extras, reset=reset)
    return output, torch.autograd.grad(output.sum(), x, materialize_grads=True)[0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_other_rows_and_earlier_steps_keep_their_bits(name, engine, bad):
    layer, x = made(name, engine), torch.randn(T, B, I, dtype=torch.float64)
    clean, gradient = result(layer, x)
    x[STEP, ROW, 0] = bad
    output, got = result(layer, x)
    others = [row for row in range(B) if row != ROW]
    assert torch.equal(output[:, others], clean[:, others])
    assert torch.equal(got[:, others], gradient[:, others])
    forward, back = output[:, ROW].chunk(2, -1)
    clean_forward, clean_back = clean[:, ROW].chunk(2, -1)
    assert torch.equal(forward[:STEP], clean_forward[:STEP])
    assert torch.equal(back[STEP + 1 :], clean_back[STEP + 1 :])
    if torch.isnan(torch.tensor(bad)) and name != "blind":
        assert output[STEP, ROW].isnan().any()


@pytest.mark.parametrize("name", ["lstm", "gru", "delayed", "clockwork"])
def test_a_reset_ends_it(name):
    layer, x = made(name, "auto"), torch.randn(T, B, I, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[STEP + 1, ROW] = True
    clean, _ = result(layer, x, reset)
    x[STEP, ROW] = torch.nan
    output, _ = result(layer, x, reset)
    forward, clean_forward = output[..., :H], clean[..., :H]
    assert output[STEP, ROW].isnan().any()
    assert torch.equal(forward[STEP + 1 :], clean_forward[STEP + 1 :])


@pytest.mark.parametrize("name", ["lstm", "gru", "delayed"])
def test_a_state_before_a_reset_does_not_count(name):
    layer, x = made(name, "auto"), torch.randn(T, B, I, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0] = True
    _, hx = layer(x)
    broken = tuple(h * torch.nan for h in hx) if isinstance(hx, tuple) else hx * torch.nan
    output, _ = layer(x, broken, reset=reset)
    want, _ = layer(x, reset=reset)
    assert torch.equal(output[..., :H], want[..., :H])
