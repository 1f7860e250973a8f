"""Which configurations can be asked of ONNX Runtime? One at random for each seed.

Weights are N(0, 0.5), inputs and initial states N(0, 1): larger ones saturate the gates and hide
mistakes, equal ones hide transposed and permuted matrices.
"""

from typing import Any

import numpy as np

from conformance.onnx_cells import (
    ACTIVATIONS,
    ALPHA_ALONE,
    ALPHA_AND_BETA,
    BOUNDED,
    OWN_ACTIVATIONS,
    WITHIN_0_AND_1,
)
from conformance.onnx_node import OnnxNode

__all__ = ["plain_node", "random_node"]

Generator = np.random.Generator
N_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def random_node(seed: int) -> OnnxNode:
    """A node with everything drawn: sizes, direction, layout, inputs given, activations, clip."""
    rng = np.random.default_rng(seed)
    op = str(rng.choice(["RNN", "LSTM", "GRU"]))
    T, B, I, H = (int(rng.integers(1, top)) for top in (10, 6, 7, 9))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    inputs = _inputs(rng, op, 2 if direction == "bidirectional" else 1, T, B, I, H)
    optional = ["B", "initial_h", "initial_c", "P"]
    kept = {name: a for name, a in inputs.items() if name not in optional or rng.random() < 0.6}
    if rng.random() < 0.6:
        kept["sequence_lens"] = rng.integers(0, T + 1, B).astype(np.int32)
    node = OnnxNode(
        op,
        kept,
        direction,
        outputs=("Y", "Y_h", "Y_c") if op == "LSTM" else ("Y", "Y_h"),
        **_options(rng, op),
    )
    return node.other_layout() if rng.random() < 0.2 else node


def plain_node(
    op: str,
    direction: str,
    *,
    ragged: bool,
    sizes: tuple[int, int, int, int],
    seed: int,
    peepholes: bool = False,
) -> OnnxNode:
    """A node with every input given and the operator's own activations, reset after."""
    rng = np.random.default_rng(seed)
    inputs = _inputs(rng, op, 2 if direction == "bidirectional" else 1, *sizes)
    if not peepholes:
        inputs.pop("P", None)
    if ragged:
        T, B = sizes[:2]
        inputs["sequence_lens"] = rng.permutation(np.linspace(0, T, B).astype(np.int32))
    outputs = ("Y", "Y_h", "Y_c") if op == "LSTM" else ("Y", "Y_h")
    return OnnxNode(op, inputs, direction, linear_before_reset=int(op == "GRU"), outputs=outputs)


def _inputs(
    rng: Generator, op: str, n_directions: int, T: int, B: int, I: int, H: int
) -> dict[str, np.ndarray]:
    rows = N_GATES[op] * H
    shapes = {
        "X": (T, B, I),
        "W": (n_directions, rows, I),
        "R": (n_directions, rows, H),
        "B": (n_directions, 2 * rows),
        "initial_h": (n_directions, B, H),
    }
    if op == "LSTM":
        shapes |= {"initial_c": (n_directions, B, H), "P": (n_directions, 3 * H)}
    std = {"W": 0.5, "R": 0.5, "B": 0.5, "P": 0.5}
    return {
        name: rng.normal(0.0, std.get(name, 1.0), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


# What the drop-ins and the catalogue's cells compute; 60 % of what is asked for.
_KNOWN = {
    "RNN": ({}, {"activations": ("Relu",)}, {"activations": ("Sigmoid",)}),
    "LSTM": ({}, {"input_forget": 1}, {"activations": ("Sigmoid", "Sigmoid", "Tanh")}),
    "GRU": ({},),
}


def _options(rng: Generator, op: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if op == "GRU":
        options["linear_before_reset"] = int(rng.integers(2))
    if rng.random() < 0.6:
        plain = rng.random() < 0.5
        return options | _KNOWN[op][0 if plain else int(rng.integers(len(_KNOWN[op])))]
    if op == "LSTM" and rng.random() < 0.4:
        options["input_forget"] = 1
    if rng.random() < 0.4:
        options["clip"] = float(np.float32(rng.uniform(0.3, 3.0)))
    if rng.random() < 0.6:
        options |= _activations(rng, op)
    return options


def _activations(rng: Generator, op: str) -> dict[str, Any]:
    """Any activations; gates keep ones whose product over time does not overflow."""
    first = {"RNN": list(ACTIVATIONS), "LSTM": BOUNDED, "GRU": WITHIN_0_AND_1}[op]
    others = [str(rng.choice(list(ACTIVATIONS))) for _ in OWN_ACTIVATIONS[op][1:]]
    names = (str(rng.choice(first)), *others)
    n_alphas = sum(name in ALPHA_AND_BETA + ALPHA_ALONE for name in names)
    n_betas = sum(name in ALPHA_AND_BETA for name in names)
    return {
        "activations": names,
        "alphas": tuple(float(a) for a in rng.uniform(0.2, 0.9, n_alphas).astype(np.float32)),
        "betas": tuple(float(b) for b in rng.uniform(0.2, 0.9, n_betas).astype(np.float32)),
    }
