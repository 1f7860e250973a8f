"""Would the conformance suites notice a mistake? Every one of `faults` is made, none may pass.

The smallest suites run by default; the score of each whole suite is printed by the slow test.
"""

from dataclasses import replace
from functools import cache, partial

import pytest

from conformance.faults import FAULTS, Broken
from conformance.onnx_oracle import Refused
from conformance.onnx_random import plain_node, random_node
from conformance.onnx_suites import NODE_CASES, RuntimeCase, agrees_with_node_case, node_case
from conformance.torch_modules import COUNTS, agrees_with_torch
from conformance.torch_parity import CELLS, LAYERS, agrees

OPS = tuple(FAULTS)
DIRECTIONS = ("forward", "reverse", "bidirectional")
SIZES = (7, 5, 4, 4)  # T, B, I, H; I = H, or a transposed input matrix would not fit


@cache
def smallest(op):
    """18 cases against ONNX Runtime, two more for what the drop-ins lack, and some of torch.nn."""
    nodes = [
        plain_node(op, direction, ragged=ragged, sizes=SIZES, seed=seed)
        for seed, direction in enumerate(DIRECTIONS)
        for ragged in (False, True)
    ]
    if op == "GRU":
        nodes.append(replace(nodes[-1], linear_before_reset=0))
    if op == "LSTM":
        nodes.append(
            plain_node(op, "bidirectional", ragged=True, peepholes=True, sizes=SIZES, seed=3)
        )
    ours = [
        partial(agrees, name, options, "batched")
        for name, options in LAYERS
        if name == op and options["num_layers"] == 2 and options["bidirectional"] == options["bias"]
    ]
    return [RuntimeCase(node).agrees for node in nodes] + ours


@cache
def node_cases(op):
    return [partial(agrees_with_node_case, name) for name in NODE_CASES if node_case(name).op == op]


@cache
def runtime_cases(op):
    nodes = [node for node in map(random_node, range(300)) if node.op == op]
    return [case.agrees for case in map(accepted, nodes) if case is not None]


def accepted(node):
    try:
        return RuntimeCase(node)
    except Refused:
        return None


@cache
def torch_cases(op):
    return [
        partial(agrees, name, options, form, state=state)
        for name, options in LAYERS + CELLS
        for form in ("batched", "unbatched")
        for state in (True, False)
        if name.startswith(op)
    ]


@cache
def module_cases(op):
    return [
        partial(agrees_with_torch, name, index)
        for name, count in COUNTS.items()
        for index in range(count)
        if name.startswith(op)
    ]


def verdict(fault, cases):
    """Whether the fault is "caught", "missed", or changes nothing in any case ("not exercised")."""
    found = "not exercised"
    for agrees_when in cases:
        made = []

        def break_layer(layer, made=made):
            made.append(Broken(layer, fault))
            return made[-1]

        if not agrees_when(break_layer):
            return "caught"
        if made[-1].changed:
            found = "missed"
    return found


@pytest.mark.parametrize("op", OPS)
def test_the_smallest_suites_pass_unbroken(op):
    assert all(agrees_when() for agrees_when in smallest(op))


@pytest.mark.parametrize("op", OPS)
def test_every_mistake_is_caught(op):
    found = {f.name: verdict(f, smallest(op)) for f in FAULTS[op] if not f.equivalent}
    assert {name: v for name, v in found.items() if v != "caught"} == {}


@pytest.mark.parametrize("op", OPS)
def test_equivalent_mistakes_are_equivalent(op):
    found = {f.name: verdict(f, smallest(op)) for f in FAULTS[op] if f.equivalent}
    assert {name: v for name, v in found.items() if v != "missed"} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "strong"),
    [(node_cases, False), (runtime_cases, True), (torch_cases, True), (module_cases, True)],
)
def test_score_of_a_whole_suite(suite, strong, capsys):
    found = {
        (op, f.name): verdict(f, suite(op)) for op in OPS for f in FAULTS[op] if not f.equivalent
    }
    counts = {v: list(found.values()).count(v) for v in ("caught", "missed", "not exercised")}
    with capsys.disabled():
        print(f"\n{suite.__name__}: {counts}")
    if strong:  # ONNX's own node cases hold constant matrices and are known to be weak
        assert {key: v for key, v in found.items() if v == "missed"} == {}
    assert counts["caught"] > 0
