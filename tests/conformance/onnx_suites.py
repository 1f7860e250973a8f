"""Does a layer of ours agree with ONNX's published cases, and with ONNX Runtime?"""

import warnings
from functools import cache

import numpy as np
import torch

from conformance.faults import BreakLayer, unbroken
from conformance.onnx_adaptor import evaluate
from conformance.onnx_node import OnnxNode, Outputs, batch_major
from conformance.onnx_oracle import Refused, expected
from tolerances import TOLERANCE, error_to_largest

__all__ = ["NODE_CASES", "RuntimeCase", "agrees_with_node_case", "node_case", "node_case_names"]

NODE_CASES = (
    "test_simple_rnn_defaults",
    "test_simple_rnn_with_initial_bias",
    "test_rnn_seq_length",
    "test_simple_rnn_batchwise",
    "test_simple_rnn_reverse",
    "test_simple_rnn_bidirectional",
    "test_lstm_defaults",
    "test_lstm_with_initial_bias",
    "test_lstm_with_peepholes",
    "test_lstm_batchwise",
    "test_lstm_reverse",
    "test_lstm_bidirectional",
    "test_gru_defaults",
    "test_gru_with_initial_bias",
    "test_gru_seq_length",
    "test_gru_batchwise",
    "test_gru_reverse",
    "test_gru_bidirectional",
)


@cache
def _collected() -> dict[str, tuple[OnnxNode, Outputs, float, float]]:
    """Every recurrent case of the installed ONNX: the node, its outputs, rtol and atol."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX's own cases of casts overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    found = {}
    for case in cases:
        if [proto.op_type for proto in case.model.graph.node] in (["RNN"], ["LSTM"], ["GRU"]):
            ((arrays, results),) = case.data_sets
            node = OnnxNode.from_model(case.model, arrays)
            outputs = dict(zip(node.outputs, results, strict=True))
            found[case.name] = (node, outputs, case.rtol, case.atol)
    return found


def node_case_names() -> set[str]:
    """The names of all recurrent cases of the installed ONNX."""
    return set(_collected())


def node_case(name: str) -> OnnxNode:
    """The node of a published case."""
    return _collected()[name][0]


def agrees_with_node_case(
    name: str, break_layer: BreakLayer = unbroken, engine: str = "auto"
) -> bool:
    """Whether our outputs are within the case's own tolerances of its outputs."""
    node, want, rtol, atol = _collected()[name]
    got = evaluate(node, engine=engine, break_layer=break_layer)
    return all(
        got[output].shape == a.shape and np.allclose(got[output], a, rtol, atol)
        for output, a in want.items()
    )


class RuntimeCase:
    """A node and what ONNX Runtime computes for it.

    Attributes:
        refusals: Why it did not run the node as it is; layout 1 is then asked in layout 0.

    Raises:
        Refused: by ONNX Runtime in either layout.
    """

    def __init__(self, node: OnnxNode) -> None:
        self.node = node
        self.refusals: list[str] = []
        try:
            self.want = expected(node)
        except Refused as refused:
            if node.layout == 0:
                raise
            self.refusals.append(str(refused))
            self.want = batch_major(expected(node.other_layout()))

    def error(self, break_layer: BreakLayer = unbroken, engine: str = "auto") -> float:
        """The largest difference of any output over the largest element of that output."""
        got = evaluate(self.node, engine=engine, break_layer=break_layer)
        return max(
            error_to_largest(torch.as_tensor(got[name]), torch.as_tensor(a.copy()))
            for name, a in self.want.items()
        )

    def agrees(self, break_layer: BreakLayer = unbroken, engine: str = "auto") -> bool:
        """Whether that is within the tolerance."""
        bound = TOLERANCE["onnxruntime", torch.float32].bound
        return self.error(break_layer, engine) <= bound
