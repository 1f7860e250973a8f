"""When can the fused engine run a job, and what does it return?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.declare.graph import Node
from throughtime.engine.evaluate import evaluate
from throughtime.engine.job import Inputs, Job, by_gate, fresh_states, unflatten
from throughtime.engine.llvm.call import Tape, forward
from throughtime.engine.llvm.gradients import backward
from throughtime.engine.llvm.lowering import Variant
from throughtime.engine.llvm.program import program_of
from throughtime.engine.pullback import pulled_back
from throughtime.engine.torch_internals import keeps_graph

__all__ = ["refusal", "sequence"]


def refusal(job: Job, inputs: Inputs | None = None) -> str | None:
    """Why the fused engine cannot do a job; None if it can."""
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
    if job.reverse and inputs.lengths is not None and job.cell.depth > 1:
        return _in_order_of_steps(job, inputs, inputs.lengths)
    flat = inputs.flat()
    if torch.is_grad_enabled() and any(t.requires_grad for t in flat):
        return _Sequence.apply(job, inputs.lengths, inputs.reset, *flat)
    return _Call(job, inputs, [False] * len(flat)).outputs()


def _in_order_of_steps(job: Job, inputs: Inputs, lengths: Tensor) -> tuple[Tensor, ...]:
    """Run backwards from each row's end, where delays would reach beyond it, as a forward run."""
    steps = torch.arange(inputs.x.shape[0])[:, None]
    real = steps < lengths
    order = torch.where(real, lengths - 1 - steps, steps)

    def turned(a: Tensor) -> Tensor:
        index = order.view(*order.shape, *[1] * (a.dim() - 2))
        return a.gather(0, index.expand_as(a))

    reset = inputs.reset
    if reset is not None:
        reset = turned(_crossed_backwards(reset & real))
    given = inputs._replace(x=turned(inputs.x), extras=tuple(map(turned, inputs.extras)), reset=reset)
    if "llvm forwards" not in job.memo:
        job.memo["llvm forwards"] = replace(job, reverse=False, memo={})
    out, *rest = sequence(job.memo["llvm forwards"], given)
    count = len(job.cell.states)
    return (turned(out), *rest[:count], *map(turned, rest[count:]))


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, job: Job, lengths: Tensor | None, reset: Tensor | None, *flat: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        wanted = ctx.needs_input_grad[3:]
        detached = [t.detach().requires_grad_(w) for t, w in zip(flat, wanted, strict=True)]
        ctx.call = _Call(job, unflatten(job, detached, lengths, reset), wanted)
        return ctx.call.outputs()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        keep = keeps_graph()
        found = ctx.call.gradients(gradients, keep=keep)
        if not keep:
            ctx.call = None
        return (None, None, None, *found)


class _Call:
    """One call: what goes on before the loop and after it, in torch, and the loop."""

    def __init__(self, job: Job, inputs: Inputs, wanted: Sequence[bool]) -> None:
        self.job, self.wanted = job, wanted
        self.leaves = inputs.flat()
        self.save = any(wanted)
        self.valid = _valid(inputs)
        with torch.set_grad_enabled(self.save):
            whole = self.valid is None
            self.inputs = inputs if whole else _without_padding(job, inputs, self.valid)
        extras = len(job.cell.extras)
        wanted_extras = tuple(i for i in range(extras) if wanted[len(wanted) - extras + i])
        self.variant = Variant(
            inputs.lengths is not None,
            inputs.reset is not None,
            bool(inputs.initial),
            wanted_extras,
        )
        self.program = program_of(job, self.variant, inputs.states[0].dtype)

    def outputs(self) -> tuple[Tensor, ...]:
        """Run it."""
        job = self.job
        with torch.set_grad_enabled(self.save):
            self.once = self._once()
        masks = _masks(job, self.inputs, self.valid)
        once = [o.detach() for o in self.once]
        with torch.no_grad():
            detached = self._detached()
            weights = [w.contiguous() for w in detached.weights]
            self.tape = Tape(self.program, detached, weights, masks, once)
            forward(self.tape, save=self.save)
            trajectories = [self.tape.trajectory(i) for i in range(len(job.cell.states))]
            self.stale = _stale(job, self.inputs, masks.get("age"))
            final = [self._final(i) for i in range(len(job.cell.states))]
        self.emitted: Tensor | None = None
        self.states = [t.detach() for t in trajectories]
        if all(n.op == "new" for n in job.cell.out):
            index = {s.name: i for i, s in enumerate(job.cell.states)}
            parts = [trajectories[index[n.data[0]]] for n in job.cell.out]
            out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        else:
            with torch.set_grad_enabled(self.save):
                if self.save:
                    self.states = [s.requires_grad_() for s in self.states]
                self.emitted = out = self._emit()
            out = out.detach()
        every = trajectories if job.all_states else []
        return tuple(map(torch.clone, (self._held(out), *final, *map(self._held, every))))

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
            return found
        return torch.where(self.stale, fresh_states(self.job, self.inputs)[state], found)

    def _last(self, state: int) -> Tensor:
        """The last D values of a state, whatever resets there were."""
        states, job = self.tape.states[state], self.job
        width, depth = job.state_sizes()[state], job.cell.depth
        if job.reverse:
            return states[:depth, :, :width].flip(0)
        if self.tape.ends is None:
            return states[self.tape.steps :, :, :width]
        return states[..., :width].gather(0, self.tape.ends.expand(-1, -1, width))

    def _once(self) -> list[Tensor]:
        """The values per unit."""
        nodes = self.program.graphs.once
        leaf = self._leaf(self.inputs)
        found = evaluate(nodes, self.job.sizes, leaf, self._no_product) if nodes else []
        return [f.reshape(-1) for f in found]

    def _no_product(self, n: Node, args: list[Tensor]) -> Tensor:
        raise AssertionError("no matrix reads params alone before the loop")

    def _leaf(self, inputs: Inputs) -> Any:
        """Gives the value of a leaf, for all steps at once."""
        cell = self.job.cell
        params = dict(zip((p.name for p in cell.params), inputs.params, strict=True))
        extras = dict(zip((e.name for e in cell.extras), inputs.extras, strict=True))
        fresh = dict(zip((s.name for s in cell.states), fresh_states(self.job, inputs), strict=True))
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

    def gradients(self, entering: Sequence[Tensor | None], *, keep: bool) -> list[Tensor | None]:
        """The gradients of all inputs."""
        count = len(self.job.cell.states)
        out, final, every = entering[0], entering[1 : 1 + count], entering[1 + count :]
        total: list[Tensor | None] = [None] * len(self.leaves)
        outer: dict[int, Tensor] = {}
        if out is not None:
            self._into_states(self._held(out), outer, total, keep=keep)
        for i, g in enumerate(every):
            if g is not None:
                _add(outer, i, self._held(g))
        clocks = [s.clock for s in self.job.cell.states]
        final = [None if c else g for g, c in zip(final, clocks, strict=True)]
        if self.stale is not None:
            final = self._renewed(final, total)
        states, learned = count, len(self.inputs.initial)
        first = 1 + states + learned
        weights = len(self.job.slots)
        wanted = [self.wanted[0], *self.wanted[first : first + weights]]
        found = backward(self.tape, outer, final, wanted, keep=keep)
        _sum_into(total, 0, found.x)
        for i, g in enumerate(found.states):
            _sum_into(total, 1 + i, g)
        for i, g in enumerate(found.weights):
            _sum_into(total, first + i, g)
        for i, g in found.extras.items():
            _sum_into(total, first + weights + len(self.inputs.params) + i, g)
        reached = sorted(found.once)
        pulled = pulled_back(
            [self.once[i] for i in reached], self.leaves, [found.once[i] for i in reached], keep=keep
        )
        for i, g in enumerate(pulled):
            _sum_into(total, i, g)
        if self.valid is not None and total[0] is not None:
            total[0] = self._held(total[0])
        return [g if w else None for g, w in zip(total, self.wanted, strict=True)]

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
        if self.emitted is None:
            index = {s.name: i for i, s in enumerate(self.job.cell.states)}
            start = 0
            for n in self.job.cell.out:
                width = self.job.sizes.of(n.width)
                _add(outer, index[n.data[0]], out[..., start : start + width])
                start += width
            return
        leaves = [*self.states, *self.leaves]
        found = pulled_back([self.emitted], leaves, [out], keep=keep)
        for i, g in enumerate(found[: len(self.states)]):
            if g is not None and not self.job.cell.states[i].clock:
                _add(outer, i, g)
        for i, g in enumerate(found[len(self.states) :]):
            _sum_into(total, i, g)


def _add(outer: dict[int, Tensor], state: int, g: Tensor) -> None:
    outer[state] = outer[state] + g if state in outer else g


def _sum_into(total: list[Tensor | None], i: int, g: Tensor | None) -> None:
    if g is not None:
        before = total[i]
        total[i] = g if before is None else before + g


def _valid(inputs: Inputs) -> Tensor | None:
    """[T, B, 1]: whether a step lies within its row's length."""
    if inputs.lengths is None:
        return None
    return (torch.arange(inputs.x.shape[0])[:, None] < inputs.lengths).unsqueeze(-1)


def _without_padding(job: Job, inputs: Inputs, valid: Tensor) -> Inputs:
    """Inputs without what stands in the padding, where a NaN would come back as 0 * NaN in dW."""
    pairs = zip(job.cell.extras, inputs.extras, strict=True)
    extras = tuple(
        torch.where(valid, e, e.new_full((), 1.0 if kind.eval is None else kind.eval))
        for kind, e in pairs
    )
    x = torch.where(valid, inputs.x, inputs.x.new_zeros(()))
    return inputs._replace(x=x, extras=extras)


def _masks(job: Job, inputs: Inputs, valid: Tensor | None) -> dict[str, Tensor]:
    """Validity and age of every step, as numbers. Each [T, B]"""
    dtype = inputs.states[0].dtype
    masks: dict[str, Tensor] = {}
    if valid is not None:
        masks["valid"] = valid[..., 0].to(dtype)
    if inputs.reset is not None:
        reset = inputs.reset if valid is None else inputs.reset & valid[..., 0]
        if job.reverse:
            masks["age"] = _age(_crossed_backwards(reset).flip(0)).flip(0).to(dtype)
        else:
            masks["age"] = _age(reset).to(dtype)
    return masks


def _crossed_backwards(reset: Tensor) -> Tensor:
    """Where a run backwards meets resets: the border before step t + 1 comes before step t."""
    return torch.cat([reset[1:], torch.zeros_like(reset[:1])])


def _age(reset: Tensor) -> Tensor:
    """How many steps ago each row started anew; more than any lag if it never did. [T, B]"""
    step = torch.arange(reset.shape[0])[:, None]
    never = torch.full_like(step, -(1 << 20))
    return step - torch.where(reset, step, never).cummax(0).values if len(step) else step - never


def _stale(job: Job, inputs: Inputs, age: Tensor | None) -> Tensor | None:
    """Which of the last D values lie before the last reset; None if none can. [D, B, 1]"""
    depth = job.cell.depth
    if age is None or depth == 1 or not len(age):
        return None
    if job.reverse:
        last = age[0]
    elif inputs.lengths is None:
        last = age[-1]
    else:
        last = age.gather(0, (inputs.lengths - 1).clamp(min=0)[None])[0]
    lag = torch.arange(depth, 0, -1)[:, None]
    return (lag > last + 1).unsqueeze(-1)
