"""Which mistakes must a conformance suite see? Each is put into a working layer on purpose."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FAULTS", "BreakLayer", "Broken", "Fault", "unbroken"]

BreakLayer = Callable[[nn.Module], nn.Module]

Weights = dict[str, Tensor]
WeightEdit = Callable[[Weights, int], Weights]
StateEdit = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
CallEdit = Callable[[nn.Module, Tensor, Any, dict[str, Any]], tuple[Tensor, Any, dict[str, Any]]]

N_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Fault:
    """One mistake in the weights (state dict, units) or in the call (layer, x, hx, keywords).

    Attributes:
        equivalent: Why no suite can see it; empty for a mistake that must be caught.
    """

    name: str
    weights: WeightEdit | None = None
    call: CallEdit | None = None
    equivalent: str = ""


class Broken(nn.Module):
    """A copy of a layer that makes a mistake.

    Attributes:
        changed: Whether the mistake made a difference to the weights or to the call.
    """

    def __init__(self, layer: nn.Module, fault: Fault) -> None:
        super().__init__()
        self.layer, self.call = copy.deepcopy(layer), fault.call
        self.changed = False
        if fault.weights is not None:
            right = self.layer.state_dict()
            wrong = {n: w.clone() for n, w in fault.weights(right, layer.hidden_size).items()}
            self.changed = any(not torch.equal(wrong[name], w) for name, w in right.items())
            self.layer.load_state_dict(wrong)

    def forward(self, x: Tensor, hx: Any = None, **keywords: Any) -> Any:
        if self.call is not None:
            right = (x, hx, keywords.get("lengths"))
            x, hx, keywords = self.call(self.layer, x, hx, dict(keywords))
            self.changed |= not _same(right, (x, hx, keywords.get("lengths")))
        return self.layer(x, hx, **keywords)


def unbroken(layer: nn.Module) -> nn.Module:
    """Make no mistake."""
    return layer


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return torch.equal(a, b) if both else a is b


# --- mistakes in the weights


def _each(kind: str, edit: Callable[[Tensor, int], Tensor]) -> WeightEdit:
    """Edit every tensor whose name begins so."""
    return lambda weights, units: {
        name: edit(w, units) if name.startswith(kind) else w for name, w in weights.items()
    }


def _gate_order(order: tuple[int, ...]) -> Fault:
    def edit(weights: Weights, units: int) -> Weights:
        rows = units * len(order)
        stacked = ("weight_ih", "weight_hh", "bias")
        return {
            name: torch.cat([w.split(units)[i] for i in order])
            if name.startswith(stacked) and w.shape[0] == rows
            else w
            for name, w in weights.items()
        }

    return Fault(f"gates in order {order}", edit)


def _transposed(kind: str) -> Fault:
    def edit(w: Tensor, units: int) -> Tensor:
        square = w.shape[1] == units
        return torch.cat([block.T for block in w.split(units)]) if square else w

    return Fault(f"{kind} transposed", _each(kind, edit))


def _dropped(kind: str) -> Fault:
    return Fault(f"{kind} dropped", _each(kind, lambda w, units: w * 0))


def _dropped_in_gate(kind: str, gate: int) -> Fault:
    def edit(w: Tensor, units: int) -> Tensor:
        kept = torch.ones_like(w)
        kept[gate * units : (gate + 1) * units] = 0
        return w * kept

    return Fault(f"{kind} dropped in gate {gate}", _each(kind, edit))


def _renamed(name: str, rename: Callable[[str], str], equivalent: str = "") -> Fault:
    """Tensors under each other's names, where their shapes agree."""

    def edit(weights: Weights, units: int) -> Weights:
        taken = {n: weights.get(rename(n), w) for n, w in weights.items()}
        return {n: taken[n] if taken[n].shape == w.shape else w for n, w in weights.items()}

    return Fault(name, edit, equivalent=equivalent)


def _other_direction(name: str) -> str:
    return name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"


def _exchanged(a: str, b: str) -> Callable[[str], str]:
    """Rename what begins with a to begin with b, and the reverse; both of one length."""
    other = {a: b, b: a}
    return lambda name: other.get(name[: len(a)], name[: len(a)]) + name[len(a) :]


_other_bias = _exchanged("bias_ih", "bias_hh")


def _gate_biases_swapped(weights: Weights, units: int) -> Weights:
    """b_ih and b_hh under each other's names in GRU's r and z alone."""
    swapped = {n: weights[_other_bias(n)] for n in weights if n.startswith("bias_")}
    first_two = {
        n: torch.cat([w[: 2 * units], weights[n][2 * units :]]) for n, w in swapped.items()
    }
    return weights | first_two


# --- mistakes in the call


def _states(change: StateEdit) -> CallEdit:
    def edit(layer: nn.Module, x: Tensor, hx: Any, keywords: dict[str, Any]) -> Any:
        if hx is None:
            return x, hx, keywords
        changed = change(hx if isinstance(hx, tuple) else (hx,))
        return x, changed if isinstance(hx, tuple) else changed[0], keywords

    return edit


def _time_reversed(layer: nn.Module, x: Tensor, hx: Any, keywords: dict[str, Any]) -> Any:
    if not hasattr(layer, "batch_first"):  # a single step has no time
        return x, hx, keywords
    return x.flip(1 if layer.batch_first and x.dim() == 3 else 0), hx, keywords


def _lengths(change: Callable[[Tensor], Tensor | None]) -> CallEdit:
    def edit(layer: nn.Module, x: Tensor, hx: Any, keywords: dict[str, Any]) -> Any:
        lengths = keywords.get("lengths")
        return x, hx, keywords if lengths is None else keywords | {"lengths": change(lengths)}

    return edit


def _of_every_layer(n_gates: int) -> Iterator[Fault]:
    for order in permutations(range(n_gates)):
        if order != tuple(range(n_gates)):
            yield _gate_order(order)
    for kind in ("weight_ih", "weight_hh"):
        yield _transposed(kind)
        yield _dropped(kind)
        yield from (_dropped_in_gate(kind, gate) for gate in range(n_gates) if n_gates > 1)
    for kind in ("bias_ih", "bias_hh", "bias"):
        yield _dropped(kind)
    yield _renamed("directions swapped", _other_direction)
    yield Fault("initial h dropped", call=_states(lambda s: (s[0] * 0, *s[1:])))
    yield Fault(
        "rows of the states shifted", call=_states(lambda s: tuple(a.roll(1, -2) for a in s))
    )
    yield Fault("time reversed", call=_time_reversed)
    yield Fault("lengths ignored", call=_lengths(lambda n: None))
    yield Fault("lengths one short", call=_lengths(lambda n: (n - 1).clamp(min=0)))


_ADDED = "both biases enter one pre-activation as their sum"

FAULTS: dict[str, tuple[Fault, ...]] = {
    "RNN": (*_of_every_layer(1), _renamed("biases swapped", _other_bias, _ADDED)),
    "LSTM": (
        *_of_every_layer(4),
        _renamed("biases swapped", _other_bias, _ADDED),
        Fault("initial c dropped", call=_states(lambda s: (*s[:-1], s[-1] * 0))),
        Fault(
            "h and c swapped", call=_states(lambda s: s[::-1] if s[0].shape == s[-1].shape else s)
        ),
        _dropped("weight_hr"),
        *(_dropped(f"p_{gate}") for gate in "ifo"),
        *(
            _renamed(f"p_{a} and p_{b} swapped", _exchanged(f"p_{a}", f"p_{b}"))
            for a, b in ("if", "io", "fo")
        ),
    ),
    "GRU": (
        *_of_every_layer(3),
        _renamed("biases swapped", _other_bias),
        Fault("biases swapped in r and z", _gate_biases_swapped, equivalent=_ADDED),
    ),
}
