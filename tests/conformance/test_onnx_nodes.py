"""Do our layers pass ONNX's own recurrent node cases? torch.nn passes 16, ONNX Runtime 15 of 18."""

from dataclasses import replace

import pytest

from conformance.onnx_adaptor import evaluate
from conformance.onnx_suites import NODE_CASES, agrees_with_node_case, node_case, node_case_names


def test_the_list_is_all_of_onnx():
    assert len(NODE_CASES) == 18
    assert set(NODE_CASES) == node_case_names()


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("name", NODE_CASES)
def test_node_case(name, engine):
    assert agrees_with_node_case(name, engine=engine)


def test_the_case_with_peepholes_needs_them():
    node = node_case("test_lstm_with_peepholes")
    without = replace(node, inputs={n: a for n, a in node.inputs.items() if n != "P"})
    assert abs(evaluate(without)["Y_h"] - evaluate(node)["Y_h"]).max() > 1e-3


def test_the_gru_case_needs_the_reset_before_the_product():
    node = node_case("test_gru_seq_length")
    after = replace(node, linear_before_reset=1)
    assert abs(evaluate(after)["Y_h"] - evaluate(node)["Y_h"]).max() > 1e-3
