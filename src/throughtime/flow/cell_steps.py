"""How is an adjoint pulled back through a step of a declared cell? By its adjoint graph.

Everything in that graph that does not depend on the adjoint is computed for all steps at once;
a step is then a few products and sums for as many vectors as one likes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from throughtime.declare.graph import LEAVES, Node, gate_name, rewrite, walk
from throughtime.engine.evaluate import evaluate, operation
from throughtime.engine.job import Inputs, Job, by_gate
from throughtime.flow.linear import Pulled

__all__ = ["CellSteps", "emitted_adjoints"]


class CellSteps:
    """The steps of a call of a declared cell, linearised; see `linear.LinearSteps`.

    Args:
        job: The cell and its sizes.
        inputs: Of the call, in the order of steps.
        history: Each state's last D values before each step, newest last.

    Attributes:
        gates: The pre-activation of each gate at every step.
        reads: What each matrix reads, by (gate, number of the read).
        matrices: Each matrix, likewise.
        inputs, history: As given.

    Shape:
        history: each [D, T, B, w]; gates, reads: [T, B, w]
    """

    def __init__(self, job: Job, inputs: Inputs, history: Sequence[Tensor]) -> None:
        self.job = _unclipped(job)
        cell = self.job.cell
        self.depth = cell.depth
        self.inputs, self.history = inputs, tuple(history)
        self.count, self.rows = inputs.x.shape[:2]
        moving = [s for s in cell.states if not s.clock]
        self.states = tuple(s.name for s in moving)
        self.widths = tuple(job.sizes.of(s.width) for s in moving)
        self.matrices, self._biases = by_gate(job, inputs.weights)
        back = cell.adjoint().step
        self._past = {(self.states.index(s), lag): g for (s, lag), g in back.states.items()}
        self._gates = back.gates
        roots = (*self._past.values(), *self._gates.values())
        self._linear = _seeded(roots)
        self._known = self._coefficients()

    def _coefficients(self) -> dict[Node, Tensor]:
        """What the linear part multiplies by, for all steps; and what gates and reads are."""
        cell = self.job.cell
        used = {a: None for n in self._linear for a in n.args if a not in self._linear}
        affines = [n for n in walk(cell.new) if n.op == "affine"]
        wanted = list(used) + affines + [read for n in affines for read in n.args]
        found = dict(zip(wanted, self.values(wanted), strict=True))
        self.gates = {gate_name(n): found[n] for n in affines}
        self.reads = {(gate_name(n), i): found[r] for n in affines for i, r in enumerate(n.args)}
        return {n: found[n] for n in used}

    def values(self, nodes: Sequence[Node], part: slice = slice(None)) -> list[Tensor]:
        """The values of nodes of the step's graph at some steps.

        Shape:
            each [T, B, w] or, where it depends on params alone, what broadcasts to it
        """
        names = [s.name for s in self.job.cell.states]
        past = dict(zip(names, [h[:, part] for h in self.history], strict=True))
        extras = tuple(e[part] for e in self.inputs.extras)
        inputs = self.inputs._replace(x=self.inputs.x[part], extras=extras)
        leaf = _leaves(self.job, inputs, past=past)
        return evaluate(nodes, self.job.sizes, leaf, self._affine)

    def of_rows(self, rows: Sequence[int]) -> "CellSteps":
        """The steps of some rows alone."""
        index = list(rows)
        extras = tuple(e[:, index] for e in self.inputs.extras)
        inputs = self.inputs._replace(x=self.inputs.x[:, index], extras=extras)
        return CellSteps(self.job, inputs, [h[:, :, index] for h in self.history])

    def _affine(self, n: Node, args: list[Tensor]) -> Tensor:
        return _affine(n, args, self.matrices, self._biases)

    def pulled(self, t: int, adjoints: Sequence[Tensor]) -> Pulled:
        """Pull adjoints back through step t."""
        seeds = dict(zip(self.states, adjoints, strict=True))
        values: dict[Node, Any] = {n: self._at(t, v) for n, v in self._known.items()}
        for n in self._linear:
            if n.op == "seed":
                values[n] = seeds[n.data[1]]
            elif n.op == "transposed":
                values[n] = values[n.args[0]] @ self.matrices[n.data]
            else:
                values[n] = operation(n, self.job.sizes)(*[values[a] for a in n.args])
        shape, sizes = adjoints[0].shape[:2], self.job.sizes

        def full(g: Node) -> Tensor:
            return values[g].expand(*shape, sizes.of(g.width))

        past = {key: full(g) for key, g in self._past.items() if g in values}
        return Pulled(past, {gate: full(g) for gate, g in self._gates.items() if g in values})

    def _at(self, t: int, value: Tensor) -> Tensor:
        """The value of step t; what depends on params alone has no time."""
        return value[t] if value.dim() == 3 else value


def _unclipped(job: Job) -> Job:
    """The job without `clip_adjoint`: an error that is clipped is no linear map of itself."""
    new = rewrite(job.cell.new, lambda n: n.args[0] if n.op == "clip_adjoint" else n)
    return job if new == job.cell.new else replace(job, cell=replace(job.cell, new=new), memo={})


def _seeded(roots: Sequence[Node]) -> dict[Node, None]:
    """The nodes below the roots that depend on a seed, in order."""
    found: dict[Node, None] = {}
    for n in walk(roots):
        if n.op == "seed" or any(a in found for a in n.args):
            found[n] = None
    return found


def _leaves(job: Job, inputs: Inputs, **given: Mapping[Any, Tensor]) -> Any:
    """Gives the value of a leaf at all steps."""
    cell, x = job.cell, inputs.x
    params = {p.name: v for p, v in zip(cell.params, inputs.params, strict=True)}
    extras = {e.name: v for e, v in zip(cell.extras, inputs.extras, strict=True)}

    def leaf(n: Node) -> Tensor:
        assert n.op in LEAVES, f"{n.op} is no leaf"
        if n.op == "x":
            return x
        if n.op == "state":
            return given["past"][n.data[0]][-n.data[1]]
        if n.op in {"new", "seed"}:
            return given[n.op][n.data[0] if n.op == "new" else n.data[1]]
        if n.op in {"param", "extra"}:
            return (params if n.op == "param" else extras)[n.data[0]]
        number = n.data[0] if n.op == "constant" else 1.0 / job.sizes.of(n.data[0])
        return x.new_full((), number)

    return leaf


def _affine(
    n: Node,
    args: list[Tensor],
    matrices: Mapping[tuple[str, int], Tensor],
    biases: Mapping[str, list[Tensor]],
) -> Tensor:
    if n.op == "transposed":
        return args[0] @ matrices[n.data]
    gate = gate_name(n)
    parts = [read @ matrices[gate, place].T for place, read in enumerate(args)]
    return sum([*parts, *biases.get(gate, [])], start=args[0].new_zeros(()))


def emitted_adjoints(
    job: Job, inputs: Inputs, new: Sequence[Tensor], out_gradient: Tensor
) -> dict[str, Tensor]:
    """What a gradient of the output is for the new states of the same step, by state.

    Shape:
        new: each [T, B, w]; out_gradient: [T, B, O]; result: each [T, B, w]
    """
    cell, sizes = job.cell, job.sizes
    matrices, biases = by_gate(job, inputs.weights)
    parts = out_gradient.split([sizes.of(n.width) for n in cell.out], -1)
    states = dict(zip([s.name for s in cell.states], new, strict=True))
    leaf = _leaves(job, inputs, new=states, seed=dict(enumerate(parts)))
    back = cell.adjoint().emit.new
    values = evaluate(
        list(back.values()), sizes, leaf, lambda n, args: _affine(n, args, matrices, biases)
    )
    return {name: v.expand_as(states[name]) for name, v in zip(back, values, strict=True)}
