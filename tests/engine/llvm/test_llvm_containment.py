"""Where does a NaN go in the fused engine? Nowhere but forward (or back) in time in its own row.

`tests/contract/test_containment.py` asks the same of outputs and of x; here also of the gradients
of weights, and of what lies in the padding of every tensor.
"""

import pytest
import torch

from contract.own_cells import CELLS
from engine.llvm.on_trial import everything, layer_of, needs_engine
from throughtime.testing.outcome import entering

pytestmark = needs_engine

T, B, I, H = 7, 9, 3, 17
LENGTHS = [7, 3, 0, 7, 1, 5, 7, 2, 6]
ROW = 4
NAMES = ("rnn_relu", "lstm", "gru_reset_before", "lstm_projection", "delayed_lstm", "clockwork")
BAD = [torch.nan, torch.inf, -torch.inf]


def made(name, **options):
    options |= {"proj_size": 5} if name == "lstm_projection" else {}
    return layer_of(CELLS[name], I, H, bidirectional=True, **options)


def ended():
    return torch.arange(T)[:, None] >= torch.tensor(LENGTHS)


def same(some, others):
    return [name for name, value in some.items() if not torch.equal(value, others[name])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_what_lies_in_the_padding_changes_no_bit(name, bad, dtype):
    layer = made(name, dtype=dtype)
    x = torch.randn(T, B, I, dtype=dtype)
    reset = (torch.rand(T, B) < 0.2) & ~ended()
    spoilt = torch.where(ended()[..., None], bad, x)
    clean = everything(layer, x, lengths=LENGTHS, reset=reset)
    assert all(value.isfinite().all() for value in clean.values())
    got = everything(layer, spoilt, lengths=LENGTHS, reset=reset | ended())
    assert same(got, clean) == []


@pytest.mark.parametrize("name", ["decaying", "zoneout_lstm"])
def test_extras_in_the_padding_change_no_bit(name):
    layer = made(name)
    x = torch.randn(T, B, I, dtype=torch.float64)
    extras = {e.name: torch.rand(T, B, 1, dtype=torch.float64) + 0.5 for e in layer.cell.extras}
    past = ended()[..., None]
    spoilt = {key: torch.where(past, torch.nan, value) for key, value in extras.items()}
    clean = everything(layer, x, extras=extras, lengths=LENGTHS)
    assert same(everything(layer, x, extras=spoilt, lengths=LENGTHS), clean) == []


@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_come_into_the_padding_change_no_bit(name):
    layer = made(name)
    leaves = [torch.randn(T, B, I, dtype=torch.float64, requires_grad=True), *layer.parameters()]
    found = []
    for filled in (0.0, torch.nan):
        output = layer(leaves[0], lengths=LENGTHS)[0]
        seed = torch.where(ended()[..., None], filled, entering((output,))[0])
        gradients = torch.autograd.grad(output, leaves, seed, materialize_grads=True)
        found.append({str(i): g for i, g in enumerate(gradients)})
    assert same(*found) == []


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["x", "hx", "gradient"])
@pytest.mark.parametrize("name", NAMES)
def test_one_rows_nan_stays_in_its_row(name, place, bad):
    layer = made(name)
    x = torch.randn(T, B, I, dtype=torch.float64)
    last = layer(x)[1]
    hx = tuple(torch.zeros_like(h) for h in (last if isinstance(last, tuple) else (last,)))

    def run(spoil):
        values = {"x": x.clone(), "hx": [h.clone() for h in hx], "gradient": None}
        if spoil and place == "x":
            values["x"][3, ROW, 0] = bad
        if spoil and place == "hx":
            values["hx"][0][..., ROW, 0] = bad
        live = [values["x"].requires_grad_(), *(h.requires_grad_() for h in values["hx"])]
        output, last = layer(live[0], tuple(live[1:]) if len(hx) > 1 else live[1])
        outputs = [output, *(last if isinstance(last, tuple) else (last,))]
        seeds = entering(tuple(outputs))
        if spoil and place == "gradient":
            seeds[0][3, ROW] = bad
        moving = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in moving], live, [s for _, s in moving], materialize_grads=True
        )
        return [*(o.detach() for o in outputs), *found]

    others = [row for row in range(B) if row != ROW]
    for got, want in zip(run(spoil=True), run(spoil=False), strict=True):
        assert torch.equal(got[..., others, :], want[..., others, :])


def test_a_nan_in_one_row_reaches_the_weights_as_it_does_in_the_reference():
    """Summed over rows, a gradient that is not a number must not turn into one."""
    layer = made("lstm")
    x = torch.randn(T, B, I, dtype=torch.float64)
    x[3, ROW, 0] = torch.nan
    got, want = (everything(layer, x, engine=engine) for engine in (None, "reference"))
    for name, value in want.items():
        assert torch.equal(got[name].isnan(), value.isnan()), name
