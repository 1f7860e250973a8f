"""Do our layers compute what ONNX Runtime computes, whatever its operators can be asked for?"""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from conformance.onnx_adaptor import layer_kind
from conformance.onnx_oracle import Refused
from conformance.onnx_random import random_node
from conformance.onnx_suites import RuntimeCase
from tolerances import TOLERANCE

KINDS = {"tt.RNN", "tt.RNN relu", "tt.LSTM", "tt.GRU", "declared"} | {
    *("rnn_sigmoid", "lstm_peephole", "lstm_sigmoid", "lstm_coupled", "gru_reset_before")
}
BOUND = TOLERANCE["onnxruntime", torch.float32].bound


def compare(count):
    """Compare `count` random nodes: the errors by seed, our layers and the refusals, counted."""
    errors, kinds, refusals = {}, Counter(), Counter()
    seeds = itertools.count()
    while len(errors) < count:
        seed = next(seeds)
        try:
            case = RuntimeCase(random_node(seed))
        except Refused as refused:
            refusals[reason(str(refused))] += 1
            continue
        refusals.update(map(reason, case.refusals))
        kinds[layer_kind(case.node).name] += 1
        errors[seed] = case.error(engine=("auto", "reference")[seed % 2])
    return errors, kinds, refusals


def reason(message):
    """ONNX Runtime's message without its file and line."""
    return message.split("was false. ")[-1].split(". ")[0].strip()


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_configurations(count, capsys):
    errors, kinds, refusals = compare(count)
    with capsys.disabled():
        print(
            f"\n{count} configurations against ONNX Runtime: "
            f"{sum(e > BOUND for e in errors.values())} disagreements, largest error "
            f"{max(errors.values()):.1e} of the largest element; by {dict(kinds)}; "
            f"refused by ONNX Runtime: {dict(refusals)}"
        )
    assert len(errors) == count
    assert {seed: e for seed, e in errors.items() if e > BOUND} == {}
    assert set(kinds) == KINDS


def test_nodes_are_drawn_from_all_that_is_asked_for():
    nodes = [random_node(seed) for seed in range(100)]
    assert {n.op for n in nodes} == {"RNN", "LSTM", "GRU"}
    assert {n.direction for n in nodes} == {"forward", "reverse", "bidirectional"}
    assert {n.layout for n in nodes} == {0, 1} == {n.linear_before_reset for n in nodes}
    assert {n.clip is None for n in nodes} == {False, True} == {bool(n.activations) for n in nodes}
    for name in ("B", "initial_h", "initial_c", "P", "sequence_lens"):
        assert {name in n.inputs for n in nodes} == {False, True}, name
    lengths = [n.inputs["sequence_lens"] for n in nodes if "sequence_lens" in n.inputs]
    assert any((n == 0).any() for n in lengths)
    assert any(np.unique(n).size > 1 for n in lengths)
