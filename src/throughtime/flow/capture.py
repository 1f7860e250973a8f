"""What did the recurrent layers of a model do, while its loss was computed?

Every layer is run by our engines with the states of all steps kept, in place of the module's own
forward, which runs beside it for comparison. The values that the model goes on with are ours, so
the gradients of the user's loss are gradients of what was kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from throughtime import engine as engines
from throughtime.engine import Inputs, Job
from throughtime.errors import ConfigError, ShapeError
from throughtime.flow.calls import Call, Sequence_, all_states, kept, largest_difference
from throughtime.flow.joined import Gradients, joined
from throughtime.flow.loops import Changed, sequences
from throughtime.flow.passage import Passage
from throughtime.flow.torch_modules import (
    CELLS,
    LAYERS,
    as_given,
    cell_job,
    fork,
    kind_of,
    replaced,
    run_module,
    take,
)
from throughtime.nn.stack import Stack

__all__ = ["Watch", "watching"]

_LOOKED_FOR = "throughtime's layers, nn.RNN, nn.LSTM, nn.GRU, and nn.*Cell called in a loop"


class Watch:
    """What was seen of a model's recurrent layers.

    Attributes:
        model: What to compute the loss with.
        refused: What could not be examined, and why, by name.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.refused: dict[str, str] = {}
        self._calls: list[Call] = []
        named = list(model.named_modules())
        inside = {
            id(m) for _, s in named if isinstance(s, Stack) for m in s.modules() if m is not s
        }
        self._modules = {
            id(module): (name.replace("_orig_mod.", "").removesuffix("_orig_mod"), module)
            for name, module in named
            if isinstance(module, (Stack, *LAYERS, *CELLS)) and id(module) not in inside
        }

    @property
    def stacks(self) -> list[Stack]:
        """Those of its layers that are ours."""
        return [m for _, m in self._modules.values() if isinstance(m, Stack)]

    def layer(
        self, module: Any, layer: int, job: Job, inputs: Inputs, sequence: Sequence_
    ) -> tuple[Tensor, ...]:
        """Run one layer and direction, and keep what it did."""
        call, handed = kept(module, layer, job, inputs, sequence)
        self._calls.append(call)
        return handed

    def own_layer(
        self, module: Any, layer: int, job: Job, inputs: Inputs, sequence: Sequence_
    ) -> tuple[Tensor, ...]:
        """The same for our layers, compared with what they do without being watched."""
        handed = self.layer(module, layer, job, inputs, sequence)
        with torch.no_grad():
            own = sequence(job, inputs)
        self._calls[-1].replay_error = largest_difference(handed, own)
        return handed

    def forward(self, original: Any, module: Any, *args: Any, **options: Any) -> Any:
        """Run one of torch's modules, or a cell."""
        if id(module) not in self._modules:
            return original(module, *args, **options)
        if isinstance(module, CELLS):
            return self._step(original, module, *args, **options)
        return self._sequence(original, module, *args, **options)

    def _sequence(self, original: Any, module: nn.RNNBase, input: Any, hx: Any = None) -> Any:
        with fork(module, input.data if hasattr(input, "batch_sizes") else input):
            own, own_last = original(module, input, hx)
        before, taken = len(self._calls), take(module, input, hx)
        results = run_module(module, taken, self.layer)
        output, last = as_given(module, taken, results)
        error = largest_difference(_tensors((output, last)), _tensors((own, own_last)))
        for call in self._calls[before:]:
            call.replay_error = error
        return output, last

    def _step(self, original: Any, module: Any, input: Tensor, hx: Any = None) -> Any:
        job, weights = cell_job(module)
        count, shape = len(job.cell.states), (*input.shape[:-1], module.hidden_size)
        given = hx if count > 1 and hx is not None else (hx,) * count
        rows = input.reshape(1, -1, module.input_size)
        lifted = tuple(
            (input.new_zeros(shape) if h is None else h).reshape(1, rows.shape[1], -1)
            for h in given
        )

        def own(_: Job, inputs: Inputs) -> tuple[Tensor, ...]:
            states = tuple(s.reshape(shape) for s in inputs.states)
            found = original(module, input, states if count > 1 else states[0])
            new = [s.unsqueeze(0) for s in (found if count > 1 else (found,))]
            new = [s.reshape(1, rows.shape[1], -1) for s in new]
            return (new[0], *new, *new)

        handed = self.layer(module, 0, job, Inputs(rows, lifted, (), weights, (), ()), own)
        call = self._calls[-1]
        with torch.no_grad():
            replayed = engines.run(all_states(job), call.inputs)
        call.replay_error = largest_difference(replayed[1 : 1 + count], call.last)
        states = tuple(s.reshape(shape) for s in handed[1 : 1 + count])
        return states if count > 1 else states[0]

    def passages(self, loss: Any, rows: int = 8, seed: int = 0) -> list[Passage]:
        """What each layer, direction and sequence did, and which error came in where.

        Args:
            loss: What the user's loss returned.
            rows: How many rows of the batch are looked at, at most.
            seed: Which ones.

        Returns:
            One passage for each, in the order in which they were called. What could not be
            examined stands in `refused`.

        Raises:
            ConfigError: there is no recurrent layer, or the loss has no graph.
            ShapeError: the loss is no scalar.
        """
        _check_loss(loss)
        found = self._sequences()
        gradients = Gradients(loss, [c for _, _, s in found for c in s.calls])
        passages: list[Passage] = []
        for name, kind, sequence in found:
            if not any(gradients.reach(call) for call in sequence.calls):
                self.refused[name] = "no gradient of the loss reaches it: the loss does not use it"
                continue
            chosen = _chosen(sequence.calls[0].rows, rows, seed)
            error = max(call.replay_error for call in sequence.calls)
            passages.append(joined(sequence, gradients, chosen).named(name, kind, error))
        return passages

    def _sequences(self) -> list[tuple[str, str, Any]]:
        """Each layer, direction and sequence: its name, its kind, its calls."""
        if not self._modules:
            raise ConfigError(
                f"found no recurrent layer in {type(self.model).__name__}; looked for "
                f"{_LOOKED_FOR}."
            )
        groups: dict[tuple[int, int, bool], list[Call]] = {}
        for call in self._calls:
            groups.setdefault(call.key, []).append(call)
        called = {key[0] for key in groups}
        for key, (path, module) in self._modules.items():
            if key not in called:
                self.refused[path or type(module).__name__] = "it was not called"
        found = []
        for calls in groups.values():
            name, kind = self._name(calls[0]), _kind(calls[0].owner)
            try:
                apart = sequences(calls)
            except Changed as reason:
                self.refused[name] = str(reason)
                continue
            for number, sequence in enumerate(apart, 1):
                suffix = f" call {number}" if len(apart) > 1 else ""
                found.append((f"{name}{suffix}", kind, sequence))
        return found

    def _name(self, call: Call) -> str:
        path, module = self._modules[id(call.owner)]
        layers = getattr(module, "num_layers", 1)
        layer = f" l{call.layer}" if layers > 1 else ""
        return (path or type(module).__name__) + layer + (" reverse" if call.job.reverse else "")


def _kind(module: nn.Module) -> str:
    if isinstance(module, Stack) and type(module).__name__ == "Recurrent":
        return f"Recurrent({module.cell.name})"
    return kind_of(module)


def _tensors(results: Any) -> list[Tensor]:
    """The tensors in what a module returned."""
    if isinstance(results, Tensor):
        return [results]
    if hasattr(results, "batch_sizes"):
        return [results.data]
    return [t for part in results for t in _tensors(part)]


def _chosen(rows: int, most: int, seed: int) -> Tensor:
    """Which rows are looked at, in order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(rows, generator=generator)[:most].sort().values


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError(f"the loss is {what}; expected a scalar tensor. Take its mean.")
    if not loss.requires_grad:
        raise ConfigError(
            "the loss has no graph; compute it from the model's output with gradients enabled "
            "(no torch.no_grad, no .item(), no .detach())."
        )


@contextmanager
def watching(model: Any) -> Iterator[Watch]:
    """Watch the recurrent layers of a model while its loss is computed.

    Args:
        model: Any nn.Module.

    Returns:
        A context that gives a `Watch`. The values and gradients are the model's own up to
        rounding; torch's generator is consumed as without it.

    Example:
        >>> import torch
        >>> model = torch.nn.LSTM(3, 4)
        >>> with watching(model) as watch:
        ...     loss = watch.model(torch.randn(6, 2, 3))[0][-1].square().sum()
        >>> [(p.name, p.steps.states) for p in watch.passages(loss)]
        [('LSTM', ('h', 'c'))]
    """
    watch = Watch(model)
    with ExitStack() as stack:
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(replaced(watch.forward, (*LAYERS, *CELLS)))
        stack.enter_context(_observed(watch.stacks, watch.own_layer))
        yield watch


@contextmanager
def _observed(stacks: Sequence[Stack], observer: Any) -> Iterator[None]:
    before = [s._observer for s in stacks]
    try:
        for s in stacks:
            s._observer = observer
        yield
    finally:
        for s, old in zip(stacks, before, strict=True):
            if old is None:
                del s._observer
            else:
                s._observer = old
