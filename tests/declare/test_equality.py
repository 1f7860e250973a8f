"""When are two cells the same, and which gate is which?"""

import random
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_loop import Given, Weights, draw_given, forward
from random_cells import random_cell
from throughtime import declare as tt
from throughtime.cells import CATALOGUE, lstm
from throughtime.declare import Cell, affine, match, sigmoid, tanh
from throughtime.declare.graph import COMMUTATIVE, Node, node, rewrite
from throughtime.declare.slots import Sizes, slots

SIZES = Sizes(input=3, hidden=4, projection=2)


# --- disguises: the same cell, written otherwise -------------------------------------------------


class Disguise:
    """Rewrites a cell with other names, its gates in another order, its arguments swapped."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cell = cell
        self.names = {s.name: f"other_{s.name}" for s in (*cell.states, *cell.params, *cell.extras)}
        mixed = self.rng.sample(cell.gates, len(cell.gates))
        self.gates = {gate: f"k{i}" for i, gate in enumerate(mixed)}

    def _node(self, n: Node) -> Node:
        if n.op == "affine":
            name, bias, terms = n.data
            return node(n.op, *n.args, data=(self.gates[name], bias, terms), width=n.width)
        if n.op in {"state", "new", "param", "extra"}:
            return node(n.op, data=(self.names[n.data[0]], *n.data[1:]), width=n.width)
        if n.op in COMMUTATIVE and self.rng.random() < 0.5:
            return node(n.op, *reversed(n.args), data=n.data, width=n.width)
        if n.op == "sub" and self.rng.random() < 0.5:
            minus = node("neg", n.args[1], width=n.args[1].width)
            return node("add", n.args[0], minus, width=n.width)
        return n

    def worn(self) -> Cell:
        """The cell in disguise."""
        cell = self.cell

        def renamed(items):
            fields = [{k: getattr(i, k) for k in i.__dataclass_fields__} for i in items]
            pairs = zip(items, fields, strict=True)
            return tuple(type(i)(**{**f, "name": self.names[i.name]}) for i, f in pairs)

        roots = rewrite((*cell.new, *cell.out), self._node)
        return Cell(
            name="disguised",
            states=renamed(cell.states),
            params=renamed(cell.params),
            extras=renamed(cell.extras),
            gates=tuple(sorted(self.gates.values(), key=lambda k: int(k[1:]))),
            new=roots[: len(cell.new)],
            out=roots[len(cell.new) :],
        )


def carried(a: Cell, b: Cell, pairs: dict[str, str], weights: dict) -> dict:
    """The weights of a as those of b."""
    of_a, back = Weights(a, SIZES, weights), {v: k for k, v in pairs.items()}

    def part(piece) -> torch.Tensor:
        gate = back[piece.gate]
        return of_a.bias[gate][0] if piece.place is None else of_a.matrix[gate, piece.place]

    return {s.name: torch.cat([part(p) for p in s.pieces]) for s in slots(b)}


def given_to(a: Cell, b: Cell, pairs: dict[str, str], seed: int) -> tuple[Given, Given]:
    """Inputs of a, and the same for b."""
    of_a = draw_given(a, SIZES, steps=3, batch=2, seed=seed)

    def moved(group: str, items_of: str) -> dict:
        values = getattr(of_a, group)
        names = zip(getattr(a, items_of), getattr(b, items_of), strict=True)
        return {y.name: values[x.name] for x, y in names}

    groups = (moved("histories", "states"), carried(a, b, pairs, of_a.weights))
    rest = (moved("params", "params"), moved("extras", "extras"))
    return of_a, Given(of_a.x, *groups, *rest)


def assert_same_numbers(a: Cell, b: Cell, pairs: dict[str, str], seed: int) -> None:
    of_a, of_b = given_to(a, b, pairs, seed)
    want, got = forward(a, SIZES, of_a), forward(b, SIZES, of_b)
    torch.testing.assert_close(got.out, want.out, rtol=1e-12, atol=1e-12)
    for x, y in zip(a.states, b.states, strict=True):
        torch.testing.assert_close(got.states[y.name], want.states[x.name], rtol=1e-12, atol=1e-12)


def assert_recognised(cell: Cell, seed: int) -> None:
    other = Disguise(cell, seed).worn()
    assert other == cell
    assert hash(other) == hash(cell)
    assert other.graph_key == cell.graph_key
    pairs = match(cell, other)
    assert pairs is not None
    assert sorted(pairs) == sorted(cell.gates)
    assert sorted(pairs.values()) == sorted(other.gates)
    assert_same_numbers(cell, other, pairs, seed)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("seed", range(3))
def test_a_disguised_cell_is_recognised(name, seed):
    assert_recognised(CATALOGUE[name], seed)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_disguised_random_cell_is_recognised(cell_seed, seed):
    assert_recognised(random_cell(cell_seed), seed)


def test_a_wrong_pairing_gives_other_numbers():
    other = Disguise(lstm, 1).worn()
    pairs = match(lstm, other)
    swapped = pairs | {"i": pairs["f"], "f": pairs["i"]}
    with pytest.raises(AssertionError, match="not close"):
        assert_same_numbers(lstm, other, swapped, 1)


# --- different cells -----------------------------------------------------------------------------


def test_the_catalogues_cells_are_all_different():
    for a, b in combinations(CATALOGUE.values(), 2):
        assert a != b, (a, b)
        assert a.graph_key != b.graph_key, (a, b)
        assert match(a, b) is None, (a, b)


def changed(cell: Cell, place: int) -> Cell | None:
    """The cell with one operation changed; None if there is none at that place."""
    swaps = {
        "tanh": "sigmoid",
        "sigmoid": "tanh",
        "sin": "cos",
        "cos": "sin",
        "add": "mul",
        "mul": "add",
        "minimum": "maximum",
        "maximum": "minimum",
        "lt": "le",
        "ge": "gt",
        "exp": "neg",
        "relu": "abs",
        "abs": "relu",
    }
    met = []

    def change(n: Node) -> Node:
        met.append(n)
        if len(met) - 1 != place:
            return n
        if n.op == "constant":
            return node("constant", data=(n.data[0] + 1.0,), width=n.width)
        if n.op == "state":
            return node("state", data=(n.data[0], n.data[1] + 1), width=n.width)
        return node(swaps[n.op], *n.args, width=n.width) if n.op in swaps else n

    roots = rewrite((*cell.new, *cell.out), change)
    if roots == (*cell.new, *cell.out):
        return None
    new, out = roots[: len(cell.new)], roots[len(cell.new) :]
    parts = (cell.states, cell.params, cell.extras, cell.gates)
    return Cell(cell.name, *parts, new, out)


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_a_cell_with_one_operation_changed_is_another(seed, place):
    cell = random_cell(seed)
    other = changed(cell, place)
    if other is not None:
        assert other != cell
        assert match(cell, other) is None


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_change_of_one_operation_is_seen(name):
    cell = CATALOGUE[name]
    others = [o for place in range(40) if (o := changed(cell, place)) is not None]
    assert len(others) >= 2
    assert all(other != cell for other in others)


DIFFERENT = {
    "a bias": (lambda x, h: affine("a", x, h), lambda x, h: affine("a", x, h, bias=False)),
    "a width": (lambda x, h: h * affine("a", x), lambda x, h: h * affine("a", x, width=1)),
    "a lag": (lambda x, h: affine("a", x, h), lambda x, h: affine("a", x, tt.ago(h, 2))),
    "order of -": (lambda x, h: affine("a", x) - h, lambda x, h: h - affine("a", x)),
    "order of /": (lambda x, h: affine("a", x) / h, lambda x, h: h / affine("a", x)),
    "association": (
        lambda x, h: (affine("a", x) + h) + tanh(h),
        lambda x, h: affine("a", x) + (h + tanh(h)),
    ),
    "algebra": (
        lambda x, h: affine("a", x) + affine("z", x) * (h - affine("b", x)),
        lambda x, h: affine("a", x) + (affine("z", x) * h - affine("z2", x) * affine("b", x)),
    ),
    "zero's sign": (lambda x, h: affine("a", x) + 0.0, lambda x, h: affine("a", x) + -0.0),
    "one gate for two": (
        lambda x, h: sigmoid(affine("a", x, h)) * tanh(affine("b", x, h)),
        lambda x, h: (lambda a: sigmoid(a) * tanh(a))(affine("a", x, h)),
    ),
    "which gate goes where": (
        lambda x, h: (lambda a, b: sigmoid(a) * tanh(b) + tt.sin(a) * tt.cos(b))(
            *affine("a b", x, h)
        ),
        lambda x, h: (lambda a, b: sigmoid(a) * tanh(b) + tt.sin(b) * tt.cos(a))(
            *affine("a b", x, h)
        ),
    ),
    "what is recurrent": (
        lambda x, h: affine("a", x, tanh(h)),
        lambda x, h: affine("a", x, tt.now(tanh(h))),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_these_differ(name):
    a, b = (tt.cell("h")(step) for step in DIFFERENT[name])
    assert a != b
    assert a.graph_key != b.graph_key
    assert match(a, b) is None


def test_the_order_of_states_counts():
    a = tt.cell("h c")(lambda x, h, c: (affine("a", x, h), tanh(c)))
    b = tt.cell("h c")(lambda x, h, c: (tanh(h), affine("a", x, c)))
    assert a != b


def test_which_result_is_which_counts():
    def parts(x, h, c):
        a, b = affine("a b", x, h, c)
        return tanh(a), sigmoid(b)

    a, b = tt.cell("h c")(parts), tt.cell("h c")(lambda x, h, c: parts(x, h, c)[::-1])
    assert a.graph_key != b.graph_key
    assert match(a, b) is None


def test_emit_counts():
    step = lambda x, h: affine("a", x, h)  # noqa: E731
    plain = tt.cell("h")(step)
    assert tt.cell("h", emit=lambda h: h)(step) == plain
    assert tt.cell("h", emit=lambda h: tanh(h))(step) != plain


# --- data counts for ==, not for the graph -------------------------------------------------------


def with_param(**options) -> Cell:
    return tt.cell("h", params=[tt.Param("p", **options)])(lambda x, h, p: affine("a", x) + p * h)


@pytest.mark.parametrize(
    "options",
    [
        {"init": 0.5},
        {"init": tt.Uniform(0.0, 1.0)},
        {"init": tt.Blocks((0.0, 1.0))},
        {"low": -1.0},
        {"high": 1.0},
        {"trainable": False},
    ],
    ids=str,
)
def test_data_of_params_counts_for_equality_alone(options):
    assert with_param(**options) != with_param()
    assert with_param(**options).graph_key == with_param().graph_key
    assert match(with_param(**options), with_param()) == {"a": "a"}


def test_data_of_states_and_extras_counts():
    def with_state(**options):
        return tt.cell([tt.State("h", **options)])(lambda x, h: affine("a", x, h))

    def with_extra(**options):
        return tt.cell("h", extras=[tt.Extra("e", **options)])(lambda x, e: affine("a", x) * e)

    half, other = tt.Bernoulli(0.5), tt.Bernoulli(0.25)
    assert with_state(initial=1.0) != with_state()
    assert with_extra(sample=half, eval=1.0) != with_extra()
    assert with_extra(sample=half, eval=1.0) != with_extra(sample=other, eval=1.0)
    assert with_extra(sample=half, eval=1.0) != with_extra(sample=half, eval=0.5)
    drawn = {"sample": half, "eval": 1.0}
    assert with_extra(per="sequence", **drawn) != with_extra(per="step", **drawn)


def test_an_integer_is_the_same_number():
    assert with_param(init=1) == with_param(init=1.0)
    assert with_param(init=tt.Uniform(0, 1)) == with_param(init=tt.Uniform(0.0, 1.0))
    assert with_param(init=tt.Blocks([0, 1])) == with_param(init=tt.Blocks((0.0, 1.0)))
    assert with_param(init=0, low=-1) == with_param(init=0.0, low=-1.0)


def test_names_and_sources_do_not_count():
    a = tt.cell("h", source="one", name="a")(lambda x, h: tanh(affine("a", x, h)))
    b = tt.cell("q", source="two", name="b")(lambda x, q: tanh(affine("b", x, q)))
    assert a == b
    assert len({a, b}) == 1
    assert a != "a"


# --- which gate is which -------------------------------------------------------------------------


def test_a_permuted_lstm_is_paired_by_use():
    @tt.cell("y s")
    def other(x, y, s):
        out, cand, keep, write = affine("out cand keep write", x, y)
        s = tanh(cand) * sigmoid(write) + s * sigmoid(keep)
        return tanh(s) * sigmoid(out), s

    assert match(lstm, other) == {"i": "write", "f": "keep", "g": "cand", "o": "out"}
    assert match(other, lstm) == {"out": "o", "cand": "g", "keep": "f", "write": "i"}


def test_reads_in_another_order_are_the_same_gate():
    a = tt.cell("h")(lambda x, h: tanh(affine("a", x, h)))
    b = tt.cell("h")(lambda x, h: tanh(affine("a", h, x)))
    assert match(a, b) == {"a": "a"}


def test_gates_alike_are_paired_consistently():
    """The sum of two products: which a goes with which b is not seen gate by gate."""

    def twice(order):
        def step(x, h):
            gates = dict(zip(order.split(), affine(order, x, h), strict=True))
            pairs = [sigmoid(gates[f"a{i}"]) * tanh(gates[f"b{i}"]) for i in (1, 2)]
            return tt.maximum(*pairs)

        return tt.cell("h")(step)

    first, second = twice("a1 a2 b1 b2"), twice("a1 a2 b2 b1")
    assert first == second
    pairs = match(first, second)
    assert pairs is not None
    assert pairs["a1"][1] == pairs["b1"][1]
    assert_same_numbers(first, second, pairs, 0)


def test_gates_of_one_use_keep_their_order():
    cell = tt.cell("h")(lambda x, h: tt.maximum(*affine("a b", x, h)))
    assert match(cell, cell) == {"a": "a", "b": "b"}


def test_a_cell_without_gates_matches_with_nothing():
    cell = tt.cell("h")(lambda h: tanh(h))
    assert match(cell, tt.cell("q")(lambda q: tanh(q))) == {}
