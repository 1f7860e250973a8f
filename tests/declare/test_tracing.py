"""What does a step become? The graph, whoever's functions it was written with."""

import operator
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

from throughtime import declare as tt
from throughtime.declare import affine, ago, where
from throughtime.declare.graph import node, walk


def new_state(function, states="h", **options):
    """The graph of the first state's next value."""
    return tt.cell(states, **options)(function).new[0]


def of_gate(function):
    return new_state(lambda x, h: function(affine("a", x, h)))


SAME = {
    "torch.sigmoid": (torch.sigmoid, tt.sigmoid),
    "torch.tanh": (torch.tanh, tt.tanh),
    "torch.relu": (torch.relu, tt.relu),
    "torch.exp": (torch.exp, tt.exp),
    "torch.log": (torch.log, tt.log),
    "torch.sqrt": (torch.sqrt, tt.sqrt),
    "torch.sin": (torch.sin, tt.sin),
    "torch.cos": (torch.cos, tt.cos),
    "torch.abs": (torch.abs, tt.absolute),
    "torch.absolute": (torch.absolute, tt.absolute),
    "torch.sign": (torch.sign, tt.sign),
    "torch.neg": (torch.neg, operator.neg),
    "torch.negative": (torch.negative, operator.neg),
    "torch.square": (torch.square, lambda a: a * a),
    "torch.pow": (lambda a: torch.pow(a, 3), lambda a: a**3),
    "torch.clamp": (lambda a: torch.clamp(a, 0.0, 1.0), lambda a: tt.clamp(a, 0.0, 1.0)),
    "torch.clamp min": (lambda a: torch.clamp(a, min=0), lambda a: tt.clamp(a, min=0.0)),
    "torch.clip": (lambda a: torch.clip(a, max=1), lambda a: tt.clamp(a, max=1.0)),
    "torch.minimum": (lambda a: torch.minimum(a, a * a), lambda a: tt.minimum(a, a * a)),
    "torch.maximum": (lambda a: torch.maximum(a, a * a), lambda a: tt.maximum(a, a * a)),
    "torch.add": (lambda a: torch.add(a, 1.0), lambda a: a + 1.0),
    "torch.sub": (lambda a: torch.sub(a, 1.0), lambda a: a - 1.0),
    "torch.subtract": (lambda a: torch.subtract(a, 1.0), lambda a: a - 1.0),
    "torch.mul": (lambda a: torch.mul(a, a), lambda a: a * a),
    "torch.multiply": (lambda a: torch.multiply(a, a), lambda a: a * a),
    "torch.div": (lambda a: torch.div(a, 2), lambda a: a / 2.0),
    "torch.true_divide": (lambda a: torch.true_divide(a, 2), lambda a: a / 2.0),
    "torch.where": (lambda a: torch.where(a > 0, a, 0.0), lambda a: where(a > 0.0, a, 0.0)),
    "torch.less": (lambda a: where(torch.less(a, 1), a, 0), lambda a: where(a < 1.0, a, 0.0)),
    "torch.le": (lambda a: where(torch.le(a, 1), a, 0), lambda a: where(a <= 1.0, a, 0.0)),
    "torch.greater_equal": (
        lambda a: where(torch.greater_equal(a, 1), a, 0),
        lambda a: where(a >= 1.0, a, 0.0),
    ),
    "torch.ne": (lambda a: where(torch.ne(a, 1), a, 0), lambda a: where(a != 1.0, a, 0.0)),
    "F.sigmoid": (functional.sigmoid, tt.sigmoid),
    "F.tanh": (functional.tanh, tt.tanh),
    "F.relu": (functional.relu, tt.relu),
    "F.softplus": (functional.softplus, tt.softplus),
    "a method": (lambda a: a.sigmoid(), tt.sigmoid),
    "a method with numbers": (lambda a: a.clamp(min=0.0), lambda a: tt.clamp(a, min=0.0)),
    "a method of two": (lambda a: a.mul(a), lambda a: a * a),
    "a numpy number": (lambda a: np.float64(2) * a, lambda a: 2.0 * a),
    "a numpy number subtracted": (lambda a: np.float32(2) - a, lambda a: 2.0 - a),
    "a numpy number divided": (lambda a: np.float64(2) / a, lambda a: 2.0 / a),
    "a numpy integer": (lambda a: a * np.int64(2), lambda a: a * 2.0),
    "a fraction": (lambda a: a * Fraction(1, 2), lambda a: a * 0.5),
    "an integer": (lambda a: 1 - a, lambda a: 1.0 - a),
    "plus": (operator.pos, lambda a: a),
    "abs": (abs, tt.absolute),
    "+=": (lambda a: operator.iadd(a, 1.0), lambda a: a + 1.0),
    "sum": (lambda a: sum([a, a]), lambda a: 0.0 + a + a),
}


@pytest.mark.parametrize("name", SAME)
def test_torchs_spelling_and_ours_are_one_graph(name):
    theirs, ours = SAME[name]
    assert of_gate(theirs) is of_gate(ours)


@pytest.mark.parametrize("compare", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_a_numpy_number_may_stand_left_of_a_comparison(compare):
    condition = getattr(operator, compare)
    root = of_gate(lambda a: where(condition(np.float64(2), a), a, 0.0))
    found = next(n for n in walk([root]) if n.op == compare)
    assert [n.op for n in found.args] == ["constant", "affine"]


def test_equal_expressions_are_one_node():
    root = of_gate(lambda a: tt.tanh(a) * tt.tanh(a))
    assert [n.op for n in walk([root])].count("tanh") == 1


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-310, 1e308, float("inf")])
def test_constants_are_exact(value):
    root = of_gate(lambda a: a + value)
    found = next(n.data[0] for n in walk([root]) if n.op == "constant")
    assert found.hex() == value.hex()


def test_minus_zero_is_another_constant_than_zero():
    assert of_gate(lambda a: a + 0.0) is not of_gate(lambda a: a + -0.0)


@pytest.mark.parametrize(
    "unsafe", [lambda a: 0.0 * a, lambda a: a - a, lambda a: a + 0.0, lambda a: a / a]
)
def test_nothing_is_folded_that_a_nan_could_tell(unsafe):
    assert "affine" in {n.op for n in walk([of_gate(unsafe)])}


def test_arguments_are_bound_by_name():
    cell = tt.cell("h c", params=[tt.Param("p")], extras=[tt.Extra("e")])
    plain = cell(lambda x, h, c, p, e: (affine("a", x, h) * p, c * e))
    assert cell(lambda e, p, c, h, x: (affine("a", x, h) * p, c * e)).new == plain.new
    assert cell(lambda **v: (affine("a", v["x"], v["h"]) * v["p"], v["c"] * v["e"])) == plain
    subset = cell(lambda x: (affine("a", x), 0.0))
    assert [n.op for n in subset.new] == ["affine", "expand"]


def test_the_step_runs_once_and_never_again():
    calls = []

    @tt.cell("h")
    def counted(x, h):
        calls.append(None)
        return tt.tanh(affine("a", x, h))

    counted.adjoint()
    tt.restore(counted.text)
    assert len(calls) == 1


def test_results_may_be_a_list_and_one_result_may_be_bare():
    pair = tt.cell("h c")(lambda x, h, c: [affine("a", x), c])
    assert len(pair.new) == 2
    assert tt.cell("h")(lambda x: affine("a", x)) == tt.cell("h")(lambda x: (affine("a", x),))


def test_affine_of_several_names_gives_one_gate_each():
    seen = []

    @tt.cell("h")
    def cell(x, h):
        seen.append(affine("i f", x, h))
        return seen[0][0] * seen[0][1] + affine("g", x)

    assert isinstance(seen[0], tuple)
    assert cell.gates == ("i", "f", "g")


def test_gates_stand_in_declared_order_not_in_that_of_use():
    step = lambda x, h: (lambda i, f, o: o * f + i)(*affine("i f o", x, h))  # noqa: E731
    assert tt.cell("h")(step).gates == ("i", "f", "o")
    assert list(tt.cell("h")(step).affines) == ["i", "f", "o"]


def test_a_name_and_a_source():
    @tt.cell("h", source="Elman 1990")
    def elman(x, h):
        return affine("a", x, h)

    assert (elman.name, elman.source) == ("elman", "Elman 1990")
    assert repr(elman) == "<cell elman: states h; gates a>"
    assert tt.cell("h", name="mine")(lambda x: affine("a", x)).name == "mine"
    assert tt.cell("h")(lambda x: affine("a", x)).name == "cell"


def test_lags():
    cell = tt.cell("h c")(lambda x, h, c: (affine("a", x, ago(h, 5)) + ago(h, 2), c))
    assert cell.lags() == {"h": 5, "c": 1}
    assert cell.depth == 5
    assert new_state(lambda x, h: ago(h, 1) * affine("a", x)) is new_state(
        lambda x, h: h * affine("a", x)
    )


def test_width_1_broadcasts_and_is_widened_for_a_wide_state():
    gated = new_state(lambda x, h: tt.sigmoid(affine("g", x, width=1)) * h)
    assert gated.width == "hidden"
    widened = new_state(lambda x, h: affine("g", x, h, width=1))
    assert (widened.op, widened.width) == ("expand", "hidden")
    assert widened.args[0].width == 1


def test_emit_sees_new_states_params_extras_and_x():
    cell = tt.cell(
        "h",
        params=[tt.Param("p")],
        extras=[tt.Extra("e")],
        emit=lambda x, h, p, e: (p * tt.tanh(h), affine("y", x, width=3), e),
    )(lambda x, h: affine("a", x, h))
    leaves = {n.op for n in walk(cell.out) if not n.args}
    assert leaves == {"x", "new", "param", "extra"}
    assert [n.width for n in cell.out] == ["hidden", 3, "hidden"]
    assert cell.gates == ("a", "y")


def test_the_output_is_the_first_state_by_default():
    cell = tt.cell("h c")(lambda x, h, c: (affine("a", x, h), c))
    assert cell.out == (node("new", data=("h",), width="hidden"),)


def test_tracing_within_a_step_does_not_disturb_it():
    def outer(x, h):
        inner = tt.cell("q")(lambda x, q: affine("a", x, q))
        assert inner.gates == ("a",)
        return affine("a", x, h)

    assert tt.cell("h")(outer).gates == ("a",)
