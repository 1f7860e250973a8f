"""How far is a layer of ours from torch.nn's, in every output, state and gradient?"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import throughtime as tt
from conformance.faults import BreakLayer, unbroken
from tolerances import TOLERANCE, error_to_largest

__all__ = ["CELLS", "FORMS", "LAYERS", "agrees", "arguments", "errors", "leaves", "pair", "results"]

Options = dict[str, Any]

T, B, I, H, P = 6, 4, 3, 5, 2  # all differ: a swapped axis cannot pass
FORMS = ("batched", "unbatched", "packed", "packed in any order")

_KINDS: tuple[tuple[str, Options], ...] = (
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": P}),
    ("GRU", {}),
)
_EVERY_OPTION = {
    "num_layers": (1, 2, 3),
    "bias": (True, False),
    "batch_first": (False, True),
    "bidirectional": (False, True),
}
LAYERS: tuple[tuple[str, Options], ...] = tuple(
    (name, own | dict(zip(_EVERY_OPTION, chosen, strict=True)))
    for name, own in _KINDS
    for chosen in product(*_EVERY_OPTION.values())
)
CELLS: tuple[tuple[str, Options], ...] = tuple(
    (name, own | {"bias": bias})
    for name, own in (
        ("RNNCell", {"nonlinearity": "tanh"}),
        ("RNNCell", {"nonlinearity": "relu"}),
        ("LSTMCell", {}),
        ("GRUCell", {}),
    )
    for bias in (True, False)
)


def pair(name: str, options: Options, engine: str = "auto") -> tuple[nn.Module, nn.Module]:
    """Our layer and torch's with the same float64 weights, N(0, 0.5)."""
    theirs = getattr(nn, name)(I, H, **options, dtype=torch.float64)
    generator = torch.Generator().manual_seed(H)
    for weight in theirs.parameters():
        nn.init.normal_(weight, 0.0, 0.5, generator=generator)
    ours = getattr(tt, name)(I, H, **options, dtype=torch.float64, engine=engine)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def arguments(name: str, options: Options, form: str, *, state: bool) -> dict[str, Tensor]:
    """x and, if wanted, the initial states by name; N(0, 1)."""
    batch = () if form == "unbatched" else (B,)
    if name.endswith("Cell"):
        shapes, lead = {"x": (*batch, I)}, ()
    else:
        batched_x = (B, T, I) if options["batch_first"] else (T, B, I)
        shapes = {"x": batched_x if batch else (T, I)}
        lead = (options["num_layers"] * (2 if options["bidirectional"] else 1),)
    if state:
        shapes["h_0"] = (*lead, *batch, options.get("proj_size") or H)
        if name.startswith("LSTM"):
            shapes["c_0"] = (*lead, *batch, H)
    generator = torch.Generator().manual_seed(T)
    return {
        key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in shapes.items()
    }


def results(layer: nn.Module, given: dict[str, Tensor], form: str) -> dict[str, Tensor]:
    """Every output, last state and gradient of one call, by name."""
    roots = {key: value.clone().requires_grad_() for key, value in given.items()}
    states = tuple(value for key, value in roots.items() if key != "x")
    hx = None if not states else states if len(states) > 1 else states[0]
    found = dict(leaves("result", layer(_arranged(layer, roots["x"], form), hx)))
    loss = sum((v * _cosines(v)).sum() for v in found.values() if v.is_floating_point())
    roots |= {n.removeprefix("layer."): p for n, p in layer.named_parameters()}
    gradients = torch.autograd.grad(loss, list(roots.values()))
    found |= {f"gradient of {key}": g for key, g in zip(roots, gradients, strict=True)}
    return {key: value.detach() for key, value in found.items()}


def _arranged(layer: nn.Module, x: Tensor, form: str) -> Tensor | PackedSequence:
    if not form.startswith("packed"):
        return x
    in_order = form == "packed"
    lengths = [6, 4, 4, 1] if in_order else [4, 1, 6, 4]
    batch_first = getattr(layer, "layer", layer).batch_first
    return pack_padded_sequence(x, lengths, batch_first, enforce_sorted=in_order)


def _cosines(value: Tensor) -> Tensor:
    """Fixed weights for a loss in which every element counts differently."""
    return torch.arange(value.numel(), dtype=value.dtype).cos().reshape(value.shape)


def leaves(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a result, by where they stand in it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, PackedSequence):
        for key, part in value._asdict().items():
            yield from leaves(f"{name}.{key}", part)
    elif value is not None:
        for index, part in enumerate(value):
            yield from leaves(f"{name}[{index}]", part)


def errors(
    name: str,
    options: Options,
    form: str,
    *,
    state: bool,
    engine: str = "auto",
    break_layer: BreakLayer = unbroken,
) -> dict[str, float]:
    """The error of every result, over its largest element."""
    ours, theirs = pair(name, options, engine)
    given = arguments(name, options, form, state=state)
    got, want = results(break_layer(ours), given, form), results(theirs, given, form)
    assert got.keys() == want.keys()
    return {key: error_to_largest(got[key], want[key]) for key in want}


def agrees(
    name: str,
    options: Options,
    form: str,
    break_layer: BreakLayer = unbroken,
    *,
    state: bool = True,
) -> bool:
    """Whether every result is within the tolerance."""
    found = errors(name, options, form, state=state, break_layer=break_layer)
    return max(found.values()) <= TOLERANCE["torch.nn", torch.float64].bound
