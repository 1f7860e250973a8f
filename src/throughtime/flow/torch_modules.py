"""How are torch.nn's recurrent modules run by our engines? Layer by layer, with their weights.

Between layers dropout is drawn as torch draws it: from torch's generator, in the same order and
layout, so that the same seed gives the same masks. Where it is another one (cuDNN has its own), the
module is compared with torch's native implementation.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from throughtime import engine as engines
from throughtime.cells import CATALOGUE
from throughtime.declare import Cell
from throughtime.declare.slots import Biases, Sizes
from throughtime.engine import Inputs, Job
from throughtime.flow.calls import Runner
from throughtime.nn import single
from throughtime.nn.lengths import pack_like, unpack
from throughtime.nn.named import elman
from throughtime.nn.parameters import names_of
from throughtime.nn.stack import Stack

__all__ = [
    "CELLS",
    "LAYERS",
    "Taken",
    "as_given",
    "cell_job",
    "fork",
    "kind_of",
    "observed",
    "replaced",
    "run_module",
    "take",
]

LAYERS = (nn.RNN, nn.LSTM, nn.GRU)
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell, single.RNNCell, single.LSTMCell, single.GRUCell)


def kind_of(module: nn.Module) -> str:
    """What a module is called, such as "nn.LSTM"; a subclass goes by the name of its base."""
    for known in (*LAYERS, *CELLS[:3]):
        if isinstance(module, known):
            return f"nn.{known.__name__}"
    return f"tt.{type(module).__name__}"


_ONE_AT_A_TIME = threading.RLock()  # the classes belong to all threads


@contextmanager
def replaced(forward: Callable[..., Any], classes: tuple[type, ...]) -> Iterator[None]:
    """Have some classes run `forward(original, module, *args)` as their own forward.

    It is changed in the classes, not in the modules: so a subclass that calls it is reached, too.
    """

    def instead(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda module, *args, **options: forward(original, module, *args, **options)

    with _ONE_AT_A_TIME:
        originals = {known: known.__dict__["forward"] for known in classes}
        try:
            for known, original in originals.items():
                known.forward = instead(original)
            yield
        finally:
            for known, original in originals.items():
                known.forward = original


@contextmanager
def observed(stacks: Sequence[Stack], observer: Any) -> Iterator[None]:
    """Have some of our layers run by an observer."""
    before = [s.observer for s in stacks]
    try:
        for s in stacks:
            s.observer = observer
        yield
    finally:
        for s, old in zip(stacks, before, strict=True):
            if old is None:
                del s.observer
            else:
                s.observer = old


def _cell(module: nn.RNNBase) -> Cell:
    if module.mode == "LSTM":
        return CATALOGUE["lstm_projection" if module.proj_size else "lstm"]
    return CATALOGUE["gru"] if module.mode == "GRU" else elman(module.mode[4:].lower())


def _layers(module: nn.RNNBase) -> list[tuple[Job, tuple[Tensor, ...]]]:
    """The job and the weights of each layer and direction."""
    cell, directions = _cell(module), 1 + module.bidirectional
    biases: Biases = "two" if module.bias else "none"
    # What forward reads; an attribute of the same name may be another tensor (parametrizations).
    weights = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))  # pyright: ignore[reportPrivateUsage]
    output = directions * (module.proj_size or module.hidden_size)
    found = []
    for layer in range(module.num_layers):
        features = output if layer else module.input_size
        sizes = Sizes(features, module.hidden_size, module.proj_size or module.hidden_size)
        for reverse in (False, True)[:directions]:
            names = names_of(
                cell, biases, f"_l{layer}{'_reverse' if reverse else ''}", learned=False
            )
            job = engines.Job(cell, sizes, biases, reverse)
            found.append((job, tuple(weights[name] for name in names.weights)))
    return found


@dataclass
class Taken:
    """A call's arguments as engines take them, and how its results are brought back.

    Attributes:
        x: [T, B, I].
        lengths: [B], or None.
        states: For each layer and direction its states, each [1, B, w].
        packed: The input, if it was packed.
        batched: Whether it had an axis B.
    """

    x: Tensor
    lengths: Tensor | None
    states: list[tuple[Tensor, ...]]
    packed: PackedSequence | None
    batched: bool


def take(module: nn.RNNBase, input: Any, hx: Any) -> Taken:
    """Undo the layout of a call's arguments, which the module itself has checked."""
    packed, lengths, batched = None, None, True
    if isinstance(input, PackedSequence):  # time-major, whatever `batch_first` says
        packed = input
        x, lengths = unpack(packed)
        lengths = lengths.to(x.device)
    elif input.dim() == 2:
        x, batched = input.unsqueeze(1), False
    else:
        x = input.transpose(0, 1) if module.batch_first else input
    count = module.num_layers * (1 + module.bidirectional)
    widths = [module.proj_size or module.hidden_size]
    widths += [module.hidden_size] if module.mode == "LSTM" else []
    if hx is None:
        given = [x.new_zeros(count, x.shape[1], width) for width in widths]
    else:
        given = list(hx) if module.mode == "LSTM" else [hx]
        given = given if batched else [h.unsqueeze(1) for h in given]
    states = [tuple(h[i].unsqueeze(0) for h in given) for i in range(count)]
    return Taken(x, lengths, states, packed, batched)


class Results(NamedTuple):
    """What a module returns, time-major: the output, and for each layer its last states."""

    output: Tensor
    last: list[tuple[Tensor, ...]]


def run_module(module: nn.RNNBase, taken: Taken, runner: Runner) -> Results:
    """All layers of a module, one after the other.

    Args:
        module: One of torch.nn's.
        taken: The arguments.
        runner: Runs each layer and direction.
    """
    x, last = taken.x, []
    layers, directions = _layers(module), 1 + module.bidirectional
    for layer in range(module.num_layers):
        outputs = []
        for place in range(layer * directions, (layer + 1) * directions):
            job, weights = layers[place]
            inputs = Inputs(x, taken.states[place], (), weights, (), (), taken.lengths)
            out, *states = runner(module, layer, job, inputs, engines.run)
            outputs.append(out)
            last.append(tuple(states))
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        if module.training and module.dropout and layer < module.num_layers - 1:
            x = _dropped(x, module.dropout, taken)
    return Results(x, last)


def _dropped(x: Tensor, p: float, taken: Taken) -> Tensor:
    """Dropout as torch draws it: over the packed steps, where they are packed."""
    if taken.packed is None:
        return functional.dropout(x, p)
    packed = pack_like(x, _host(taken.lengths), taken.packed)
    dropped, _ = unpack(packed._replace(data=functional.dropout(packed.data, p)))
    return dropped


def _host(lengths: Tensor | None) -> Tensor:
    assert lengths is not None, "a packed batch has lengths"
    return lengths.cpu()


def as_given(module: nn.RNNBase, taken: Taken, results: Results) -> tuple[Any, Any]:
    """Results in the layout of the module's own."""
    states = [torch.cat(parts) for parts in zip(*results.last, strict=True)]
    states = states if taken.batched else [s.squeeze(1) for s in states]
    output: Any = results.output
    if taken.packed is not None:
        output = pack_like(output, _host(taken.lengths), taken.packed)
    elif not taken.batched:
        output = output.squeeze(1)
    elif module.batch_first:
        output = output.transpose(0, 1)
    return output, tuple(states) if module.mode == "LSTM" else states[0]


@contextmanager
def fork(module: nn.RNNBase, x: Tensor) -> Iterator[None]:
    """Run the module beside itself: no gradients, and torch's generators as if it had not run."""
    devices = [x.device] if x.device.type == "cuda" else []
    native = module.training and module.dropout > 0
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not native),
    ):
        yield


def cell_job(module: Any) -> tuple[Job, tuple[Tensor, ...]]:
    """The job and the weights of a module that takes single steps, torch's or ours."""
    if isinstance(module, nn.LSTMCell | single.LSTMCell):
        cell = CATALOGUE["lstm"]
    elif isinstance(module, nn.GRUCell | single.GRUCell):
        cell = CATALOGUE["gru"]
    else:
        cell = elman(module.nonlinearity)
    biases: Biases = "two" if module.bias else "none"
    sizes = Sizes(module.input_size, module.hidden_size, module.hidden_size)
    weights = names_of(cell, biases, "", learned=False).weights
    return engines.Job(cell, sizes, biases), tuple(getattr(module, name) for name in weights)
