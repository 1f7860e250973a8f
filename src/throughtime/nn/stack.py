"""How does a batch run through the layers? One over the other, in one direction or two."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from throughtime import engine as engines
from throughtime.declare import Cell
from throughtime.nn import connections
from throughtime.nn.activation_l1 import with_activation_l1
from throughtime.nn.extras import extra_values
from throughtime.nn.init import Initialiser
from throughtime.nn.omega import probed_job, with_omega
from throughtime.nn.parameters import bounded, is_bounded, stored_name
from throughtime.nn.penalties import Penalties, Penalty
from throughtime.nn.runs import Run, initialise, prepare_all, tensors, weights_in_use
from throughtime.nn.states import LayerState
from throughtime.nn.weight_drop import dropped


class Batch(NamedTuple):
    """A call's inputs, time-major and checked."""

    x: Tensor
    lengths: Tensor | None
    reset: Tensor | None
    extras: Mapping[str, Any]
    all_states: bool
    products: str | None


Sequence = Callable[[engines.Job, engines.Inputs], tuple[Tensor, ...]]
Observer = Callable[["Stack", int, engines.Job, engines.Inputs, Sequence], tuple[Tensor, ...]]
"""Runs what it is given in place of the layer: which one, its number, what is asked, and how."""


class Stack(nn.Module):
    """The layers of `Recurrent` and what runs over them.

    Attributes:
        cell: The recurrence.
        num_layers, dropout, bidirectional, engine, init, weight_drop, activation_l1, omega,
            connections, recompute: As in `Recurrent`.
        observer: What stands between the layers and their engine, if anything does.
        _runs: Each layer and direction.
        _joined: The layers whose input goes past them, too, with their width.
        _penalties: What they were when last computed.
    """

    cell: Cell
    num_layers: int
    dropout: float
    bidirectional: bool
    engine: str
    init: tuple[Initialiser, ...]
    weight_drop: float
    activation_l1: float
    omega: float
    connections: connections.Connections
    recompute: bool = False  # layers pickled before there was the option are read, too
    observer: Observer | None = None
    _runs: list[Run]
    _joined: dict[int, int]
    _penalties: Penalties

    @property
    def directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 1 + self.bidirectional

    @property
    def output_size(self) -> int:
        """O, features of the output."""
        return self.directions * self._runs[-1].jobs[False, None].output_size

    def _connect(self, like: Tensor) -> None:
        """Find the layers that are joined, and give them what they need."""
        self._joined = connections.joined_widths(self.connections, self._runs, self.directions)
        if self.connections == "highway":
            connections.register(self, self._joined, like)

    def reset_parameters(self) -> None:
        """Initialise: matrices and biases evenly in +-1/sqrt(H), as torch; then as `init` says."""
        for run in self._runs:
            initialise(self, self.cell, run, self.init)
        if self.connections == "highway":
            connections.initialise(self, self._joined)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepare a copied or loaded layer as a new one is."""
        super().__setstate__(state)
        prepare_all(self._runs)

    def __getattr__(self, name: str) -> Any:
        """Find a bounded param, which is kept as its raw tensor, under its own name."""
        runs = self.__dict__.get("_runs", [])
        for run in runs:
            if name in run.names.params:
                param = self.cell.params[run.names.params.index(name)]
                if is_bounded(param):
                    return bounded(getattr(self, stored_name(name, param)), param)
        return super().__getattr__(name)

    def penalties(self) -> dict[str, float]:
        """What is penalised, before its weight, summed over layers and directions, for logs.

        Returns:
            "activation_l1" of the last call in training, and "omega" of the last backward pass;
            only those that were computed.
        """
        return self._penalties.totals()

    def _stack(
        self, batch: Batch, start: list[LayerState]
    ) -> tuple[Tensor, list[LayerState], list[LayerState]]:
        """All layers, one after the other: output, last states, states of every step."""
        x, last, every = batch.x, [], []
        for layer in range(self.num_layers):
            outputs = []
            for place in range(layer * self.directions, (layer + 1) * self.directions):
                run = self._runs[place]
                out, final, states = self._one(run, batch._replace(x=x), start[place])
                outputs.append(out)
                last.append(final)
                every.append(states)
            y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            x = connections.join(self, layer, x, y, batch.lengths) if layer in self._joined else y
            if self.dropout and layer < self.num_layers - 1:
                x = functional.dropout(x, self.dropout, self.training)
        return x, last, every

    def _one(
        self, run: Run, batch: Batch, start: LayerState
    ) -> tuple[Tensor, LayerState, LayerState]:
        """One layer in one direction."""
        job = run.jobs[batch.all_states, batch.products]
        inputs = self._inputs(run, batch, start)
        log = (self._penalties, run.suffix)

        def sequence(job: engines.Job, inputs: engines.Inputs) -> tuple[Tensor, ...]:
            if self._learning and self.omega:
                return with_omega(job, inputs, self.engine, Penalty(self.omega, *log))
            return engines.run(job, inputs, self.engine, recompute=self.recompute)

        if self.observer is None:
            found = sequence(job, inputs)
        else:
            found = self.observer(self, run.layer, job, inputs, sequence)
        if self._learning and self.activation_l1:
            found = with_activation_l1(found, batch.lengths, Penalty(self.activation_l1, *log))
        out, *states = found
        count = len(self.cell.states)
        return out, tuple(states[:count]), tuple(states[count:])

    @property
    def _learning(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _job(self, run: Run, all_states: bool, products: str | None) -> engines.Job:
        """What an engine is asked: with probes, where Omega needs them."""
        job = run.jobs[all_states, products]
        return probed_job(job) if self._learning and self.omega else job

    def _inputs(self, run: Run, batch: Batch, start: LayerState) -> engines.Inputs:
        weights = weights_in_use(self, run)
        if self.weight_drop and self.training:
            weights = dropped(run.jobs[False, None], weights, self.weight_drop)
        return engines.Inputs(
            x=batch.x,
            states=start,
            initial=tensors(self, run.names.initial),
            weights=weights,
            params=tensors(self, run.names.params),
            extras=extra_values(
                self.cell,
                batch.extras,
                run.sizes,
                batch.x,
                batch.reset,
                start[0].dtype,
                training=self.training,
            ),
            lengths=batch.lengths,
            reset=batch.reset,
        )
