"""Do layers compute the equations? Against loops that know nothing of graphs or engines."""

import pytest
import torch

import throughtime as tt
from contract import hand_written
from contract.own_cells import CELLS
from tolerances import TOLERANCE, error_to_largest

T, B, I, H = 9, 4, 3, 5
LENGTHS = [7, 0, 9, 1]
ON_VENDOR = ("lstm", "gru")
CASES = [(name, engine) for name in hand_written.CELLS for engine in ("reference", "llvm")]
CASES += [(name, "vendor") for name in ON_VENDOR]


def layer_of(name, engine, dtype):
    layer = tt.Recurrent(CELLS[name], I, H, bidirectional=True, engine=engine, dtype=dtype)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def weights_of(layer, suffix):
    found = dict(layer.named_parameters())
    own = [name for name in found if name.endswith("_reverse") == (suffix == "_l0_reverse")]
    return {name.removesuffix(suffix): found[name] for name in own}


def by_hand(name, layer, x, hx, lengths, reset):
    """Both directions: output, last states."""
    cell, both = hand_written.CELLS[name], []
    for place, suffix in enumerate(("_l0", "_l0_reverse")):
        start = tuple(h[:, place] for h in hx)
        weights = weights_of(layer, suffix)
        both.append(hand_written.run(cell, weights, x, start, lengths, reset, reverse=bool(place)))
    last = [torch.stack(h, 1) for h in zip(*(last for _, last in both), strict=True)]
    return [torch.cat([out for out, _ in both], -1), *last]


def by_layer(name, layer, x, hx, lengths, reset):
    flat = hand_written.CELLS[name].depth == 1
    given = [h[0] if flat else h for h in hx]
    out, last = layer(x, tuple(given) if len(given) > 1 else given[0], lengths=lengths, reset=reset)
    last = last if isinstance(last, tuple) else (last,)
    return [out, *(h.unsqueeze(0) if flat else h for h in last)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])
@pytest.mark.parametrize("lengths", [[T] * B, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_layer_equals_a_loop_by_hand(name, engine, lengths, resets, dtype):
    layer = layer_of(name, engine, dtype)
    cell = hand_written.CELLS[name]
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    hx = [torch.randn(cell.depth, 2, B, H, dtype=dtype, requires_grad=True) for _ in cell.states]
    reset = torch.rand(T, B) < (0.3 if resets else 0.0)
    leaves = {"x": x} | {f"hx {s}": h for s, h in zip(cell.states, hx, strict=True)}
    leaves |= dict(layer.named_parameters())
    found = []
    for side in (by_layer, by_hand):
        outputs = side(name, layer, x, hx, lengths, reset if resets or side is by_hand else None)
        torch.manual_seed(1)
        entering = [torch.randn_like(o) for o in outputs]
        gradients = torch.autograd.grad(outputs, list(leaves.values()), entering)
        outs = dict(zip(("output", *(f"last {s}" for s in cell.states)), outputs, strict=True))
        found.append(outs | dict(zip(leaves, gradients, strict=True)))
    errors = {k: error_to_largest(found[0][k], want) for k, want in found[1].items()}
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] <= TOLERANCE["loop", dtype].bound, (worst, errors[worst])
