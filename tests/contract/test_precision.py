"""What is computed in which dtype? float32 throughout; under autocast only products are rounded."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from tolerances import TOLERANCE, error_to_largest

T, B, I, H = 6, 3, 3, 5


def made(name, dtype=torch.float32, **options):
    projection = 2 if name in {"lstm_projection", "projected"} else 0
    layer = tt.Recurrent(CELLS[name], I, H, proj_size=projection, dtype=dtype, **options).eval()
    data = [e for e in layer.cell.extras if e.sample is None]
    extras = {e.name: torch.rand(T, B, 1, dtype=dtype) + 0.5 for e in data}
    return layer, torch.randn(T, B, I, dtype=dtype), extras


def states_of(hx):
    return hx if isinstance(hx, tuple) else (hx,)


# torch says so of its own op, nn.LSTM's too, once a process.
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", CELLS)
def test_float32_stays_float32_and_is_near_float64(name):
    layer, x, extras = made(name)
    found = layer(x, extras=extras, lengths=[6, 0, 2])
    gradients = torch.autograd.grad(found[0].square().sum(), list(layer.parameters()))
    layer.double()
    extras = {name: value.double() for name, value in extras.items()}
    wanted = layer(x.double(), extras=extras, lengths=[6, 0, 2])
    exact = torch.autograd.grad(wanted[0].square().sum(), list(layer.parameters()))
    got = [found[0], *states_of(found[1]), *gradients]
    want = [wanted[0], *states_of(wanted[1]), *exact]
    for a, b in zip(got, want, strict=True):
        assert a.dtype == torch.float32
        assert error_to_largest(a.double(), b) <= TOLERANCE["loop", torch.float32].bound


# --- autocast


def rounded(a, b):
    """A product as bfloat16 has it: operands and result rounded, the sum exact."""
    narrow = [t.bfloat16().double() for t in (a, b.mT)]
    return (narrow[0] @ narrow[1]).bfloat16().float()


def lstm_by_hand(w, x, h, c):
    outputs = []
    for x_t in x:
        a = rounded(x_t, w["weight_ih_l0"]) + w["bias_l0"] + rounded(h, w["weight_hh_l0"])
        i, f, g, o = a.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs), h, c


def emitting_by_hand(w, x, h):
    outputs, skew = [], w["skew_l0"]
    b_a, b_y, b_z = w["bias_l0"].split([H, 2, H])
    for x_t in x:
        a = rounded(x_t, w["weight_ih_l0"]) + b_a + rounded(h, w["weight_hh_l0"])
        h = (a + skew).sigmoid()
        y = rounded(h, w["weight_y_l0"]) + rounded(x_t, w["weight_y_2_l0"]) + b_y
        z = (rounded(skew * h, w["weight_z_l0"]) + b_z).tanh()
        outputs.append(torch.cat([y, z, h], -1))
    return torch.stack(outputs), h


BY_HAND = {"lstm": lstm_by_hand, "emitting": emitting_by_hand}


@pytest.mark.parametrize("narrow_input", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_autocast_rounds_products_and_nothing_else(name, narrow_input):
    layer, x, _ = made(name)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = x.bfloat16() if narrow_input else x
    with torch.no_grad():
        zeros = [torch.zeros(B, H) for _ in layer.cell.states]
        want, *last = BY_HAND[name](dict(layer.named_parameters()), x.float(), *zeros)
        exact, _ = layer(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        output, hx = layer(x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, want.bfloat16())
    for got, state in zip(states_of(hx), last, strict=True):
        assert got.dtype == torch.float32
        assert (
            error_to_largest(got[0].detach(), state) <= TOLERANCE["autocast", torch.float32].bound
        )
    assert error_to_largest(want, exact) > 10 * TOLERANCE["autocast", torch.float32].bound


@pytest.mark.parametrize("name", CELLS)
def test_autocast_gives_gradients_in_float32_near_the_exact_ones(name):
    layer, x, extras = made(name)
    parameters = list(layer.parameters())
    reset = torch.rand(T, B) < 0.2
    options = {"extras": extras, "lengths": [6, 0, 2], "reset": reset}
    exact = torch.autograd.grad(layer(x, **options)[0].square().sum(), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        output, hx = layer(x, **options)
    found = torch.autograd.grad(output.float().square().sum(), parameters)
    assert output.dtype == torch.bfloat16
    assert all(state.dtype == torch.float32 for state in states_of(hx))
    for got, want in zip(found, exact, strict=True):
        assert error_to_largest(got, want) <= TOLERANCE["bfloat16", torch.float32].bound


def test_autocast_keeps_states_across_windows():
    layer, x, _ = made("lstm")
    with torch.autocast("cpu", torch.bfloat16):
        whole, last = layer(x)
        first, hx = layer(x[:2])
        second, hx = layer(x[2:], hx)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(a, b) for a, b in zip(hx, last, strict=True))


def test_autocast_takes_a_state_in_its_own_dtype():
    layer, x, _ = made("lstm")
    hx = tuple(torch.randn(1, B, H).bfloat16() for _ in "hc")
    with torch.autocast("cpu", torch.bfloat16):
        narrow, wide = layer(x, hx)[0], layer(x, tuple(h.float() for h in hx))[0]
    assert torch.equal(narrow, wide)


def test_autocast_goes_through_a_stack_in_both_directions():
    layer, x, _ = made("gru", num_layers=2, bidirectional=True)
    exact = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)[0]
    assert output.dtype == torch.bfloat16
    assert 0 < error_to_largest(output.float(), exact) < TOLERANCE["bfloat16", torch.float32].bound


def test_autocast_leaves_float64_alone():
    layer, x, _ = made("lstm", torch.float64)
    want = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x)[0], want)


def test_autocast_switched_off_inside_counts():
    layer, x, _ = made("lstm")
    want = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert torch.equal(layer(x)[0], want)


def test_the_vendor_engine_says_why_it_stands_back_under_autocast():
    layer, x, _ = made("lstm")
    with torch.autocast("cpu", torch.bfloat16):
        assert "not vendor: torch's op on the CPU does not keep states" in layer.explain(x)
        layer.engine = "vendor"
        with pytest.raises(tt.errors.EngineError, match="does not keep states in float32"):
            layer(x)
