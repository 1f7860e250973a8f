"""What is the truth? The traced graph run step by step in plain PyTorch operations.

Every other engine is tested against this one. It is differentiable any number of times, under any
torch.func transform. What does not depend on a past state is computed for all steps at once,
before or after the loop (the regions of `declare.regions`).
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Node, has_bias, terms
from throughtime.declare.regions import AFTER, BEFORE, LOOP, ONCE, region_of
from throughtime.engine.evaluate import Instruction, Program, run
from throughtime.engine.job import Inputs, Job, job_of, joined_rows, rows


class Plan(NamedTuple):
    """A job's graph as instructions, by region.

    Attributes:
        program: Where each value lies.
        stages: The instructions of each region.
        timed: The values computed before the loop that the loop reads, one slice a step.
        past: Each (state index, lag) the step reads, with its place.
        new: The place of each next state.
        out: The places of what is emitted.
        stacked: The states that emit reads, by index.
    """

    program: Program
    stages: dict[str, list[Instruction]]
    timed: tuple[int, ...]
    past: tuple[tuple[int, int, int], ...]
    new: tuple[int, ...]
    out: tuple[int, ...]
    stacked: tuple[int, ...]


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


@lru_cache(maxsize=1024)
def _plan(text: str) -> Plan:
    job = job_of(text)
    planner = _Planner(job)
    stages = planner.write()
    program, cell = planner.program, job.cell
    index = {s.name: i for i, s in enumerate(cell.states)}
    past = [n for n in planner.region if n.op == "state"]
    before = {target for i in stages[BEFORE] for target in i.targets}
    leaves = {program.of(n) for n, r in planner.region.items() if r == BEFORE}
    read = {arg for i in stages[LOOP] for arg in i.args} | {program.of(n) for n in cell.new}
    return Plan(
        program=program,
        stages=stages,
        timed=tuple(sorted((before | leaves) & read)),
        past=tuple((index[n.data[0]], n.data[1], program.of(n)) for n in past),
        new=tuple(program.of(n) for n in cell.new),
        out=tuple(program.of(n) for n in cell.out),
        stacked=tuple(sorted(index[n.data[0]] for n in planner.region if n.op == "new")),
    )


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
    plan = _plan(job.text)
    device_type = inputs.x.device.type
    with torch.autocast(device_type, enabled=False):  # `job.products` says what is rounded
        return _Run(job, plan, inputs).outputs()


class _Run:
    """One call: the values, the masks, the history of every state."""

    def __init__(self, job: Job, plan: Plan, inputs: Inputs) -> None:
        self.job, self.plan, self.steps = job, plan, inputs.x.shape[0]
        self.valid = self._valid(inputs)
        self.inputs = inputs if self.valid is None else self._without_padding(inputs)
        self.reset = self._resets()
        self.fresh = self._fresh()
        self.values: list[Any] = [None] * len(plan.program.place)
        self.history = [list(state.unbind(0)) for state in inputs.states]
        self.every: dict[int, list[Tensor]] = {}

    def _valid(self, inputs: Inputs) -> Tensor | None:
        """[T, B, 1]: whether a step lies within its row's length."""
        if inputs.lengths is None:
            return None
        step = torch.arange(self.steps, device=inputs.x.device)
        return (step[:, None] < inputs.lengths.to(inputs.x.device)[None, :]).unsqueeze(-1)

    def _without_padding(self, inputs: Inputs) -> Inputs:
        # Zero, not just ignored: a NaN in the padding would come back as 0 * NaN in dW.
        clean = tuple(self._zeroed(e) for e in inputs.extras)
        return inputs._replace(x=self._zeroed(inputs.x), extras=clean)

    def _zeroed(self, a: Tensor) -> Tensor:
        return a if self.valid is None else torch.where(self.valid, a, a.new_zeros(()))

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

    def _fresh(self) -> list[Tensor]:
        """What each state is after a reset: [w] or a number."""
        learned = iter(self.inputs.initial)
        x, states = self.inputs.x, self.job.cell.states
        take = bool(self.inputs.initial)
        dtype = self.inputs.states[0].dtype
        return [
            next(learned) if take and not s.clock else x.new_full((), s.initial, dtype=dtype)
            for s in states
        ]

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
        """Put the leaves in their places."""
        cell, inputs = self.job.cell, self.inputs
        named = {("param", p.name): v for p, v in zip(cell.params, inputs.params, strict=True)}
        named |= {("extra", e.name): v for e, v in zip(cell.extras, inputs.extras, strict=True)}
        dtype = inputs.states[0].dtype
        x = inputs.x if self.job.products else inputs.x.to(dtype)
        for key, place in self.plan.program.place.items():
            if isinstance(key, Node):
                if key.op == "x":
                    self.values[place] = x
                elif key.op == "constant":
                    self.values[place] = x.new_full((), key.data[0], dtype=dtype)
                elif key.op == "reciprocal_width":
                    share = 1.0 / self.job.sizes.of(key.data[0])
                    self.values[place] = x.new_full((), share, dtype=dtype)
                elif key.op in {"param", "extra"}:
                    self.values[place] = named[key.op, key.data[0]]
            elif key[0] == "weight":
                self.values[place] = inputs.weights[key[1]]

    def _loop(self) -> None:
        plan, values = self.plan, self.values
        wanted = range(len(self.history)) if self.job.all_states else plan.stacked
        self.every = {s: [] for s in wanted}
        timed = [(place, values[place].unbind(0)) for place in plan.timed]
        steps = range(self.steps)
        for t in reversed(steps) if self.job.reverse else steps:
            for place, slices in timed:
                values[place] = slices[t]
            self._step(t)
            for s, found in self.every.items():
                found.append(self.history[s][-1])
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
        new = {n.data[0]: p for n, p in self.plan.program.place.items() if _is_new(n)}
        for s, state in enumerate(self.job.cell.states):
            if state.name in new:
                self.values[new[state.name]] = self._stack(s)
        run(self.plan.stages[AFTER], self.values)
        sizes = [self.job.sizes.of(n.width) for n in self.job.cell.out]
        shape = self.inputs.x.shape[:2]
        parts = [
            self.values[p].expand(*shape, w) for p, w in zip(self.plan.out, sizes, strict=True)
        ]
        out = self._zeroed(parts[0] if len(parts) == 1 else torch.cat(parts, -1))
        return out.to(getattr(torch, self.job.products)) if self.job.products else out


def _is_new(key: Any) -> bool:
    return isinstance(key, Node) and key.op == "new"
