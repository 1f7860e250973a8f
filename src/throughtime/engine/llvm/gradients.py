"""How do gradients come back through a call? The loop in reverse, then products over all steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from throughtime.declare.graph import Width
from throughtime.engine.llvm.call import Tape, addresses, input_matrix, new, plan_of
from throughtime.engine.llvm.gemm import outer, product
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.memory import Span, loadable, rows_of, span
from throughtime.engine.llvm.plan import WORK
from throughtime.engine.llvm.rows import Rows
from throughtime.engine.llvm.team import team_size

__all__ = ["Found", "backward"]


@dataclass
class Found:
    """The gradients of a call.

    Attributes:
        x: [T, B, I], or None if not asked for.
        states: Of each state, of the values before the first step; None for clocks.
        weights: By slot; None where the step does not use them.
        once: Of the values per unit, by number.
        extras: By number.
    """

    x: Tensor | None = None
    states: list[Tensor | None] = field(default_factory=list)
    weights: list[Tensor | None] = field(default_factory=list)
    once: dict[int, Tensor] = field(default_factory=dict)
    extras: dict[int, Tensor] = field(default_factory=dict)


def backward(
    tape: Tape,
    outer_gradients: Mapping[int, Tensor],
    final: Sequence[Tensor | None],
    wanted: Sequence[bool],
    *,
    keep: bool,
) -> Found:
    """The gradients of everything, given those of states.

    Args:
        tape: Of the forward pass.
        outer_gradients: Of the states after every step, by state. Each [T, B, w]
        final: Of the last D values of every state, or None. Each [D, B, w]
        wanted: Whether the gradients of x and of each weight are wanted.
        keep: Whether the tape is needed again.
    """
    loop = _Loop(tape, outer_gradients, final, keep=keep)
    loop.run()
    return _Gathering(loop, wanted).found()


class _Loop:
    """The backward kernel's buffers, and what it leaves in them."""

    def __init__(
        self,
        tape: Tape,
        outer_gradients: Mapping[int, Tensor],
        final: Sequence[Tensor | None],
        *,
        keep: bool,
    ) -> None:
        self.tape, self.keep = tape, keep
        self.program, self.job, self.dtype = tape.program, tape.job, tape.program.dtype
        self.plan = plan_of(tape, "backward")
        self.schedule = self.program.schedule("backward")
        self.frame = self.plan.kernel.frame
        self.adjoints = {w: self._rows(w) for w in tape.gates}
        self.running = [self._start(i, g) for i, g in enumerate(final)]
        self.sums = {
            int(str(p[2])): self._empty(p, (tape.batch,))
            for p in self.frame.places
            if p[0] == "grad"
        }
        self.extras = {
            int(str(p[1])): self._empty(p, (tape.steps, tape.batch))
            for p in self.frame.places
            if p[0] == "grad extra"
        }
        states = self.job.cell.states
        self.outer = {i: loadable(g, states[i].width) for i, g in outer_gradients.items()}

    def _empty(self, place: Place, shape: tuple[int, ...]) -> Tensor:
        width = self.frame.width_of[place]
        return new((*shape, 1 if width == 1 else padded(self.job.sizes.of(width))), self.dtype)

    def _rows(self, width: Width) -> Tensor:
        """Where adjoints of gates go: over the gates, if these are not read after that."""
        rows = self.tape.saved[width]
        gates = self.program.layout.gates[width]
        loads, stores = self.schedule.loads, self.schedule.stores
        if any(("adjoint", g) not in stores for g in gates):
            return torch.zeros(rows.shape, dtype=rows.dtype)
        safe = width != 1 and all(loads.get(("saved", g), 0) <= stores["adjoint", g] for g in gates)
        return rows if safe and not self.keep else new(rows.shape, self.dtype)

    def _is_history(self, state: int) -> bool:
        """Whether running adjoints need a place for every step."""
        late = self.schedule.loads.get(("running", state), 0)
        return self.job.cell.depth > 1 or late > self.schedule.stores["running", state, 1]

    def _start(self, state: int, last: Tensor | None) -> Tensor | None:
        """Running adjoints, with what comes from after the last step; None for a clock."""
        if self.job.cell.states[state].clock:
            return None
        depth, width = self.job.cell.depth, self.job.state_sizes()[state]
        count = self.tape.steps if self._is_history(state) else 0
        running = torch.zeros(count + depth, self.tape.batch, padded(width), dtype=self.dtype)
        if last is not None and self.tape.ends is not None:
            ends = self.tape.ends.expand(-1, -1, width)
            running[..., :width].scatter_add_(0, ends, last)
        elif last is not None:
            last = last.flip(0) if self.job.reverse else last
            first = 0 if self.job.reverse else count
            running[first : first + depth, :, :width] = last
        return running

    def run(self) -> None:
        """Fill in what is open, and go."""
        tape, kept = self.tape, self.tape.buffers
        tape.buffers = buffers = dict(kept)
        for width, rows in self.adjoints.items():
            buffers["adjoints", width] = rows
        for i, a in self.sums.items():
            buffers["grad", "once", i] = a
        for i, a in self.extras.items():
            buffers["grad extra", i] = a
        for i, running in enumerate(self.running):
            if running is not None:
                buffers["running", i] = running
        for i, g in self.outer.items():
            buffers["outer", i] = g
        spans = {place: self._span(place) for place in self.plan.open}
        where = addresses(tape, self.plan)
        self.plan.prepare(where)
        self.plan.run(where, spans)
        tape.buffers = kept  # the rest is of this pass alone

    def _span(self, place: Place) -> Span:
        """Of running adjoints, and of what comes from outside the recurrence."""
        state, steps, direction = int(str(place[1])), self.tape.steps, self.plan.direction
        if place[0] == "outer":
            given = self.outer.get(state)
            if given is None:
                return Span(WORK, self.plan.zeros)
            strides = given.stride(0), given.stride(1)
            return span(("outer", state), strides, 0, steps, direction)
        running = self.running[state]
        assert running is not None, "clocks have no adjoint"
        if not self._is_history(state):
            return Span(("running", state), 0, 0, running.stride(1))
        lag = int(str(place[2])) if len(place) > 2 else 0
        strides = running.stride(0), running.stride(1)
        return span(("running", state), strides, self.program.after(lag), steps, direction)


class _Gathering:
    """What is left when the loop is done: products over all steps at once."""

    def __init__(self, loop: _Loop, wanted: Sequence[bool]) -> None:
        self.loop, self.tape, self.wanted = loop, loop.tape, wanted
        self.program, self.layout = loop.program, loop.program.layout
        self.count = self.tape.steps * self.tape.batch
        self.sums: dict[tuple[Width, int, int], Tensor] = {}

    @cached_property
    def ones(self) -> Tensor:
        """To sum over steps and rows with: the library's product is faster than its sum."""
        return torch.ones(self.count, dtype=self.loop.dtype)

    def found(self) -> Found:
        """All gradients."""
        job, running = self.tape.job, enumerate(self.loop.running)
        found = Found(states=[None if r is None else self._first(i, r) for i, r in running])
        if self.wanted[0]:
            found.x = self._x()
        for slot, want in zip(self.program.rows_of_slots, self.wanted[1:], strict=True):
            used = slot is not None and want and self.tape.steps > 0
            found.weights.append(self._slot(slot) if slot is not None and used else None)
        once = self.program.graphs.once
        for i, a in self.loop.sums.items():
            found.once[i] = a.sum(0)[: job.sizes.of(once[i].width)]
        for i, a in self.loop.extras.items():
            found.extras[i] = a[..., : self.tape.inputs.extras[i].shape[-1]]
        return found

    def _first(self, state: int, running: Tensor) -> Tensor:
        """The adjoint of the values before the first step."""
        depth, width = self.tape.job.cell.depth, self.program.widths[state]
        first = running[-depth:].flip(0) if self.tape.job.reverse else running[:depth]
        return first if first.shape[2] == width else first[..., :width]

    def _adjoints(self, width: Width, start: int, count: int) -> Tensor:
        """The adjoints of neighbouring gates as one matrix."""
        rows = self.loop.adjoints[width]
        return rows.flatten(0, 1)[:, start : start + count]

    def _x(self) -> Tensor | None:
        total: Tensor | None = None
        for width in self.program.inputs.widths:
            matrix = input_matrix(self.tape, width)
            size, apart = self.tape.job.sizes.of(width), self.layout.apart(width)
            a = self._adjoints(width, 0, matrix.shape[0])
            if size != apart:  # what pads a row may be no number
                a = a.unflatten(1, (-1, apart))[..., :size].flatten(1)
                matrix = matrix.unflatten(0, (-1, apart))[:, :size].flatten(0, 1)
            out = new((self.count, matrix.shape[1]), a.dtype)
            product(a, matrix, out, team_size())
            total = out if total is None else total + out
        return None if total is None else total.view(self.tape.inputs.x.shape)

    def _slot(self, slot: tuple[Rows, ...]) -> Tensor:
        """The gradient of one weight tensor, from neighbouring gates together."""
        parts = [self._rows(rows) for rows in slot]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _rows(self, rows: Rows) -> Tensor:
        if rows.width is None:  # a gate of `emit`, which torch differentiates
            shape = (rows.size, rows.columns) if rows.columns else (rows.size,)
            return torch.zeros(shape, dtype=self.loop.dtype)
        apart = self.layout.apart(rows.width)
        found = self._summed(rows) if rows.read is None else self._multiplied(rows)
        if apart == rows.size:
            return found
        return found.unflatten(0, (-1, apart))[:, : rows.size].flatten(0, 1)

    def _multiplied(self, rows: Rows) -> Tensor:
        """The gradient of matrices: adjoints times what they read, summed over steps and rows."""
        assert rows.width is not None, "gates of `emit` are torch's"
        count = rows.gates * self.layout.apart(rows.width)
        out = new((count, rows.columns), self.loop.dtype)
        a = self._adjoints(rows.width, rows.start, count)
        return outer(a, self._matrix(rows), out)

    def _summed(self, rows: Rows) -> Tensor:
        """The gradient of biases: both of torch's have the same one."""
        assert rows.width is not None, "gates of `emit` are torch's"
        count = rows.gates * self.layout.apart(rows.width)
        key = rows.width, rows.start, count
        if key in self.sums:
            return self.sums[key].clone()
        found = torch.mv(self._adjoints(*key).t(), self.ones)
        self.sums[key] = found
        return found

    def _matrix(self, rows: Rows) -> Tensor:
        """[T B, K]: what matrices read at all steps."""
        place, tape, steps = rows.read, self.tape, self.tape.steps
        assert place is not None, "a bias reads nothing"
        if place[0] == "x":
            return tape.x
        if place[0] == "read":
            return rows_of(tape.kept[place], 0, steps, rows.columns)
        number = int(str(place[1]))
        if place[0] in {"past", "after"}:
            lag = int(str(place[2])) if place[0] == "past" else 0
            return rows_of(tape.states[number], self.program.after(lag), steps, rows.columns)
        if place[0] == "once":
            return tape.once[number].view(1, -1).expand(self.count, -1)
        return tape.inputs.extras[number].flatten(0, 1)
