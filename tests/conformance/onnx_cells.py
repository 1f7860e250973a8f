"""Which recurrence is an ONNX node with a clip or activations of its own? Cells declared for it.

Gates stand in ONNX's order, so that the rows of W, R and B are taken over as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import throughtime as tt
from conformance.onnx_node import OnnxNode

__all__ = [
    "ACTIVATIONS",
    "ALPHA_ALONE",
    "ALPHA_AND_BETA",
    "BOUNDED",
    "OWN_ACTIVATIONS",
    "WITHIN_0_AND_1",
    "declared_cell",
]

Function = Callable[[Any], Any]

# Each takes (value, alpha, beta); the letters and formulas are those of ONNX's RNN operator.
ACTIVATIONS: dict[str, Callable[[Any, float, float], Any]] = {
    "Tanh": lambda a, alpha, beta: tt.tanh(a),
    "Sigmoid": lambda a, alpha, beta: tt.sigmoid(a),
    "Relu": lambda a, alpha, beta: tt.relu(a),
    "Affine": lambda a, alpha, beta: alpha * a + beta,
    "LeakyRelu": lambda a, alpha, beta: tt.where(a >= 0, a, alpha * a),
    "ThresholdedRelu": lambda a, alpha, beta: tt.where(a >= alpha, a, 0.0 * a),
    "ScaledTanh": lambda a, alpha, beta: alpha * tt.tanh(beta * a),
    "HardSigmoid": lambda a, alpha, beta: tt.clamp(alpha * a + beta, 0.0, 1.0),
    "Elu": lambda a, alpha, beta: tt.where(a >= 0, a, alpha * (tt.exp(a) - 1.0)),
    "Softsign": lambda a, alpha, beta: a / (1.0 + abs(a)),
    "Softplus": lambda a, alpha, beta: tt.softplus(a),
}
WITHIN_0_AND_1 = ("Sigmoid", "HardSigmoid")
BOUNDED = (*WITHIN_0_AND_1, "Tanh", "Softsign")
ALPHA_AND_BETA = ("Affine", "ScaledTanh", "HardSigmoid")
ALPHA_ALONE = ("LeakyRelu", "ThresholdedRelu", "Elu")
OWN_ACTIVATIONS = {
    "RNN": ("Tanh",),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
}


def declared_cell(node: OnnxNode) -> tt.Cell:
    """The node's recurrence with its clip, activations, coupling, peepholes and reset."""
    functions = _functions(node)
    clip = node.clip
    bound = (lambda a: a) if clip is None else (lambda a: tt.clamp(a, -clip, clip))
    declare = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}[node.op]
    return declare(node, bound, *functions)


def _functions(node: OnnxNode) -> list[Function]:
    """The node's activations with their constants, which ONNX lists without gaps."""
    alphas, betas = iter(node.alphas), iter(node.betas)
    functions = []
    for name in node.activations or OWN_ACTIVATIONS[node.op]:
        alpha = next(alphas) if name in ALPHA_AND_BETA + ALPHA_ALONE else 0.0
        beta = next(betas) if name in ALPHA_AND_BETA else 0.0
        functions.append(partial(ACTIVATIONS[name], alpha=alpha, beta=beta))
    return functions


def _rnn(node: OnnxNode, bound: Function, f: Function) -> tt.Cell:
    return tt.cell("h", name="onnx_rnn")(lambda x, h: f(bound(tt.affine("a", x, h))))


def _lstm(node: OnnxNode, bound: Function, f: Function, g: Function, h_of: Function) -> tt.Cell:
    peepholes = [tt.Param(f"p_{gate}") for gate in "iof"] if "P" in node.inputs else []
    if node.input_forget:
        peepholes = peepholes[:2]

    def step(x: Any, h: Any, c: Any, **p: Any) -> Any:
        def gate(name: str, a: Any, c: Any) -> Any:
            return f(bound(a + p[f"p_{name}"] * c if f"p_{name}" in p else a))

        i, o = tt.affine("i o", x, h)
        i = gate("i", i, c)
        forget = 1.0 - i if node.input_forget else gate("f", tt.affine("f", x, h), c)
        c = forget * c + i * g(bound(tt.affine("g", x, h)))
        return gate("o", o, c) * h_of(c), c

    return tt.cell("h c", params=peepholes, name="onnx_lstm")(step)


def _gru(node: OnnxNode, bound: Function, f: Function, g: Function) -> tt.Cell:
    def step(x: Any, h: Any) -> Any:
        z, r = (f(bound(gate)) for gate in tt.affine("z r", x, h))
        if node.linear_before_reset:
            n = tt.affine("n_x", x) + r * tt.affine("n_h", h)
        else:
            n = tt.affine("n", x, r * h)
        return (1.0 - z) * g(bound(n)) + z * h

    return tt.cell("h", name="onnx_gru")(step)
