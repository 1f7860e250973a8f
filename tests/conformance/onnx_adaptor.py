"""Which layer of ours computes an ONNX node, with which weights?

A layer has a forward or both directions; a node of direction reverse is the reverse half of a
bidirectional layer whose forward half holds other weights, so a wrong half cannot pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import throughtime as tt
from conformance.faults import BreakLayer, unbroken
from conformance.onnx_cells import OWN_ACTIVATIONS, declared_cell
from conformance.onnx_node import OnnxNode, Outputs
from throughtime.cells import CATALOGUE

__all__ = ["evaluate", "layer_kind"]


@dataclass(frozen=True)
class LayerKind:
    """A layer's constructor and where ONNX's blocks of rows go in it.

    Attributes:
        name: What it is counted under.
        make: The constructor, without sizes.
        blocks: ONNX's number of each of our blocks, in our order.
        two_biases: Whether it keeps torch's two biases apart.
        negated: Our blocks whose rows are negated: a gate that is one minus ONNX's.
    """

    name: str
    make: Callable[..., nn.Module]
    blocks: tuple[int, ...]
    two_biases: bool = True
    negated: tuple[int, ...] = ()


def _catalogued(name: str, blocks: tuple[int, ...], negated: tuple[int, ...] = ()) -> LayerKind:
    make = partial(tt.Recurrent, CATALOGUE[name])
    return LayerKind(name, make, blocks, two_biases=False, negated=negated)


_IFGO, _RZN = (0, 2, 3, 1), (1, 0, 2)  # ONNX has i o f g, z r n

# What is asked of a node: operator, activations, and which of P, input_forget and
# linear_before_reset it has.
_KINDS = {
    ("RNN", "Tanh", ""): LayerKind("tt.RNN", tt.RNN, (0,)),
    ("RNN", "Relu", ""): LayerKind("tt.RNN relu", partial(tt.RNN, nonlinearity="relu"), (0,)),
    ("RNN", "Sigmoid", ""): _catalogued("rnn_sigmoid", (0,)),
    ("LSTM", "Sigmoid Tanh Tanh", ""): LayerKind("tt.LSTM", tt.LSTM, _IFGO),
    ("LSTM", "Sigmoid Tanh Tanh", "P"): _catalogued("lstm_peephole", _IFGO),
    ("LSTM", "Sigmoid Sigmoid Tanh", ""): _catalogued("lstm_sigmoid", _IFGO),
    # Ours keeps f with i = 1 - f, ONNX keeps i; 1 - sigmoid(a) = sigmoid(-a).
    ("LSTM", "Sigmoid Tanh Tanh", "input_forget"): _catalogued("lstm_coupled", (0, 3, 1), (0,)),
    ("GRU", "Sigmoid Tanh", "linear_before_reset"): LayerKind("tt.GRU", tt.GRU, _RZN),
    ("GRU", "Sigmoid Tanh", ""): _catalogued("gru_reset_before", _RZN),
}


def layer_kind(node: OnnxNode) -> LayerKind:
    """The drop-in or the catalogue's cell where there is one, else a cell declared for the node."""
    activations = " ".join(node.activations or OWN_ACTIVATIONS[node.op])
    asked = {
        "P": "P" in node.inputs,
        "input_forget": node.input_forget,
        "linear_before_reset": node.linear_before_reset,
    }
    variant = (node.op, activations, " ".join(name for name, value in asked.items() if value))
    return _KINDS[variant] if variant in _KINDS and node.clip is None else _declared(node)


def _declared(node: OnnxNode) -> LayerKind:
    """Gates in ONNX's order, without f where it is coupled to i."""
    n_blocks = node.inputs["R"].shape[1] // node.hidden_size
    blocks = tuple(i for i in range(n_blocks) if not (node.input_forget and i == 2))
    make = partial(tt.Recurrent, declared_cell(node))
    return LayerKind("declared", make, blocks, two_biases=False)


def evaluate(
    node: OnnxNode, *, engine: str = "auto", break_layer: BreakLayer = unbroken
) -> Outputs:
    """The node's outputs by our layer, after `break_layer` had its way with it."""
    inputs = {name: torch.as_tensor(a.copy()) for name, a in node.inputs.items()}
    kind = layer_kind(node)
    layer = _layer(node, kind, inputs, engine)
    with torch.no_grad():
        result = break_layer(layer)(
            inputs["X"], _initial(node, inputs), lengths=inputs.get("sequence_lens")
        )
    return _outputs(node, *result)


def _layer(node: OnnxNode, kind: LayerKind, inputs: dict[str, Tensor], engine: str) -> nn.Module:
    layer = kind.make(
        input_size=node.inputs["W"].shape[2],
        hidden_size=node.hidden_size,
        bias="B" in inputs,
        batch_first=bool(node.layout),
        bidirectional=node.direction != "forward",
        engine=engine,
    )
    weights: dict[str, Tensor] = {}
    halves = [_weights(node, kind, inputs, d) for d in range(node.n_directions)]
    if node.direction == "reverse":
        halves.insert(0, {name: -w for name, w in halves[0].items()})
    for suffix, half in zip(("", "_reverse"), halves, strict=False):
        weights |= {f"{name}_l0{suffix}": w for name, w in half.items()}
    layer.load_state_dict(weights)
    return layer


def _weights(
    node: OnnxNode, kind: LayerKind, inputs: dict[str, Tensor], direction: int
) -> dict[str, Tensor]:
    """One direction's parameters by the names of the layer, without layer and direction."""

    def rows(stacked: Tensor) -> Tensor:
        blocks = stacked.split(node.hidden_size)
        ours = [blocks[i] for i in kind.blocks]
        return torch.cat([-w if i in kind.negated else w for i, w in enumerate(ours)])

    weights = {"weight_ih": rows(inputs["W"][direction]), "weight_hh": rows(inputs["R"][direction])}
    if "B" in inputs:
        weights |= _biases(node, kind, *map(rows, inputs["B"][direction].chunk(2)))
    if "P" in inputs:
        peepholes = zip("iof", inputs["P"][direction].split(node.hidden_size), strict=True)
        unread = "f" if node.input_forget else ""
        weights |= {f"p_{gate}": p for gate, p in peepholes if gate != unread}
    return weights


def _biases(node: OnnxNode, kind: LayerKind, of_x: Tensor, of_h: Tensor) -> dict[str, Tensor]:
    if kind.two_biases:
        return {"bias_ih": of_x, "bias_hh": of_h}
    if node.op == "GRU" and node.linear_before_reset:  # n has a gate of x and a gate of h
        gates = 2 * node.hidden_size
        sums = of_x[:gates] + of_h[:gates]
        return {"bias": torch.cat([sums, of_x[gates:], of_h[gates:]])}
    return {"bias": of_x + of_h}


def _initial(node: OnnxNode, inputs: dict[str, Tensor]) -> Tensor | tuple[Tensor, ...] | None:
    names = ("initial_h", "initial_c")[: 2 if node.op == "LSTM" else 1]
    if not any(name in inputs for name in names):
        return None
    B = node.inputs["X"].shape[1 - node.layout]
    zeros = torch.zeros(node.n_directions, B, node.hidden_size)
    states = []
    for name in names:
        state = inputs.get(name, zeros if not node.layout else zeros.transpose(0, 1))
        state = state.transpose(0, 1) if node.layout else state
        reverse = node.direction == "reverse"
        states.append(torch.cat([-state, state]) if reverse else state)
    return tuple(states) if node.op == "LSTM" else states[0]


def _outputs(node: OnnxNode, output: Tensor, states: Tensor | tuple[Tensor, ...]) -> Outputs:
    """Y [T, dirs, B, H] and the states [dirs, B, H]; layout 1 puts B first."""
    h, *c = states if isinstance(states, tuple) else (states,)
    y = output.unflatten(2, (-1, node.hidden_size))  # both layouts hold B and T in front
    y = y if node.layout else y.transpose(1, 2)
    found = {"Y_h": h, "Y_c": c[0] if c else None}
    found = {name: s[-node.n_directions :] for name, s in found.items() if s is not None}
    if node.layout:
        found = {name: s.transpose(0, 1) for name, s in found.items()}
    found["Y"] = y[:, :, -node.n_directions :] if node.layout else y[:, -node.n_directions :]
    return {name: np.asarray(found[name]) for name in node.outputs}
