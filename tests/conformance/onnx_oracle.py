"""What does ONNX Runtime's CPU provider compute for a node, and what does it refuse?"""

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotSupported

from conformance.onnx_node import OnnxNode, Outputs

__all__ = ["Refused", "expected"]


class Refused(Exception):  # noqa: N818 (a fact about the oracle, not an error of ours)
    """ONNX Runtime does not run this node, or not to a number."""


def expected(node: OnnxNode) -> Outputs:
    """ONNX Runtime's outputs, with our convention for the last state of an empty row.

    For a row of length 0 it returns a last state of zeros, ours is the initial state; ONNX says
    nothing. Everything else is compared as it is.

    Raises:
        Refused: with its reason.
    """
    outputs = _run(node)
    if not all(np.isfinite(a).all() for a in outputs.values()):
        assert "Softplus" in node.activations, "only its Softplus is known to overflow"
        raise Refused("Softplus as log(1 + exp(a)) is infinite above 88")
    lengths = node.inputs.get("sequence_lens")
    if lengths is None:
        return outputs
    empty = lengths == 0
    assert node.layout == 0, "it refuses the other layout, or did"
    for name, initial in (("Y_h", "initial_h"), ("Y_c", "initial_c")):
        if name in outputs:
            assert not outputs[name][:, empty].any(), f"{name} of an empty row is no longer zero"
            if initial in node.inputs:
                outputs[name][:, empty] = node.inputs[initial][:, empty]
    return outputs


def _run(node: OnnxNode) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a refusal is counted here, not logged
    model = node.to_model().SerializeToString()
    try:
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        arrays = session.run(None, {n: np.ascontiguousarray(a) for n, a in node.inputs.items()})
    except (Fail, NotSupported) as error:
        raise Refused(str(error)) from error
    return dict(zip(node.outputs, arrays, strict=True))
