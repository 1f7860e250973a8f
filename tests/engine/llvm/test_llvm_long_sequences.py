"""Does float32 stay near float64 over a thousand steps and more, and in denormal numbers?"""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from engine.llvm.on_trial import ENGINE, everything, layer_of, needs_engine
from tolerances import TOLERANCE, error_to_largest

pytestmark = needs_engine

B, I, H = 1, 2, 6
CONTRACTIVE = ("rnn", "lstm", "gru", "mgu")
EXTRA = TOLERANCE["over eager", torch.float32].bound


def contractive(name, seed):
    """A layer that forgets: every matrix on the past has norm 0.7."""
    torch.manual_seed(seed)
    layer = layer_of(CELLS[name], I, H, dtype=torch.float32)
    with torch.no_grad():
        for gate in layer.weight_hh_l0.split(H):
            gate.mul_(0.7 / torch.linalg.matrix_norm(gate, 2))
    return layer


def errors(name, steps, seed, dtype=torch.float32):
    """How far the engine, and eager float32, are from float64: the worst tensor of each."""
    layer, x = contractive(name, seed), torch.randn(steps, B, I)
    found = [everything(layer, x, engine=engine) for engine in (ENGINE, "reference")]
    exact = everything(layer.double(), x.double(), engine="reference")
    return [max(error_to_largest(f[k].double(), v) for k, v in exact.items()) for f in found]


def medians(name, steps, seeds):
    pairs = torch.tensor([errors(name, steps, seed) for seed in range(seeds)])
    return pairs.median(0).values.tolist()


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_thousand_steps(name):
    ours, eager = medians(name, 1000, 3)
    assert ours <= EXTRA * eager


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1000, 10_000])
@pytest.mark.parametrize("name", CONTRACTIVE)
def test_many_steps_over_twenty_seeds(name, steps):
    ours, eager = medians(name, steps, 20)
    assert ours <= EXTRA * eager


# --- denormals


@tt.cell(("h", "far"), params=(tt.Param("retain", 0.9),))
def decaying(x, h, far, retain):
    """A leaky unit without noise: h shrinks to nothing after the input has ended."""
    return retain * h + 0.1 * tt.affine("a", x, bias=False), 0.5 * far


def decayed(dtype, steps, retain, engine):
    """States after many steps with input in the first alone, and the gradients of that."""
    layer = layer_of(decaying, 1, 9, dtype=dtype)
    torch.nn.init.constant_(layer.weight_ih_l0, 1.0)
    torch.nn.init.constant_(layer.retain_l0, retain)
    x = torch.zeros(steps, 2, 1, dtype=dtype)
    x[0] = 1.0
    hx = tuple(torch.full((1, 2, 9), 1.0, dtype=dtype) for _ in decaying.states)
    return everything(layer, x, hx, return_all_states=True, engine=engine)


# In float64 faster, or it would take 7,000 steps to get there.
@pytest.mark.parametrize(
    ("dtype", "steps", "retain"), [(torch.float32, 10_000, 0.9), (torch.float64, 2_000, 0.6)]
)
def test_a_leaky_unit_decays_through_denormal_numbers(dtype, steps, retain):
    got, want = (decayed(dtype, steps, retain, engine) for engine in (ENGINE, "reference"))
    tiny = torch.finfo(dtype).tiny
    outputs = [name for name in want if name.startswith("output")]
    assert any(((want[n].abs() > 0) & (want[n].abs() < tiny)).any() for n in outputs)
    for name in outputs:
        assert (got[name] - want[name]).abs().max().item() <= TOLERANCE["loop", dtype].bound
        # Denormals may be flushed to zero; numbers above them are held to their own size.
        normal = want[name].abs() >= 4 * tiny
        relative = (got[name] / want[name] - 1.0)[normal].abs()
        assert relative.numel() == 0 or relative.max().item() <= TOLERANCE["decay", dtype].bound
        assert (got[name].abs()[~normal] < 5 * tiny).all()
    for name in want.keys() - outputs:
        assert error_to_largest(got[name], want[name]) <= TOLERANCE["loop", dtype].bound, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_denormal_inputs_weights_and_states_come_through_finite(dtype):
    layer = layer_of(CELLS["lstm"], 3, 9, dtype=dtype)
    small = torch.finfo(dtype).smallest_normal / 4
    x = small * torch.randn(50, 4, 3, dtype=dtype)
    hx = tuple(small * torch.randn(1, 4, 9, dtype=dtype) for _ in "hc")
    with torch.no_grad():
        layer.weight_hh_l0.mul_(small)
    got, want = (everything(layer, x, hx, engine=engine) for engine in (ENGINE, "reference"))
    for name, value in want.items():
        bound = TOLERANCE["loop", dtype].bound * max(1.0, value.abs().max().item())
        assert (got[name] - value).abs().max().item() <= bound, name


def test_the_threads_own_way_with_denormals_is_left_as_it_was():
    """An engine may flush denormals while it runs, and must not leave that behind."""
    x = torch.full((8,), 1e-40)
    layer = layer_of(CELLS["lstm"], 3, 5, dtype=torch.float32)
    everything(layer, torch.randn(20, 4, 3))
    assert torch.equal(x * 0.5, torch.full((8,), 5e-41))
    assert (x * 0.5).abs().max() > 0
