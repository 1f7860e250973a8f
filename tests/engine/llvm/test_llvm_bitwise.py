"""Are the bits the same again: at a second run, for other threads, rows apart, without gradients?

What the loop over time makes of a row depends on nothing but the row. The product with x before
the loop, over all steps and rows, may add up in an order that depends on how many there are; here
x, its matrix and the bias are small whole numbers times powers of two: exact in any order. So may
the products after the loop that give the gradients of x and weights; those are only held close.
"""

import pytest
import torch

from contract.own_cells import CELLS
from engine.llvm.on_trial import everything, layer_of, needs_engine, worst
from random_cells import random_cell
from throughtime.declare.graph import walk
from throughtime.testing.outcome import entering
from tolerances import TOLERANCE

pytestmark = needs_engine

DTYPES = [torch.float32, torch.float64]
NAMES = ("rnn", "lstm", "gru", "gru_reset_before", "lstm_projection", "delayed_lstm")


def whole(*shape, dtype):
    """Whole numbers from -4 to 4."""
    return torch.randint(-4, 5, shape).to(dtype)


def exact(cell, inputs, units, *, dtype=torch.float32, **options):
    """A layer whose product with x is exact, and weights small enough to keep units alive."""
    layer = layer_of(cell, inputs, units, dtype=dtype, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith(("weight_ih", "bias")):
                parameter.copy_(whole(*parameter.shape, dtype=dtype) / 16)
            elif parameter.dim() == 2:
                parameter.mul_(1 / units**0.5)
    return layer


def made(name, units=17, **options):
    if name in {"lstm_projection", "projected"}:
        options["proj_size"] = units // 2 + 1
    return exact(CELLS[name], 3, units, **options)


def states_for(layer, rows):
    with torch.no_grad():
        last = layer(layer.weight_ih_l0.new_zeros(2, rows, 3))[1]
    return tuple(torch.randn_like(h) for h in (last if isinstance(last, tuple) else (last,)))


def by_row(found):
    """What belongs to single rows: outputs, states and the gradients of the first states."""
    named = {n: v for n, v in found.items() if n.startswith(("output", "gradient of hx"))}
    return {name: value.unbind(-2) for name, value in named.items()}


def differing(some, others):
    return [name for name, value in some.items() if not torch.equal(value, others[name])]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_and_one_without_gradients(name, dtype):
    layer = made(name, bidirectional=True, dtype=dtype)
    x, lengths = torch.randn(9, 7, 3, dtype=dtype), [9, 0, 4, 9, 1, 7, 9]
    hx = states_for(layer, 7)
    call = {"lengths": lengths, "reset": torch.rand(9, 7) < 0.2}
    first = everything(layer, x, hx, **call)
    for _ in range(3):
        assert differing(first, everything(layer, x, hx, **call)) == []
    given = hx if len(hx) > 1 else hx[0]
    with torch.no_grad():
        bare = torch.utils._pytree.tree_leaves(layer(x, given, **call))
    assert differing({f"output {i}": o for i, o in enumerate(bare)}, first) == []
    layer.requires_grad_(requires_grad=False)
    bare = torch.utils._pytree.tree_leaves(layer(x, given, **call))
    assert differing({f"output {i}": o for i, o in enumerate(bare)}, first) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_a_second_run_of_random_cells(seed):
    cell = random_cell(seed)
    projects = any(node.width == "projection" for node in walk((*cell.new, *cell.out)))
    narrow = {"proj_size": 4} if projects else {}
    layer = exact(cell, 3, 7, **narrow)
    extras = {e.name: torch.rand(5, 3, 1) for e in cell.extras}
    first, second = (everything(layer, torch.ones(5, 3, 3), extras=extras) for _ in "ab")
    assert differing(first, second) == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("units", [5, 64])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_in_two_parts(name, units, dtype):
    layer = made(name, units, dtype=dtype)
    x, hx = whole(6, 13, 3, dtype=dtype), states_for(layer, 13)
    together = everything(layer, x, hx)
    for cut in (1, 6, 8):
        parts = [slice(0, cut), slice(cut, 13)]
        for part in parts:
            rows = seeded(layer, x[:, part], tuple(h[..., part, :] for h in hx), together, part)
            for key, values in by_row(rows).items():
                for got, want in zip(values, by_row(together)[key][part], strict=True):
                    assert torch.equal(got, want), key
            got, want = rows["gradient of x"], together["gradient of x"][:, part]
            assert worst({"x": got}, {"x": want})[0] <= TOLERANCE["loop", dtype].bound


def seeded(layer, x, hx, like, part, **call):
    """`everything`, with the gradients that went into some rows of another call."""
    outputs = tuple(v for n, v in like.items() if n.startswith("output"))
    seeds = [s[..., part, :].contiguous() for s in entering(outputs)]
    live = [t.detach().clone().requires_grad_() for t in (x, *hx)]
    found = torch.utils._pytree.tree_leaves(
        layer(live[0], tuple(live[1:]) if len(hx) > 1 else live[1], **call)
    )
    seeds = [s[: f.shape[0]] for s, f in zip(seeds, found, strict=True)]
    gradients = torch.autograd.grad(found, live, seeds)
    named = {f"output {i}": f.detach() for i, f in enumerate(found)}
    named["gradient of x"] = gradients[0]
    return named | {f"gradient of hx {i}": g for i, g in enumerate(gradients[1:])}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("units", [5, 64])
@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_padding_and_the_row_alone(name, units, dtype):
    layer = made(name, units, dtype=dtype)
    lengths = [9, 1, 0, 4, 9, 6, 2, 8, 3]
    x, hx = whole(9, 9, 3, dtype=dtype), states_for(layer, 9)
    together = everything(layer, x, hx, lengths=lengths)
    for row, length in enumerate(lengths):
        if length == 0:
            continue
        part = slice(row, row + 1)
        own = tuple(h[..., part, :] for h in hx)
        alone = seeded(layer, x[:length, part], own, together, part)
        for key, values in by_row(alone).items():
            want = by_row(together)[key][row]
            assert torch.equal(values[0], want[:length] if key == "output 0" else want), key


# Large enough for two threads: rows are split below 256 units, units from there on.
@pytest.mark.parametrize(
    ("name", "steps", "rows", "units"),
    [("lstm", 120, 16, 64), ("gru", 60, 33, 100), ("lstm", 20, 4, 256), ("gru", 20, 8, 260)],
)
def test_one_thread_and_two(name, steps, rows, units):
    layer = made(name, units)
    x, hx = whole(steps, rows, 3, dtype=torch.float32), states_for(layer, rows)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 1, 2):
            torch.set_num_threads(count)
            found.append(everything(layer, x, hx))
    finally:
        torch.set_num_threads(threads)
    assert differing(found[0], found[2]) == []
    assert differing(found[1], found[3]) == []
    for key, values in by_row(found[0]).items():
        assert all(map(torch.equal, values, by_row(found[1])[key])), key
    assert worst(found[1], found[0])[0] <= TOLERANCE["loop", torch.float32].bound
