"""What does a graph compute, and its adjoint? Both, one step after another, without cleverness.

Nothing is moved out of the loop, no two matrices are multiplied as one, and the gradients come
from the adjoint graph alone, without autograd: what every engine does is compared with this.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.declare.adjoint import Backward
from throughtime.declare.graph import Node, gate_name
from throughtime.engine import Inputs, Job
from throughtime.engine.evaluate import evaluate
from throughtime.engine.job import by_gate


def forward(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run a cell forward in time; lengths, resets and learned initial states do not count.

    Shape:
        the output [T, B, O]; each state's last values [D, B, w]; if asked for, each state of every
        step [T, B, w]
    """
    run = _Steps(job, inputs)
    out = [run.forward(t) for t in range(inputs.x.shape[0])]
    depth = job.cell.depth
    last = [torch.stack(past[-depth:]) for past in run.past.values()]
    states = run.past.values() if job.all_states else ()
    every = [torch.stack(past[depth:]) for past in states]
    return (torch.stack(out), *last, *every)


def bptt(job: Job, inputs: Inputs, gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Backpropagate through time by the adjoint graph.

    Args:
        job: What is run.
        inputs: On what.
        gradients: Those of everything that `forward` returns.

    Returns:
        The gradients in the order of `Inputs.flat`.
    """
    run = _Steps(job, inputs)
    for t in range(inputs.x.shape[0]):
        run.forward(t)
    return _Back(run, gradients).run()


class _Steps:
    """The values of every step so far; past[s][D + t] is the state that step t makes."""

    def __init__(self, job: Job, inputs: Inputs) -> None:
        self.job, self.inputs, self.batch = job, inputs, inputs.x.shape[1]
        self.matrices, self.biases = by_gate(job, inputs.weights)
        cell = job.cell
        named = zip(cell.states, inputs.states, strict=True)
        self.past = {s.name: list(history.unbind(0)) for s, history in named}
        self.params = {p.name: v for p, v in zip(cell.params, inputs.params, strict=True)}
        self.extras = {e.name: v for e, v in zip(cell.extras, inputs.extras, strict=True)}
        self.seeds: dict[tuple[str, str | int], Tensor] = {}

    def forward(self, t: int) -> Tensor:
        """Make the states of step t, and what it emits."""
        job, cell = self.job, self.job.cell
        new = self.values(t, cell.new)
        for s, value in zip(cell.states, new, strict=True):
            self.past[s.name].append(self.full(value, job.sizes.of(s.width)))
        parts = zip(self.values(t, cell.out), cell.out, strict=True)
        return torch.cat([self.full(v, job.sizes.of(n.width)) for v, n in parts], -1)

    def full(self, value: Tensor, width: int) -> Tensor:
        """A value with its rows and units spelled out, [B, w]."""
        return value.expand(self.batch, width)

    def values(self, t: int, roots: Sequence[Node]) -> list[Tensor]:
        """The values of some nodes at step t."""
        return evaluate(roots, self.job.sizes, lambda n: self._leaf(t, n), self._product)

    def _leaf(self, t: int, n: Node) -> Tensor:
        x, sizes, now = self.inputs.x, self.job.sizes, self.job.cell.depth + t
        leaf = {
            "x": lambda: x[t],
            "state": lambda: self.past[n.data[0]][now - n.data[1]],
            "new": lambda: self.past[n.data[0]][now],
            "param": lambda: self.params[n.data[0]],
            "extra": lambda: self.extras[n.data[0]][t],
            "constant": lambda: x.new_full((), n.data[0]),
            "reciprocal_width": lambda: x.new_full((), 1.0 / sizes.of(n.data[0])),
            "seed": lambda: self.seeds[n.data],
        }
        return leaf[n.op]()

    def _product(self, n: Node, args: list[Tensor]) -> Tensor:
        if n.op == "transposed":
            return args[0] @ self.matrices[n.data]
        gate = gate_name(n)
        products = [read @ self.matrices[gate, place].T for place, read in enumerate(args)]
        return sum([*products, *self.biases.get(gate, [])], start=args[0].new_zeros(()))


class _Back:
    """The adjoints of all states, and the gradients they lead to."""

    def __init__(self, run: _Steps, gradients: Sequence[Tensor]) -> None:
        self.at, cell = run, run.job.cell
        zeros = [torch.zeros_like(t) for t in run.inputs.flat()]
        count = len(cell.states)
        self.x, self.rest = zeros[0], zeros[1 + count :]
        weights = self.rest[len(run.inputs.initial) :]
        self.matrices, self.biases = by_gate(run.job, weights[: len(run.job.slots)])
        vectors = weights[len(run.job.slots) :]
        self.params = dict(zip(run.params, vectors, strict=False))
        self.extras = dict(zip(run.extras, vectors[len(run.params) :], strict=True))
        self.out = gradients[0]
        # One adjoint a state and time, those before the first step included.
        self.states = {name: [torch.zeros_like(v) for v in past] for name, past in run.past.items()}
        for total, last in zip(self.states.values(), gradients[1 : 1 + count], strict=True):
            self._seed(total[-cell.depth :], last)
        for total, every in zip(self.states.values(), gradients[1 + count :], strict=False):
            self._seed(total[cell.depth :], every)

    def _seed(self, totals: list[Tensor], seeds: Tensor) -> None:
        for total, seed in zip(totals, seeds, strict=True):
            total += seed

    def run(self) -> tuple[Tensor, ...]:
        """Go from the last step to the first; the gradients in the order of `Inputs.flat`."""
        cell, depth = self.at.job.cell, self.at.job.cell.depth
        for t in reversed(range(self.x.shape[0])):
            widths = [self.at.job.sizes.of(n.width) for n in cell.out]
            for i, part in enumerate(self.out[t].split(widths, -1)):
                self.at.seeds["out", i] = part
            self._through(t, cell.adjoint().emit)
            for name, total in self.states.items():
                self.at.seeds["new", name] = total[depth + t]
            self._through(t, cell.adjoint().step)
        return (self.x, *[torch.stack(total[:depth]) for total in self.states.values()], *self.rest)

    def _targets(self, t: int, back: Backward) -> list[tuple[Tensor, Node]]:
        """Each adjoint that one graph gives at step t, and where it is added up."""
        now = self.at.job.cell.depth + t
        found = [(self.states[s][now - lag], g) for (s, lag), g in back.states.items()]
        found += [(self.states[s][now], g) for s, g in back.new.items()]
        found += [(self.params[p], g) for p, g in back.params.items()]
        found += [(self.extras[e][t], g) for e, g in back.extras.items()]
        found += [(bias, g) for gate, g in back.gates.items() for bias in self.biases.get(gate, [])]
        return found + ([(self.x[t], back.x)] if back.x else [])

    def _through(self, t: int, back: Backward) -> None:
        """Carry the seeds of one graph to all that it depends on."""
        at, affines = self.at, self.at.job.cell.affines
        targets = self._targets(t, back)
        gates = [(g, p) for g in back.gates for p, _ in enumerate(affines[g].args)]
        reads = [affines[gate].args[place] for gate, place in gates]
        wanted = [g for _, g in targets] + [back.gates[gate] for gate, _ in gates] + reads
        values = at.values(t, wanted)
        for (target, _), value in zip(targets, values, strict=False):
            full = at.full(value, target.shape[-1])
            target += full.sum(0) if target.dim() == 1 else full
        late = values[len(targets) :]
        for key, gradient, read in zip(gates, late, late[len(gates) :], strict=False):
            matrix = self.matrices[key]
            matrix += at.full(gradient, matrix.shape[0]).T @ at.full(read, matrix.shape[1])
