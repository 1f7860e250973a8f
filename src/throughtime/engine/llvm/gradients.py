"""How do gradients come back through a call? The loop in reverse, then products over all steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from throughtime.declare.graph import Width, terms
from throughtime.declare.slots import Slot
from throughtime.engine.job import rows
from throughtime.engine.llvm.call import Tape, addresses, input_matrix, new, plan_of
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.memory import Span, loadable, rows_of, span
from throughtime.engine.llvm.plan import WORK
from throughtime.engine.llvm.team import team_size
from throughtime.engine.llvm.gemm import product

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
            int(str(p[2])): self._empty(p, (tape.batch,)) for p in self.frame.places if p[0] == "grad"
        }
        self.extras = {
            int(str(p[1])): self._empty(p, (tape.steps, tape.batch))
            for p in self.frame.places
            if p[0] == "grad extra"
        }
        self.outer = {i: loadable(g) for i, g in outer_gradients.items()}

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
        safe = width != 1 and all(
            loads.get(("saved", g), 0) <= stores["adjoint", g] for g in gates
        )
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
        tape, buffers = self.tape, self.tape.buffers
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
        for key in [k for k in buffers if k[0] in {"adjoints", "grad", "grad extra", "running", "outer"}]:
            del buffers[key]

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
    """What is left when the loop is done."""

    def __init__(self, loop: _Loop, wanted: Sequence[bool]) -> None:
        self.loop, self.tape, self.wanted = loop, loop.tape, wanted
        self.layout = loop.program.layout
        self.count = self.tape.steps * self.tape.batch
        self.where = loop.program.schedule("save").reads

    @cached_property
    def ones(self) -> Tensor:
        """To sum over steps and rows with: the library's product is faster than its sum."""
        return torch.ones(self.count, dtype=self.loop.dtype)

    def found(self) -> Found:
        """All gradients."""
        job = self.tape.job
        found = Found(states=[None if r is None else self._first(i) for i, r in enumerate(self.loop.running)])
        if self.wanted[0]:
            found.x = self._x()
        for slot, want in zip(job.slots, self.wanted[1:], strict=True):
            found.weights.append(self._slot(slot) if want else None)
        sums = self.loop.sums.items()
        widths = [n.width for n in self.loop.program.graphs.once]
        found.once = {i: a.sum(0)[: job.sizes.of(widths[i])] for i, a in sums}
        for i, a in self.loop.extras.items():
            found.extras[i] = a[..., : self.tape.inputs.extras[i].shape[-1]]
        return found

    def _first(self, state: int) -> Tensor:
        """The adjoint of the values before the first step."""
        running, job = self.loop.running[state], self.tape.job
        assert running is not None, "clocks have no adjoint"
        depth = job.cell.depth
        if job.reverse:
            return running[-depth:].flip(0)[..., : job.state_sizes()[state]]
        return running[:depth, :, : job.state_sizes()[state]]

    def _adjoints(self, gates: Sequence[str], width: int) -> Tensor:
        """The adjoints of neighbouring gates as one matrix."""
        first = self.layout.offset(gates[0])
        rows = self.loop.adjoints[self.layout.width[gates[0]]]
        return rows.view(self.count, -1)[:, first : first + width]

    def _x(self) -> Tensor | None:
        total: Tensor | None = None
        for width in self.loop.program.inputs.widths:
            matrix = input_matrix(self.tape, width)
            for part in self._from(self.layout.gates[width], width, matrix):
                total = part if total is None else total + part
        return None if total is None else total.view_as(self.tape.inputs.x)

    def _from(self, gates: Sequence[str], width: Width, matrix: Tensor) -> Iterator[Tensor]:
        """What comes to x from gates of one width; what pads their rows may be no number."""
        size, apart = self.tape.job.sizes.of(width), self.layout.apart(width)
        if size == apart:
            yield self._product(self._adjoints(gates, matrix.shape[0]), matrix)
            return
        for i in range(matrix.shape[0] // apart):
            rows = matrix[i * apart : i * apart + size]
            yield self._product(self._adjoints([gates[i]], size), rows)

    def _product(self, a: Tensor, matrix: Tensor) -> Tensor:
        out = torch.empty(self.count, matrix.shape[1], dtype=a.dtype)  # the user's: not the pool's
        return product(a, matrix, out, team_size())

    def _slot(self, slot: Slot) -> Tensor | None:
        """The gradient of one weight tensor, from neighbouring gates together."""
        parts: list[Tensor] = []
        if not any(p.gate in self.layout.rank for p in slot.pieces):
            return None
        for gates, place in self._runs(slot):
            if gates[0] not in self.layout.rank:  # a gate of `emit`, which torch differentiates
                parts.append(self._nothing(slot, gates[0]))
                continue
            width = self.tape.job.sizes.of(self.layout.width[gates[0]])
            a = self._adjoints(gates, width * len(gates))
            if place is None:
                parts.append(torch.mv(a.t(), self.ones))
            else:
                parts.append(torch.mm(a.t(), self._matrix(gates[0], place)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _nothing(self, slot: Slot, gate: str) -> Tensor:
        sizes = self.tape.job.sizes
        width = sizes.of(self.tape.job.cell.affines[gate].width)
        columns = () if slot.columns is None else (sizes.of(slot.columns),)
        return torch.zeros(width, *columns, dtype=self.loop.dtype)

    def _runs(self, slot: Slot) -> Iterator[tuple[list[str], int | None]]:
        """The slot's gates, those together that lie together and read the same."""
        current: list[str] = []
        place: int | None = None
        for piece, _ in rows(self.tape.job, slot):
            if current and not self._joins(current, place, piece.gate, piece.place):
                yield current, place
                current = []
            if not current:
                place = piece.place
            current = [*current, piece.gate]
        if current:
            yield current, place

    def _joins(self, run: list[str], i: int | None, b: str, j: int | None) -> bool:
        a = run[-1]
        if a not in self.layout.rank or b not in self.layout.rank:
            return False
        width = self.layout.width[a]
        whole = self.layout.apart(width) == self.tape.job.sizes.of(width)
        follows = self.layout.rank[b] == self.layout.rank[a] + 1
        return whole and follows and (i is None) == (j is None) and (
            i is None or j is None or self._place(run[0], i) == self._place(b, j)
        )

    def _place(self, gate: str, number: int) -> Place:
        """Where a matrix's read lies."""
        if terms(self.tape.job.cell.affines[gate])[number].kind == "input":
            return ("x",)
        return self.where[gate, number]

    def _matrix(self, gate: str, number: int) -> Tensor:
        """What a matrix read at all steps. [T B, K]"""
        place, tape, steps = self._place(gate, number), self.tape, self.tape.steps
        width = tape.job.sizes.of(tape.job.cell.affines[gate].args[number].width)
        if place[0] == "x":
            return tape.x
        if place[0] == "past":
            return rows_of(tape.states[place[1]], self.loop.program.after(place[2]), steps, width)
        if place[0] == "after":
            return rows_of(tape.states[place[1]], self.loop.program.after(), steps, width)
        if place[0] == "read":
            return rows_of(tape.kept[place], 0, steps, width)
        if place[0] == "once":
            return tape.once[place[1]].view(1, -1).expand(self.count, -1)
        return tape.inputs.extras[place[1]].reshape(self.count, -1)
