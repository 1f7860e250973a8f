"""Is the adjoint graph the derivative? Backpropagation through time by it alone, against autograd.

Everything is seeded at once: the output, the states of every step and the last histories. Every
gradient is compared: x, all matrices and biases, params, extras, the initial histories.
"""

import math

import pytest
import torch
from hypothesis import given as assume
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from graph_loop import Given, Seen, bptt, draw_given, draw_like, forward
from random_cells import random_cell
from throughtime import declare as tt
from throughtime.cells import CATALOGUE
from throughtime.declare import adjoint
from throughtime.declare.graph import Node, node, walk
from throughtime.declare.slots import Sizes

SIZES = Sizes(input=5, hidden=4, projection=3)
BOUND = 1e-12  # of the largest element; measured: 4e-14 at worst, see `error`
N_RANDOM = 1000


def error(got: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """The largest error of a gradient over its largest element.

    A gradient that is zero but for rounding (of what is centred afterwards, say) has no size of
    its own: a hundredth of the largest of all gradients counts as its size at least.
    """
    floor = 1e-2 * max(w.abs().max().item() for w in want.values())
    errors = [
        ((got[k] - w).abs().max() / max(w.abs().max().item(), floor or 1.0)).item()
        for k, w in want.items()
    ]
    return math.inf if any(math.isnan(e) for e in errors) else max(errors)


def by_autograd(cell: tt.Cell, given: Given, seen: Seen, seeds: Seen) -> dict[str, Tensor]:
    """The gradients that autograd gives through the plain loop; clocks have none."""
    clocks = {f"histories {s.name}" for s in cell.states if s.clock}
    clocks |= {f"states {s.name}" for s in cell.states if s.clock}
    pairs = zip(seen.named().items(), seeds.named().values(), strict=True)
    loss = sum((value * seed).sum() for (name, value), seed in pairs if name not in clocks)
    leaves = {name: leaf for name, leaf in given.named().items() if name not in clocks}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(a) if g is None else g for (name, a), g in pairs}


def adjoint_error(cell: tt.Cell, seed: int = 0, steps: int = 5) -> float:
    """How far BPTT by the adjoint graph is from autograd."""
    given = draw_given(cell, SIZES, steps=steps, batch=2, seed=seed)
    for leaf in given.named().values():
        leaf.requires_grad_(True)
    seen = forward(cell, SIZES, given)
    seeds = draw_like(seen, seed)
    want = by_autograd(cell, given, seen, seeds)
    with torch.no_grad():
        got = bptt(cell, SIZES, given, seen, seeds).named()
    return error(got, want)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_of_the_catalogue(name):
    assert adjoint_error(CATALOGUE[name]) <= BOUND


@pytest.mark.parametrize("start", range(0, N_RANDOM, 100))
def test_random_cells(start):
    errors = {seed: adjoint_error(random_cell(seed), seed) for seed in range(start, start + 100)}
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] <= BOUND, f"random_cell({worst}) is off by {errors[worst]:.1e}"


# A cure puts clip_adjoint into a graph, no step; its rule is held in cells/test_clip_adjoint.py.
WRITTEN = sorted(adjoint.RULES.keys() - {"clip_adjoint"})


def test_random_cells_hold_every_operation():
    nodes = {n.op for s in range(200) for n in walk((*random_cell(s).new, *random_cell(s).out))}
    assert {*WRITTEN, "affine"} <= nodes


# --- the comparison itself must be able to fail -------------------------------------------------


def cells_with(op: str, count: int = 8) -> list[int]:
    """Seeds of cells whose step or emit holds an operation."""

    def holds(seed: int) -> bool:
        cell = random_cell(seed)
        return any(n.op == op for n in walk((*cell.new, *cell.out)))

    found = (seed for seed in range(N_RANDOM) if holds(seed))
    return [next(found) for _ in range(count)]


@pytest.mark.parametrize("op", WRITTEN)
def test_a_broken_rule_is_seen(op, monkeypatch):
    rule = adjoint.RULES[op]

    def broken(g, args, y, n: Node):
        found = rule(g, args, y, n)
        return [g] if op == "sign" else [None if v is None else 1.001 * v for v in found]

    monkeypatch.setitem(adjoint.RULES, op, broken)
    assert max(adjoint_error(random_cell(s), s) for s in cells_with(op)) > 1e-6


def test_a_missing_sum_over_units_is_seen(monkeypatch):
    def first_unit(value, width):
        narrow = width == 1 and value.width != 1
        # The mean in place of the sum: the right shape, the wrong number.
        return tt.row_mean(tt.symbols.Symbol(value)).node if narrow else value

    monkeypatch.setattr(adjoint, "_fitted", first_unit)
    cell = tt.cell("h", params=[tt.Param("p", width=1)])(lambda h, x, p: tt.affine("a", x, h) * p)
    assert adjoint_error(cell) > 1e-6


def test_a_matrix_of_another_gate_is_seen(monkeypatch):
    rows = {"i": "f", "f": "i"}

    def swapped(op, *args, data=(), width=1):
        if op == "transposed":
            data = (rows.get(data[0], data[0]), *data[1:])
        return node(op, *args, data=data, width=width)

    monkeypatch.setattr(adjoint, "node", swapped)
    lstm = tt.restore(CATALOGUE["lstm"].text)  # a cell of its own: the adjoint is kept
    assert adjoint_error(lstm) > 1e-6


# --- one operation at a time, with ties and extremes --------------------------------------------

ONE = {
    "neg": (lambda a: -a, torch.neg),
    "sigmoid": (tt.sigmoid, torch.sigmoid),
    "tanh": (tt.tanh, torch.tanh),
    "relu": (tt.relu, torch.relu),
    "exp": (tt.exp, torch.exp),
    "log": (lambda a: tt.log(tt.absolute(a) + 0.5), lambda a: torch.log(a.abs() + 0.5)),
    "sqrt": (lambda a: tt.sqrt(tt.absolute(a) + 0.5), lambda a: torch.sqrt(a.abs() + 0.5)),
    "sin": (tt.sin, torch.sin),
    "cos": (tt.cos, torch.cos),
    "abs": (tt.absolute, torch.abs),
    "sign": (tt.sign, torch.sign),
    "softplus": (tt.softplus, functional.softplus),
    "power 0": (lambda a: a**0, lambda a: a**0),
    "power 3": (lambda a: a**3, lambda a: a**3),
    "power -2": (lambda a: (abs(a) + 1.0) ** -2, lambda a: (a.abs() + 1.0) ** -2),
    "clamp": (lambda a: tt.clamp(a, -1.0, 2.0), lambda a: a.clamp(-1.0, 2.0)),
    "clamp low": (lambda a: tt.clamp(a, min=-1.0), lambda a: a.clamp(min=-1.0)),
    "clamp high": (lambda a: tt.clamp(a, max=2.0), lambda a: a.clamp(max=2.0)),
    "row_mean": (tt.row_mean, lambda a: a.mean(-1, keepdim=True)),
    "layer_norm": (
        lambda a: tt.layer_norm(a, eps=1e-3),
        lambda a: functional.layer_norm(a, a.shape[-1:], eps=1e-3),
    ),
}
TWO = {
    "add": (lambda a, b: a + b, torch.add),
    "sub": (lambda a, b: a - b, torch.sub),
    "mul": (lambda a, b: a * b, torch.mul),
    "div": (lambda a, b: a / (abs(b) + 0.5), lambda a, b: a / (b.abs() + 0.5)),
    "minimum": (tt.minimum, torch.minimum),
    "maximum": (tt.maximum, torch.maximum),
    "lt": (lambda a, b: tt.where(a < b, a, b * b), lambda a, b: torch.where(a < b, a, b * b)),
    "le": (lambda a, b: tt.where(a <= b, a, b * b), lambda a, b: torch.where(a <= b, a, b * b)),
    "gt": (lambda a, b: tt.where(a > b, a, b * b), lambda a, b: torch.where(a > b, a, b * b)),
    "ge": (lambda a, b: tt.where(a >= b, a, b * b), lambda a, b: torch.where(a >= b, a, b * b)),
    "eq": (lambda a, b: tt.where(a == b, a, b * b), lambda a, b: torch.where(a == b, a, b * b)),
    "ne": (lambda a, b: tt.where(a != b, a, b * b), lambda a, b: torch.where(a != b, a, b * b)),
}
# Corners, ties and softplus' threshold come up as often as everything else together.
NUMBERS = st.one_of(
    st.sampled_from((-1.0, 0.0, -0.0, 0.5, 1.0, 2.0, 20.0, -20.0)), st.floats(-30.0, 30.0)
)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5)


def gradients_of_params(cell: tt.Cell, params: dict[str, Tensor], seed: Tensor):
    """The state after one step of a cell without x, and the gradients of its params."""
    units = seed.numel()
    sizes = Sizes(input=1, hidden=units, projection=1)
    zeros = torch.zeros(1, 1, units, dtype=torch.float64)
    given = Given(torch.zeros(1, 1, 1, dtype=torch.float64), {"h": zeros}, {}, params)
    seen = forward(cell, sizes, given)
    nothing = {"h": torch.zeros_like(zeros)}
    seeds = Seen(seed.reshape(1, 1, units), nothing, nothing)
    return seen.out.flatten(), bptt(cell, sizes, given, seen, seeds).params


@pytest.mark.parametrize("name", [*ONE, *TWO])
@settings(max_examples=40, deadline=None)
@assume(rows=PAIRS)
def test_an_operation_is_torchs_in_value_and_derivative(name, rows):
    ours, torchs = (ONE | TWO)[name]
    params = [tt.Param("p"), tt.Param("q")][: 1 if name in ONE else 2]
    step = (lambda p: ours(p)) if name in ONE else (lambda p, q: ours(p, q))
    cell = tt.cell("h", params=params)(step)
    columns = [torch.tensor(c, dtype=torch.float64) for c in zip(*rows, strict=True)]
    values = {p.name: c.requires_grad_() for p, c in zip(params, columns, strict=False)}
    want = torchs(*values.values()).expand_as(columns[2])
    seed = columns[2].detach()
    wanted = torch.autograd.grad(want, list(values.values()), seed)
    with torch.no_grad():
        got, found = gradients_of_params(cell, values, seed)
    torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=1e-12)
    for name_of_param, g in zip(values, wanted, strict=True):
        torch.testing.assert_close(found[name_of_param], g, rtol=1e-12, atol=1e-12)


def test_clocks_have_no_gradient():
    states = (tt.State("h"), tt.State("k", clock=True))
    parts = {"params": [tt.Param("period", trainable=False)], "emit": lambda h, k: h * k}
    cell = tt.cell(states, **parts)(
        lambda x, h, k, period: (tt.affine("a", x) * k + h, tt.where(k >= period, 0.0, k + period))
    )
    back = cell.adjoint()
    assert set(back.step.states) == {("h", 1)}
    assert back.step.params == {}
    assert set(back.emit.new) == {"h"}


def test_what_is_not_read_has_no_adjoint():
    cell = tt.cell("h c", params=[tt.Param("p")])(lambda x, h, c: (tt.affine("a", x), c))
    back = cell.adjoint().step
    assert set(back.states) == {("c", 1)}
    assert back.params == {}
    assert back.x is not None
    assert cell.adjoint().emit.x is None
