"""What is the truth? The traced graph run step by step in plain PyTorch operations.

Every other engine is tested against this one. It is differentiable any number of times, under any
torch.func transform. What does not depend on a past state is computed for all steps at once,
before or after the loop (the regions of `declare.regions`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Node, has_bias, terms
from throughtime.declare.regions import AFTER, BEFORE, LOOP, ONCE, region_of
from throughtime.engine.evaluate import Instruction, Program, run
from throughtime.engine.job import Inputs, Job, fresh_states, joined_rows, rows


class Plan(NamedTuple):
    """A job's graph as instructions over numbered places, by region.

    Attributes:
        size: How many places there are.
        leaves: (kind, number or index, place) of every value that is given.
        stages: The instructions of each region.
        timed: The values computed before the loop that the loop reads, one slice a step.
        past: (state, lag, place) of each past state that the step reads.
        new: The place of each next state.
        emitted: (state, place) of each new state that emit reads.
        out: (place, width) of what is emitted.
    """

    size: int
    leaves: tuple[tuple[str, float, int], ...]
    stages: dict[str, list[Instruction]]
    timed: tuple[int, ...]
    past: tuple[tuple[int, int, int], ...]
    new: tuple[int, ...]
    emitted: tuple[tuple[int, int], ...]
    out: tuple[tuple[int, int], ...]


class _Planner:
    """Writes the instructions of a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.program = Program(job.sizes)
        self.region = region_of(job.cell.new)
        emitted = region_of(job.cell.out)
        self.region |= {n: AFTER for n, r in emitted.items() if n not in self.region and r != ONCE}
        self.region |= {n: r for n, r in emitted.items() if n not in self.region}
        self.stages: dict[str, list[Instruction]] = {ONCE: [], BEFORE: [], LOOP: [], AFTER: []}
        self.dtype = getattr(torch, job.products) if job.products else None
        self.matrices: dict[tuple[str, int], tuple[int, slice]] = {}
        self.biases: dict[str, list[tuple[int, slice]]] = {}
        for index, slot in enumerate(job.slots):
            for piece, part in rows(job, slot):
                if piece.place is None:
                    self.biases.setdefault(piece.gate, []).append((index, part))
                else:
                    self.matrices[piece.gate, piece.place] = (index, part)
        self.groups = self._product_groups()
        self.done: set[Any] = set()

    def _product_groups(self) -> dict[tuple[str, int], tuple[tuple[str, int], ...]]:
        """For each matrix all those of its slot that read the same: they are multiplied as one."""
        found: dict[tuple[int, Node], list[tuple[str, int]]] = {}
        for gate, affine in self.job.cell.affines.items():
            for place, read in enumerate(affine.args):
                slot, _ = self.matrices[gate, place]
                found.setdefault((slot, read), []).append((gate, place))
        return {member: tuple(group) for group in found.values() for member in group}

    def write(self) -> dict[str, list[Instruction]]:
        """All stages, in the order of the graph."""
        for n, region in self.region.items():
            if n.op == "affine":
                self._affine(n, region)
            else:
                self.stages[region] += self.program.pointwise([n])
        return self.stages

    def _affine(self, n: Node, region: str) -> None:
        """The sum of a gate's products and bias; what reads x is summed before the loop."""
        gate = n.data[0]
        early = [self._product(n, p, BEFORE) for p, t in enumerate(terms(n)) if t.kind == "input"]
        late = [self._product(n, p, region) for p, t in enumerate(terms(n)) if t.kind != "input"]
        bias = [self._bias(gate)] if has_bias(n) and gate in self.biases else []
        if early and late:
            self._sum(BEFORE, early + bias, ("input part", gate))
            self._sum(region, [self.program.of(("input part", gate)), *late], n)
        else:
            self._sum(region, early + late + bias, n)

    def _sum(self, region: str, parts: list[int], key: Any) -> None:
        add = Instruction(_total, tuple(parts), (self.program.of(key),))
        self.stages[region].append(add)

    def _bias(self, gate: str) -> int:
        """The place of a gate's bias: the sum of its rows in the bias tensors."""
        indices, parts = zip(*self.biases[gate], strict=True)
        places = tuple(self.program.of(("weight", index)) for index in indices)
        target = self.program.of(("bias", gate))
        self.stages[ONCE].append(Instruction(partial(_sliced_total, parts), places, (target,)))
        return target

    def _product(self, n: Node, place: int, region: str) -> int:
        """The place of one matrix times what it reads; one multiplication for its whole group."""
        gate, read = n.data[0], n.args[place]
        members = self.groups[gate, place]
        if members not in self.done:
            self.done.add(members)
            parts = [self.matrices[member][1] for member in members]
            weight = self.program.of(("weight", self.matrices[gate, place][0]))
            block = self.program.of(("rows", members))
            self.stages[ONCE].append(
                Instruction(partial(joined_rows, parts=parts), (weight,), (block,))
            )
            sizes = [part.stop - part.start for part in parts]
            multiply = partial(_products, sizes, self.dtype)
            targets = tuple(self.program.of(("product", *member)) for member in members)
            self.stages[region].append(
                Instruction(multiply, (self.program.of(read), block), targets)
            )
        return self.program.of(("product", gate, place))


def _total(*parts: Tensor) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _sliced_total(parts: tuple[slice, ...], *weights: Tensor) -> Tensor:
    return _total(*[w[part] for w, part in zip(weights, parts, strict=True)])


def _products(sizes: list[int], dtype: torch.dtype | None, read: Tensor, rows: Tensor) -> Any:
    if dtype is None:
        product = functional.linear(read, rows)
    else:
        product = functional.linear(read.to(dtype), rows.to(dtype)).to(rows.dtype)
    return product if len(sizes) == 1 else product.split(sizes, -1)


def prepare(job: Job) -> Plan:
    """Plan a job, once; the plan is kept with the job."""
    plan = job.memo.get("reference")
    if plan is None:
        plan = job.memo["reference"] = _planned(job)
    return plan


def _planned(job: Job) -> Plan:
    planner = _Planner(job)
    stages = planner.write()
    place, cell = planner.program.of, job.cell
    state = {s.name: i for i, s in enumerate(cell.states)}
    new, out = tuple(map(place, cell.new)), tuple(map(place, cell.out))
    before = {target for i in stages[BEFORE] for target in i.targets}
    before |= {place(n) for n, r in planner.region.items() if r == BEFORE}
    read = {arg for i in stages[LOOP] for arg in i.args} | set(new)
    nodes = {op: [n for n in planner.region if n.op == op] for op in ("state", "new")}
    return Plan(
        leaves=tuple(_leaves(job, planner.program)),
        stages=stages,
        timed=tuple(sorted(before & read)),
        past=tuple((state[n.data[0]], n.data[1], place(n)) for n in nodes["state"]),
        new=new,
        emitted=tuple((state[n.data[0]], place(n)) for n in nodes["new"]),
        out=tuple((p, job.sizes.of(n.width)) for p, n in zip(out, cell.out, strict=True)),
        size=len(planner.program.place),
    )


def _leaves(job: Job, program: Program) -> Iterator[tuple[str, float, int]]:
    """What each given value is, and its place."""
    index = {("param", p.name): i for i, p in enumerate(job.cell.params)}
    index |= {("extra", e.name): i for i, e in enumerate(job.cell.extras)}
    for key, place in program.place.items():
        if not isinstance(key, Node):
            if key[0] == "weight":
                yield "weight", key[1], place
        elif key.op == "x":
            yield "x", 0, place
        elif key.op in {"param", "extra"}:
            yield key.op, index[key.op, key.data[0]], place
        elif key.op == "constant":
            yield "number", key.data[0], place
        elif key.op == "reciprocal_width":
            yield "number", 1.0 / job.sizes.of(key.data[0]), place


def sequence(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run a cell over a sequence.

    Args:
        job: What is asked.
        inputs: The tensors.

    Returns:
        The output, the last D values of every state, and the states of every step if asked for.

    Shape:
        output: [T, B, O]; states: each [D, B, w]; states of every step: each [T, B, w]
    """
    plan = prepare(job)
    with without_autocast(inputs.x):  # `job.products` says what is rounded
        return _Run(job, plan, inputs).outputs()


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on x's device; it knows no meta device, and refuses to be asked."""
    kind = x.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


class _Run:
    """One call: the values, the masks, the history of every state."""

    def __init__(self, job: Job, plan: Plan, inputs: Inputs) -> None:
        self.job, self.plan, self.steps = job, plan, inputs.x.shape[0]
        self.valid = self._valid(inputs)
        self.inputs = inputs if self.valid is None else self._without_padding(inputs)
        self.reset = self._resets()
        self.fresh = fresh_states(job, inputs)
        self.values: list[Any] = [None] * plan.size
        pairs = zip(job.cell.states, inputs.states, strict=True)
        self.history = [list((h.detach() if s.clock else h).unbind(0)) for s, h in pairs]
        self.every: dict[int, list[Tensor]] = {}

    def _valid(self, inputs: Inputs) -> Tensor | None:
        """[T, B, 1]: whether a step lies within its row's length."""
        if inputs.lengths is None:
            return None
        step = torch.arange(self.steps, device=inputs.x.device)
        return (step[:, None] < inputs.lengths.to(inputs.x.device)[None, :]).unsqueeze(-1)

    def _without_padding(self, inputs: Inputs) -> Inputs:
        # Replaced, not just ignored: a NaN in the padding would come back as 0 * NaN in dW. So
        # would one made there: extras are 1, where a logarithm or a quotient has a value.
        pairs = zip(self.job.cell.extras, inputs.extras, strict=True)
        extras = tuple(
            self._filled(e, 1.0 if kind.eval is None else kind.eval) for kind, e in pairs
        )
        return inputs._replace(x=self._zeroed(inputs.x), extras=extras)

    def _filled(self, a: Tensor, value: float) -> Tensor:
        return a if self.valid is None else torch.where(self.valid, a, a.new_full((), value))

    def _zeroed(self, a: Tensor) -> Tensor:
        return self._filled(a, 0.0)

    def _resets(self) -> list[Tensor] | None:
        """For each step, which rows start anew before it is processed: [B, 1]."""
        reset = self.inputs.reset
        if reset is None:
            return None
        reset = reset.unsqueeze(-1)
        if self.valid is not None:
            reset = reset & self.valid
        if self.job.reverse:  # the border before step t + 1 is met after t + 1, before t
            reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
        return list(reset.unbind(0))

    def outputs(self) -> tuple[Tensor, ...]:
        """Go through the regions in order."""
        self._fill()
        run(self.plan.stages[ONCE], self.values)
        run(self.plan.stages[BEFORE], self.values)
        self._loop()
        final = [torch.stack(h) for h in self.history]
        out = self._emit()
        states = range(len(self.history)) if self.job.all_states else ()
        return (out, *final, *[self._zeroed(self._stack(s)) for s in states])

    def _fill(self) -> None:
        """Put what is given in its places."""
        inputs, dtype = self.inputs, self.inputs.states[0].dtype
        given = {"param": inputs.params, "extra": inputs.extras, "weight": inputs.weights}
        for kind, which, place in self.plan.leaves:
            if kind == "x":
                self.values[place] = inputs.x
            elif kind == "number":
                self.values[place] = inputs.x.new_full((), which, dtype=dtype)
            else:
                self.values[place] = given[kind][int(which)]

    def _loop(self) -> None:
        plan, values = self.plan, self.values
        every = self.job.all_states
        wanted = range(len(self.history)) if every else [s for s, _ in plan.emitted]
        self.every = {s: [] for s in wanted}
        whole = [values[place] for place in plan.timed]
        timed = [(p, value.unbind(0)) for p, value in zip(plan.timed, whole, strict=True)]
        steps = range(self.steps)
        for t in reversed(steps) if self.job.reverse else steps:
            for place, slices in timed:
                values[place] = slices[t]
            self._step(t)
            for s, found in self.every.items():
                found.append(self.history[s][-1])
        for place, value in zip(plan.timed, whole, strict=True):  # emit reads all steps again
            values[place] = value
        if self.job.reverse:
            for found in self.every.values():
                found.reverse()

    def _step(self, t: int) -> None:
        history = self.history if self.reset is None else self._renewed(self.reset[t])
        for state, lag, place in self.plan.past:
            self.values[place] = history[state][-lag]
        run(self.plan.stages[LOOP], self.values)
        for s, place in enumerate(self.plan.new):
            old, kept = history[s], self.history[s]
            value = self.values[place]
            value = value.expand_as(old[-1])
            if self.job.cell.states[s].clock:
                value = value.detach()
            moved = [*old[1:], value]
            if self.valid is not None:
                valid = self.valid[t]
                moved = [torch.where(valid, m, k) for m, k in zip(moved, kept, strict=True)]
            self.history[s] = moved

    def _renewed(self, reset: Tensor) -> list[list[Tensor]]:
        pairs = zip(self.history, self.fresh, strict=True)
        return [[torch.where(reset, fresh, old) for old in history] for history, fresh in pairs]

    def _stack(self, s: int) -> Tensor:
        first = self.inputs.states[s]
        return torch.stack(self.every[s]) if self.steps else first.new_empty(0, *first.shape[1:])

    def _emit(self) -> Tensor:
        for s, place in self.plan.emitted:
            self.values[place] = self._stack(s)
        run(self.plan.stages[AFTER], self.values)
        steps, batch = self.inputs.x.shape[:2]
        parts = [self.values[place].expand(steps, batch, w) for place, w in self.plan.out]
        out = self._zeroed(parts[0] if len(parts) == 1 else torch.cat(parts, -1))
        return out.to(getattr(torch, self.job.products)) if self.job.products else out
