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
from throughtime.flow.calls import Call, Gradients, Sequence_, all_states, kept, largest_difference
from throughtime.flow.function_steps import StepCall, by_row, called, joined_steps
from throughtime.flow.joined import joined
from throughtime.flow.loops import Carried, Changed, sequences
from throughtime.flow.passage import Passage
from throughtime.flow.schedule import Schedule
from throughtime.flow.sealed import is_sealed, sealed_in
from throughtime.flow.step_modules import StepModules
from throughtime.flow.torch_modules import (
    CELLS,
    LAYERS,
    as_given,
    cell_job,
    fork,
    kind_of,
    observed,
    replaced,
    run_module,
    take,
)
from throughtime.nn.stack import Stack

__all__ = ["Watch", "watching"]

_LOOKED_FOR = (
    "throughtime's layers, nn.RNN, nn.LSTM, nn.GRU, nn.*Cell called in a loop, and modules whose "
    "output comes back as their next input. A step written out in a loop is seen once it is a "
    "module of its own; or give the step itself, f(x_t, state) -> state"
)


class Watch:
    """What was seen of a model's recurrent layers.

    Attributes:
        model: What to compute the loss with.
        refused: What could not be examined, and why, by name.
        steps: The modules that may be steps of the user's own.
    """

    def __init__(self, model: Any) -> None:
        self.model, self._given = model, model
        self.refused: dict[str, str] = {}
        self._calls: list[Call] = []
        self._function_calls: list[StepCall] = []
        self._modules = _recurrent(model) if isinstance(model, nn.Module) else {}
        self._strangers: dict[str, None] = {}  # that were called, but are no part of the model
        self.steps = StepModules(_candidates(model, self._modules))
        if not isinstance(model, nn.Module):
            if not callable(model):
                raise ConfigError(
                    f"the model is a {type(model).__name__}; expected an nn.Module, or a function "
                    f"f(x_t, state) -> state."
                )
            self.model = self._function_step

    def _function_step(self, x: Any, state: Any) -> Any:
        """Take a step of a callable, and keep what it did."""
        call, handed = called(self._given, x, state, first=not self._function_calls)
        self._function_calls.append(call)
        return handed

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
            self._strangers[kind_of(module)] = None
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
        _check_scalar(loss)
        found = [*self._sequences(), *self._step_sequences()]
        sealed = sealed_in(self._given)
        self.refused.update(sealed)
        if not found and not self._modules and (sealed or loss.requires_grad):
            raise ConfigError(self._nothing(sealed))
        _check_graph(loss)
        gradients = Gradients(loss, [c for _, _, s in found for c in s.calls])
        passages: list[Passage] = []
        for name, kind, sequence in found:
            reached = _reached(sequence.calls, gradients)
            if not reached.any():
                self.refused[name] = _unreached(sequence.calls, gradients)
                continue
            chosen = _chosen(reached, rows, seed)
            error = max(call.replay_error for call in sequence.calls)
            join = joined if isinstance(sequence.calls[0], Call) else joined_steps
            try:
                passages.append(join(sequence, gradients, chosen).named(name, kind, error))
            except Changed as reason:
                self.refused[name] = str(reason)
        return passages

    def _nothing(self, sealed: dict[str, str]) -> str:
        """That there is no recurrent layer, and why that may be."""
        text = f"found no recurrent layer in {type(self._given).__name__}; "
        if sealed:
            return text + "; ".join(f"{name} is {why}" for name, why in sealed.items()) + "."
        if self._strangers:
            return text + (
                f"{', '.join(self._strangers)} ran, but is no part of it. Keep layers as "
                "attributes or in an nn.ModuleList, no plain list, or give the model that has them."
            )
        return text + f"looked for {_LOOKED_FOR}."

    def schedule(self) -> Schedule:
        """Where in its sequence each call stood; what `resetting` needs of models that step."""
        found = Schedule()
        for key, calls in self._groups().items():
            try:
                apart = sequences(calls)
            except Changed:  # whatever was done to it in between, it goes on
                apart = [Carried(calls)]
            found.add(key, calls, apart)
        if self._function_calls:
            key = self._function_calls[0].key
            found.add(key, self._function_calls, sequences(self._function_calls))
        self.steps.schedule(found, self._examined())
        return found

    def _groups(self) -> dict[tuple[int, int, bool], list[Call]]:
        """The calls of each layer and direction."""
        groups: dict[tuple[int, int, bool], list[Call]] = {}
        for call in self._calls:
            groups.setdefault(call.key, []).append(call)
        return groups

    def _sequences(self) -> list[tuple[str, str, Carried]]:
        """Each layer, direction and sequence: its name, its kind, its calls."""
        groups = self._groups()
        called = {key[0] for key in groups}
        for key, (path, module) in self._modules.items():
            if key not in called:
                self.refused[path or type(module).__name__] = "it was not called"
        found: list[tuple[str, str, Carried]] = []
        for calls in groups.values():
            name, kind = self._name(calls[0]), _kind(calls[0].owner)
            try:
                found += _numbered(name, kind, sequences(calls))
            except Changed as reason:
                self.refused[name] = str(reason)
        return found

    def _step_sequences(self) -> list[tuple[str, str, Carried]]:
        """The same for steps of the user's own."""
        if self._function_calls:
            name = getattr(self._given, "__name__", type(self._given).__name__)
            return _numbered(name, "function", sequences(self._function_calls))
        found: list[tuple[str, str, Carried]] = []
        for path, module, apart in self.steps.sequences(self._examined()):
            kind = type(module).__name__
            found += _numbered(path or kind, kind, apart)
            for part, own in self._modules.values():  # what it does with its parts is seen as well
                if any(own is m for m in module.modules()):
                    self.refused.pop(part or type(own).__name__, None)
        return found

    def _examined(self) -> list[nn.Module]:
        """The known layers that can be followed; what a whole does to others, it is seen to do."""
        followed: dict[int, bool] = {}
        for (owner, _, _), calls in self._groups().items():
            try:
                sequences(calls)
            except Changed:
                followed[owner] = False
            followed.setdefault(owner, True)
        return [m for key, (_, m) in self._modules.items() if followed.get(key)]

    def _name(self, call: Call) -> str:
        path, module = self._modules[id(call.owner)]
        layers = getattr(module, "num_layers", 1)
        layer = f" l{call.layer}" if layers > 1 else ""
        return (path or type(module).__name__) + layer + (" reverse" if call.job.reverse else "")


def _recurrent(model: nn.Module) -> dict[int, tuple[str, nn.Module]]:
    """The layers and cells that are known, with their names, by identity."""
    named = list(model.named_modules())
    inside = {id(m) for _, s in named if isinstance(s, Stack) for m in s.modules() if m is not s}
    return {
        id(module): (_path(name), module)
        for name, module in named
        if isinstance(module, (Stack, *LAYERS, *CELLS)) and id(module) not in inside
    }


def _candidates(model: Any, known: dict[int, Any]) -> dict[str, nn.Module]:
    """Modules that may be steps of the user's own, by name."""
    if not isinstance(model, nn.Module):
        return {}
    inside = {id(m) for _, own in known.values() for m in own.modules()}
    return {
        _path(name): module
        for name, module in model.named_modules()
        if id(module) not in inside
        and not type(module).__module__.startswith(("torch.nn.", "torch._dynamo"))
        and not is_sealed(module)
        and any(True for _ in module.parameters())
    }


def _path(name: str) -> str:
    """A module's name without what torch.compile adds to it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _numbered(name: str, kind: str, apart: list[Carried]) -> list[tuple[str, str, Carried]]:
    several = len(apart) > 1
    return [(f"{name} call {n}" if several else name, kind, s) for n, s in enumerate(apart, 1)]


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


def _chosen(reached: Tensor, most: int, seed: int) -> Tensor:
    """Which rows are looked at, in order; of those that an error reaches. [rows]."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(reached), generator=generator)
    return drawn[reached.cpu()[drawn]][:most].sort().values


def _reached(calls: Sequence[Call | StepCall], gradients: Gradients) -> Tensor:
    """The rows that any error comes to. [B]."""
    found = torch.zeros(calls[0].rows, dtype=torch.bool, device=calls[0].last[0].device)
    for call in calls:
        for tensor in call.arrived():
            gradient = gradients.of(tensor)
            if gradient is not None:
                by_rows = gradient if isinstance(call, Call) else by_row(gradient)
                found |= by_rows.ne(0).any(-1).any(0)  # NaN is not zero
    return found


def _unreached(calls: Sequence[Call | StepCall], gradients: Gradients) -> str:
    """Why no error comes to a layer."""
    if not calls[0].rows:
        return "its batch has no rows"
    if not any(t.requires_grad for call in calls for t in call.arrived()):
        return "it ran without gradients (torch.no_grad, or a checkpoint with use_reentrant=True)"
    if any(gradients.reach(call) for call in calls):
        return "the gradient of the loss that reaches it is exactly zero"
    return "no gradient of the loss reaches it: the loss does not use it, or it is detached"


def _check_scalar(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError(f"the loss is {what}; expected a scalar tensor. Take its mean.")


def _check_graph(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ConfigError(
            "the loss has no graph; compute it from the model's output with gradients enabled "
            "(no torch.no_grad, no .item(), no .detach())."
        )


@contextmanager
def watching(model: Any) -> Iterator[Watch]:
    """Watch the recurrent layers of a model while its loss is computed.

    Args:
        model: Any nn.Module; or a function f(x_t, state) -> state, a tensor or a tuple of them,
            which the loss must then call as `watch.model`.

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
        stack.enter_context(watch.steps.watched())
        stack.enter_context(observed(watch.stacks, watch.own_layer))
        yield watch
