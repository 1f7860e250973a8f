"""What kind is each matrix, and when can its gate be computed?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from random_cells import random_cell
from throughtime import declare as tt
from throughtime.cells import CATALOGUE
from throughtime.declare import affine, ago, now, sigmoid, tanh
from throughtime.declare.graph import terms, walk


def kinds(step, states="h", **options):
    """For each gate the kinds of its matrices, with their lags and indices."""
    cell = tt.cell(states, **options)(step)
    return {gate: [(t.kind, t.lag, t.index) for t in terms(n)] for gate, n in cell.affines.items()}


INPUT, RECURRENT = ("input", 0, 1), ("recurrent", 1, 1)


def test_x_is_input_and_a_past_state_recurrent():
    assert kinds(lambda x, h: affine("a", x, h)) == {"a": [INPUT, RECURRENT]}
    assert kinds(lambda x, h: affine("a", h, x)) == {"a": [RECURRENT, INPUT]}


def test_a_function_of_a_past_state_is_recurrent():
    found = kinds(lambda x, h: affine("a", x, tanh(h) * 2.0))
    assert found["a"][1] == RECURRENT


def test_a_past_state_behind_a_gate_does_not_count():
    step = lambda x, h: affine("b", sigmoid(affine("a", x, h)))  # noqa: E731
    assert kinds(step) == {"a": [INPUT, RECURRENT], "b": [("inner", 0, 1)]}


def test_a_past_state_beside_a_gate_counts():
    assert kinds(lambda x, h: affine("n", x, sigmoid(affine("r", x, h)) * h))["n"][1] == RECURRENT


def test_a_new_state_is_inner_though_it_holds_a_past_one():
    def step(x, h, c):
        c = sigmoid(affine("f", x, h)) * c + tanh(affine("g", x))
        return affine("hr", tanh(c), c), c

    # tanh(c) and c are followed down to the new state c, not through it.
    assert kinds(step, "h c")["hr"] == [("inner", 0, 1), ("inner", 0, 2)]


def test_a_mixed_value_is_recurrent_unless_it_is_marked_now():
    def highway(mark):
        def step(x, h):
            t = sigmoid(affine("t", x, h))
            middle = mark(t * tanh(affine("a", x, h)) + (1.0 - t) * h)
            return tanh(affine("b", middle)) + middle

        return kinds(step)["b"]

    assert highway(lambda v: v) == [RECURRENT]
    assert highway(now) == [("inner", 0, 1)]


def test_a_state_passed_on_unchanged_is_still_past():
    """The delay line: c's new value is the past h itself, and a matrix on h is recurrent."""
    assert kinds(lambda x, h, c: (affine("a", x, h, c), h), "h c")["a"] == [
        INPUT,
        RECURRENT,
        ("recurrent", 1, 2),
    ]


def test_the_lag_is_the_shortest_that_a_read_holds():
    found = kinds(lambda x, h: affine("a", x, ago(h, 4) + ago(h, 3), ago(h, 7)))
    assert found["a"] == [INPUT, ("recurrent", 3, 1), ("recurrent", 7, 2)]


def test_params_and_extras_alone_are_inner():
    parts = {"params": [tt.Param("p")], "extras": [tt.Extra("e")]}
    found = kinds(lambda x, h, p, e: affine("a", x, p, e, h * p), **parts)
    assert found["a"] == [INPUT, ("inner", 0, 1), ("inner", 0, 2), RECURRENT]


def test_matrices_of_emit_are_output_and_counted():
    cell = tt.cell("h", emit=lambda x, h: affine("y", h, tanh(h), x))
    found = cell(lambda x, h: affine("a", x, h)).affines["y"]
    assert [(t.kind, t.lag, t.index) for t in terms(found)] == [
        ("output", 0, 1),
        ("output", 0, 2),
        ("output", 0, 3),
    ]


def test_phases_follow_what_gates_read():
    step = lambda x, h: affine("c", affine("b", affine("a", x, h)), x) + affine("d", x)  # noqa: E731
    assert tt.cell("h")(step).phases() == (("a", "d"), ("b",), ("c",))


PHASES = {
    "rnn": 1,
    "lstm": 1,
    "lstm_peephole": 1,
    "lstm_projection": 2,
    "gru": 1,
    "gru_reset_before": 2,
    "mgu": 2,
    "minlstm": 1,
    "lru": 1,
}


@pytest.mark.parametrize("name", PHASES)
def test_phases_of_published_cells(name):
    assert len(CATALOGUE[name].phases()) == PHASES[name]


def region_of_gates(cell):
    found = cell.regions().items()
    return {n.data[0]: region for region, nodes in found for n in nodes if n.op == "affine"}


def test_regions():
    def step(x, h, p, e):
        once = affine("once", tanh(p))
        return h * once + affine("before", x) + affine("before_too", e) + affine("loop", x, h)

    options = {"params": [tt.Param("p")], "extras": [tt.Extra("e")]}
    cell = tt.cell("h", emit=lambda h: affine("after", h), **options)(step)
    wanted = {n: n for n in ("once", "before", "loop", "after")}
    assert region_of_gates(cell) == wanted | {"before_too": "before"}


@pytest.mark.parametrize("name", ["mingru", "minlstm", "indrnn", "lru"])
def test_gates_without_a_past_state_are_computed_before_the_loop(name):
    found = region_of_gates(CATALOGUE[name])
    assert set(found.values()) <= {"before", "after"}


def test_an_lrus_turning_is_computed_once_a_call():
    once = {n.op for n in CATALOGUE["lru"].regions()["once"]}
    assert {"cos", "sin", "exp", "sqrt"} <= once


@given(st.integers(0, 10_000))
def test_every_node_is_in_one_region_after_those_it_needs(seed):
    cell = random_cell(seed)
    rank = {"once": 0, "before": 1, "loop": 2, "after": 3}
    listed = [(n, rank[r]) for r, nodes in cell.regions().items() for n in nodes]
    region = dict(listed)
    assert len(region) == len(listed)
    assert set(region) == set(walk((*cell.new, *cell.out)))
    assert all(region[a] <= region[n] for n in region for a in n.args)


@given(st.integers(0, 10_000))
def test_a_gate_comes_after_the_gates_it_reads(seed):
    cell = random_cell(seed)
    phase = {gate: i for i, gates in enumerate(cell.phases()) for gate in gates}
    gates = {g: n for g, n in cell.affines.items() if g in phase}
    assert set(gates) == {n.data[0] for n in walk(cell.new) if n.op == "affine"}
    for gate, n in gates.items():
        below = {b.data[0] for b in walk(n.args) if b.op == "affine"}
        assert all(phase[b] < phase[gate] for b in below)
