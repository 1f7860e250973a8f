"""What does one ONNX RNN, LSTM or GRU node say?"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

__all__ = ["INPUT_NAMES", "OnnxNode", "Outputs", "batch_major"]

Outputs = dict[str, np.ndarray]

INPUT_NAMES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OPSET = 22
_IR_VERSION = 10  # the one ONNX published with opset 22


@dataclass(frozen=True)
class OnnxNode:
    """One node and its inputs; the letters are those of the ONNX operator documents.

    Shape:
        X [T, B, I], W [dirs, G*H, I], R [dirs, G*H, H], B [dirs, 2*G*H], P [dirs, 3*H],
        sequence_lens [B], initial_h and initial_c [dirs, B, H]; layout 1 puts B first.
    """

    op: Literal["RNN", "LSTM", "GRU"]
    inputs: dict[str, np.ndarray]
    direction: Literal["forward", "reverse", "bidirectional"] = "forward"
    layout: Literal[0, 1] = 0
    linear_before_reset: Literal[0, 1] = 0
    input_forget: Literal[0, 1] = 0
    clip: float | None = None
    activations: tuple[str, ...] = ()  # of one direction; empty: the operator's own
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()
    outputs: tuple[str, ...] = field(default=("Y", "Y_h"))

    @classmethod
    def from_model(cls, model: onnx.ModelProto, arrays: list[np.ndarray]) -> "OnnxNode":
        """The only node of a test case's model with the case's input arrays."""
        (proto,) = model.graph.node
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        attributes.pop("hidden_size")  # R has it
        direction = attributes.pop("direction", b"forward").decode()
        given = [name for name, value in zip(INPUT_NAMES, proto.input, strict=False) if value]
        outputs = tuple(value for value in proto.output if value)
        inputs = dict(zip(given, arrays, strict=True))
        return cls(proto.op_type, inputs, direction, outputs=outputs, **attributes)

    @property
    def hidden_size(self) -> int:
        return self.inputs["R"].shape[2]

    @property
    def n_directions(self) -> int:
        return self.inputs["W"].shape[0]

    def other_layout(self) -> "OnnxNode":
        """The same node with B and T in the other order."""
        batched = ("X", "initial_h", "initial_c")
        swapped = {n: a.swapaxes(0, 1) if n in batched else a for n, a in self.inputs.items()}
        return replace(self, inputs=swapped, layout=1 - self.layout)

    def to_model(self) -> onnx.ModelProto:
        """A model of this node alone."""
        last = max(INPUT_NAMES.index(name) for name in self.inputs)
        names = [name if name in self.inputs else "" for name in INPUT_NAMES[: last + 1]]
        node = helper.make_node(self.op, names, list(self.outputs), **self._attributes())
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in self.inputs.items()
        ]
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        graph = helper.make_graph([node], "node", values, results)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)

    def _attributes(self) -> dict[str, object]:
        repeated = {
            "activations": self.activations,
            "activation_alpha": self.alphas,
            "activation_beta": self.betas,
        }
        own = {"GRU": ("linear_before_reset",), "LSTM": ("input_forget",), "RNN": ()}[self.op]
        return (
            {"hidden_size": self.hidden_size, "direction": self.direction, "layout": self.layout}
            | {name: list(value) * self.n_directions for name, value in repeated.items() if value}
            | {name: getattr(self, name) for name in own}
            | ({} if self.clip is None else {"clip": self.clip})
        )


def batch_major(outputs: Outputs) -> Outputs:
    """Outputs of layout 0 in layout 1: Y [B, T, dirs, H], states [B, dirs, H]."""
    axes = {"Y": (2, 0, 1, 3)}
    return {name: a.transpose(axes.get(name, (1, 0, 2))) for name, a in outputs.items()}
