"""When can the fused engine run a job, and what does it return?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Node
from throughtime.engine.evaluate import evaluate
from throughtime.engine.job import Inputs, Job, by_gate, fresh_states, learns, unflatten
from throughtime.engine.llvm.call import Tape, forward
from throughtime.engine.llvm.gradients import backward
from throughtime.engine.llvm.lowering import Variant
from throughtime.engine.llvm.machine import lacking
from throughtime.engine.llvm.masks import (
    crossed_backwards,
    masks_of,
    stale_values,
    valid_steps,
    without_padding,
)
from throughtime.engine.llvm.program import program_of
from throughtime.engine.pullback import GraphNode, Pull, pulled_back, recorded

__all__ = ["linearised", "refusal", "sequence"]


def refusal(job: Job, inputs: Inputs | None = None) -> str | None:
    """Why the fused engine cannot do a job; None if it can."""
    lack = lacking()
    if lack is not None:
        return lack
    if job.products:
        return "under autocast products are rounded, which its kernels do not do"
    if inputs is None:
        return None
    if inputs.x.device.type != "cpu":
        return f"it runs on the CPU, and the input is on {inputs.x.device.type}"
    dtypes = {t.dtype for t in inputs.flat()}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        names = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        return f"it computes in float32 or float64, and this is {names}"
    return None


def sequence(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run a cell over a sequence with fused kernels; as `reference.sequence`."""
    if _turns(job, inputs):
        return _in_order_of_steps(job, inputs)
    flat = inputs.flat()
    if torch.is_grad_enabled() and learns(flat):
        return GraphNode.apply(linearised, job, inputs, *flat)
    return linearised(job, inputs, [False] * len(flat))[0]


def _turns(job: Job, inputs: Inputs) -> bool:
    """Whether delays of a run backwards would reach beyond each row's own end."""
    return job.reverse and inputs.lengths is not None and job.cell.depth > 1


def _in_order_of_steps(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run backwards from each row's end as a forward run, each row turned around."""
    lengths = inputs.lengths
    assert lengths is not None, "only rows of different lengths are turned"
    steps = torch.arange(inputs.x.shape[0])[:, None]
    real = steps < lengths
    order = torch.where(real, lengths - 1 - steps, steps)

    def turned(a: Tensor) -> Tensor:
        index = order.view(*order.shape, *[1] * (a.dim() - 2))
        return a.gather(0, index.expand_as(a))

    reset = inputs.reset
    if reset is not None:
        reset = turned(crossed_backwards(reset & real))
    given = inputs._replace(
        x=turned(inputs.x), extras=tuple(map(turned, inputs.extras)), reset=reset
    )
    if "llvm forwards" not in job.memo:
        job.memo["llvm forwards"] = replace(job, reverse=False, memo={})
    out, *rest = sequence(job.memo["llvm forwards"], given)
    count = len(job.cell.states)
    return (turned(out), *rest[:count], *map(turned, rest[count:]))


def linearised(job: Job, inputs: Inputs, wanted: Sequence[bool]) -> tuple[tuple[Tensor, ...], Pull]:
    """Run a job, and say how gradients come back.

    Args:
        job: What is asked.
        inputs: The tensors; no graph that they belong to is touched.
        wanted: Of each flat input, whether its gradient is wanted.

    Returns:
        The outputs, and a function from their gradients (and whether it will be called again) to
        those of the inputs.
    """
    if _turns(job, inputs):
        return recorded(_in_order_of_steps, job, inputs, wanted)
    call = _Call(job, inputs, wanted)
    return call.outputs(), call.gradients


class _Call:
    """One call: what goes on before the loop and after it, in torch, and the loop."""

    def __init__(self, job: Job, inputs: Inputs, wanted: Sequence[bool]) -> None:
        self.job, self.wanted, self.save = job, wanted, any(wanted)
        extras = len(job.cell.extras)
        asked = tuple(i for i in range(extras) if wanted[len(wanted) - extras + i])
        masked = inputs.lengths is not None, inputs.reset is not None
        variant = Variant(*masked, bool(inputs.initial), asked)
        self.program = program_of(job, variant, inputs.states[0].dtype)
        self.in_torch = self.program.shown is None or bool(self.program.graphs.once)
        self.inputs, self.leaves = inputs, ()
        if self.in_torch and self.save:  # what is computed in torch, torch differentiates
            flat = inputs.flat()
            self.leaves = tuple(
                t.detach().requires_grad_(w) for t, w in zip(flat, wanted, strict=True)
            )
            self.inputs = unflatten(job, self.leaves, inputs.lengths, inputs.reset)
        self.valid = valid_steps(inputs)
        if self.valid is not None:
            with torch.set_grad_enabled(self.in_torch and self.save):
                self.inputs = without_padding(job, self.inputs, self.valid)

    def outputs(self) -> tuple[Tensor, ...]:
        """Run it."""
        job, states = self.job, range(len(self.job.cell.states))
        self.once = self._once() if self.program.graphs.once else []
        masks = masks_of(job, self.inputs, self.valid)
        inputs = self._detached() if self.leaves else self.inputs
        with torch.no_grad():
            weights = [w.contiguous() for w in inputs.weights]
            self.tape = Tape(self.program, inputs, weights, masks, [o.detach() for o in self.once])
            forward(self.tape, save=self.save)
            self.version = [s._version for s in self.tape.states] if self.save else []
            self.stale = stale_values(job, inputs, masks.get("age"))
            final = [self._final(i) for i in states]
            every = [self._trajectory(i).clone() for i in states] if job.all_states else []
        return (self._output(), *final, *every)

    def _trajectory(self, state: int) -> Tensor:
        """[T, B, w]: a state after every step, zero past each row's end."""
        found = self.tape.trajectory(state)
        return found.contiguous() if self.valid is None else self._held(found)

    def _output(self) -> Tensor:
        """What the layer shows: states, or what torch computes from them."""
        shown = self.program.shown
        if shown is not None:
            with torch.no_grad():
                parts = [self._trajectory(i) for i in shown]
                return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        count = range(len(self.job.cell.states))
        self.states = [self.tape.trajectory(i).detach() for i in count]
        with torch.set_grad_enabled(self.save):
            self.states = [s.requires_grad_(self.save) for s in self.states]
            self.emitted = self._emit()
        return self._held(self.emitted.detach())

    def _detached(self) -> Inputs:
        """The inputs apart from any graph."""
        i = self.inputs
        flat = [t.detach() for t in i.flat()]
        return unflatten(self.job, flat, i.lengths, i.reset)

    def _held(self, a: Tensor) -> Tensor:
        """Zero past each row's end."""
        return a if self.valid is None else torch.where(self.valid, a, a.new_zeros(()))

    def _final(self, state: int) -> Tensor:
        """The last D values of a state; those from before a reset are the initial one."""
        found = self._last(state)
        if self.stale is None:
            return found.clone(memory_format=torch.contiguous_format)
        return torch.where(self.stale, fresh_states(self.job, self.inputs)[state], found)

    def _last(self, state: int) -> Tensor:
        """The last D values of a state, whatever resets there were."""
        tape, depth = self.tape, self.job.cell.depth
        if self.job.reverse:
            return tape.part(state, 0, depth).flip(0)
        if tape.ends is None:
            return tape.part(state, tape.steps, depth)
        width = self.program.widths[state]
        return tape.states[state][..., :width].gather(0, tape.ends.expand(-1, -1, width))

    def _once(self) -> list[Tensor]:
        """The values per unit."""
        with torch.set_grad_enabled(self.save):
            leaf = self._leaf(self.inputs)
            nodes = self.program.graphs.once
            found = evaluate(nodes, self.job.sizes, leaf, _no_product)
            return [f.reshape(-1) for f in found]

    def _leaf(self, inputs: Inputs) -> Any:
        """Gives the value of a leaf, for all steps at once."""
        cell = self.job.cell
        params = dict(zip((p.name for p in cell.params), inputs.params, strict=True))
        extras = dict(zip((e.name for e in cell.extras), inputs.extras, strict=True))
        fresh = dict(
            zip((s.name for s in cell.states), fresh_states(self.job, inputs), strict=True)
        )
        index = {s.name: i for i, s in enumerate(cell.states)}

        def leaf(n: Node) -> Tensor:
            if n.op == "param":
                name = n.data[0]
                return fresh[name[1]] if isinstance(name, tuple) else params[name]
            if n.op == "new":
                return self.states[index[n.data[0]]]
            if n.op == "extra":
                return extras[n.data[0]]
            if n.op == "x":
                return inputs.x
            number = n.data[0] if n.op == "constant" else 1.0 / self.job.sizes.of(n.data[0])
            return inputs.states[0].new_full((), number)

        return leaf

    def _emit(self) -> Tensor:
        """The output, from the states of all steps."""
        matrices, biases = by_gate(self.job, self.inputs.weights)

        def product(n: Node, args: list[Tensor]) -> Tensor:
            gate = n.data[0]
            total = sum(functional.linear(a, matrices[gate, i]) for i, a in enumerate(args))
            return sum(biases.get(gate, []), total)  # type: ignore[arg-type]

        leaf = self._leaf(self.inputs)
        steps, batch = self.inputs.x.shape[:2]
        values = evaluate(self.job.cell.out, self.job.sizes, leaf, product)
        widths = [self.job.sizes.of(n.width) for n in self.job.cell.out]
        parts = [v.expand(steps, batch, w) for v, w in zip(values, widths, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def gradients(self, entering: Sequence[Tensor | None], keep: bool) -> list[Tensor | None]:  # noqa: FBT001
        """The gradients of all inputs.

        Args:
            entering: Those of the outputs.
            keep: Whether there will be another call of this.
        """
        if [s._version for s in self.tape.states] != self.version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation: the output of a recurrent layer"
            )
        job, count = self.job, len(self.job.cell.states)
        final, every = entering[1 : 1 + count], entering[1 + count :]
        total: list[Tensor | None] = [None] * len(self.wanted)
        outer: dict[int, Tensor] = {}
        if entering[0] is not None:
            self._into_states(self._held(entering[0]), outer, total, keep=keep)
        for i, g in enumerate(every):
            if g is not None:
                _add(outer, i, self._held(g))
        final = [None if s.clock else g for s, g in zip(job.cell.states, final, strict=True)]
        if self.stale is not None:
            final = self._renewed(final, total)
        first = 1 + count + len(self.inputs.initial)
        wanted = [self.wanted[0], *self.wanted[first : first + len(job.slots)]]
        found = backward(self.tape, outer, final, wanted, keep=keep)
        after = first + len(job.slots) + len(self.inputs.params)
        for start, parts in ((0, [found.x]), (1, found.states), (first, found.weights)):
            for i, g in enumerate(parts):
                _sum_into(total, start + i, g)
        for i, g in found.extras.items():
            _sum_into(total, after + i, g)
        self._into_leaves(found.once, total, keep=keep)
        if self.valid is not None and total[0] is not None:
            total[0] = self._held(total[0])
        return [g if w else None for g, w in zip(total, self.wanted, strict=True)]

    def _into_leaves(
        self, once: Mapping[int, Tensor], total: list[Tensor | None], *, keep: bool
    ) -> None:
        """Hand the gradients of values per unit to what they were computed from."""
        reached = sorted(once)
        if reached:
            values, given = [self.once[i] for i in reached], [once[i] for i in reached]
            for i, g in enumerate(pulled_back(values, self.leaves, given, keep=keep)):
                _sum_into(total, i, g)

    def _renewed(
        self, final: Sequence[Tensor | None], total: list[Tensor | None]
    ) -> list[Tensor | None]:
        """Hand gradients of values that a reset renewed to the learned initial states."""
        assert self.stale is not None, "only resets renew"
        learned = iter(range(1 + len(final), 1 + len(final) + len(self.inputs.initial)))
        for state, g in zip(self.job.cell.states, final, strict=True):
            place = next(learned, None) if not state.clock else None
            if g is not None and place is not None:
                _sum_into(total, place, torch.where(self.stale, g, 0.0).sum((0, 1)))
        return [None if g is None else torch.where(self.stale, 0.0, g) for g in final]

    def _into_states(
        self, out: Tensor, outer: dict[int, Tensor], total: list[Tensor | None], *, keep: bool
    ) -> None:
        """Hand the output's gradient to the states that it was made from."""
        shown, widths = self.program.shown, self.program.widths
        if shown is not None:
            start = 0
            for i in shown:
                whole = len(shown) == 1
                _add(outer, i, out if whole else out[..., start : start + widths[i]])
                start += widths[i]
            return
        leaves = [*self.states, *self.leaves]
        found = pulled_back([self.emitted], leaves, [out], keep=keep)
        for i, g in enumerate(found[: len(self.states)]):
            if g is not None and not self.job.cell.states[i].clock:
                _add(outer, i, g)
        for i, g in enumerate(found[len(self.states) :]):
            _sum_into(total, i, g)


def _no_product(n: Node, _: list[Tensor]) -> Tensor:
    raise AssertionError(f"{n.op}: no matrix belongs to the values per unit")


def _add(outer: dict[int, Tensor], state: int, g: Tensor) -> None:
    outer[state] = outer[state] + g if state in outer else g


def _sum_into(total: list[Tensor | None], i: int, g: Tensor | None) -> None:
    if g is not None:
        before = total[i]
        total[i] = g if before is None else before + g
