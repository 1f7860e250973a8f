"""How do gradients come back through a call? The loop in reverse, then products over all steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime.declare.graph import Width, terms
from throughtime.declare.slots import Slot
from throughtime.engine.job import rows
from throughtime.engine.llvm.call import Launch, Tape, new
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.memory import Span, rows_of, wide
from throughtime.engine.llvm.products import outer, product
from throughtime.engine.llvm.weights import input_gates

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
    launch = _Backward(tape, outer_gradients, final, keep=keep)
    if tape.steps and tape.batch:
        launch.run()
    return _Gathering(launch, wanted).found()


class _Backward(Launch):
    """The launch of a backward kernel."""

    def __init__(
        self,
        tape: Tape,
        outer_gradients: Mapping[int, Tensor],
        final: Sequence[Tensor | None],
        *,
        keep: bool,
    ) -> None:
        super().__init__(tape, "backward")
        self.outer_gradients, self.final, self.keep = outer_gradients, final, keep
        self.schedule = self.kernel.schedule
        self.adjoints = {w: self._rows(w) for w in tape.gates}
        moving = [not s.clock for s in self.job.cell.states]
        self.running = [self._start(i) if m else None for i, m in enumerate(moving)]
        self.sums: dict[int, Tensor] = {}
        self.extras: dict[int, Tensor] = {}

    def _rows(self, width: Width) -> Tensor:
        """Where adjoints of gates go: over the gates, if these are not read after that."""
        rows = self.tape.saved[width]
        gates = self.program.layout.gates[width]
        loads, stores = self.schedule.loads, self.schedule.stores
        safe = width != 1 and all(
            loads.get(("saved", g), 0) <= stores.get(("adjoint", g), 0) for g in gates
        )
        missing = any(("adjoint", g) not in stores for g in gates)
        if missing:
            return torch.zeros(rows.shape, dtype=rows.dtype)
        return rows if safe and not self.keep else new(rows.shape, self.dtype)

    def _is_history(self, state: int) -> bool:
        """Whether running adjoints need a place for every step."""
        late = self.schedule.loads.get(("running", state), 0)
        return self.job.cell.depth > 1 or late > self.schedule.stores[("running", state, 1)]

    def _start(self, state: int) -> Tensor:
        """What comes from after the last step."""
        depth, width = self.job.cell.depth, self.job.state_sizes()[state]
        batch, last = self.tape.batch, self.final[state]
        count = self.tape.steps if self._is_history(state) else 0
        running = torch.zeros(count + depth, batch, padded(width), dtype=self.dtype)
        if last is not None and self.tape.ends is not None:
            ends = self.tape.ends.expand(-1, -1, width)
            running[..., :width].scatter_add_(0, ends, last)
        elif last is not None:
            last = last.flip(0) if self.job.reverse else last
            first = 0 if self.job.reverse else count
            running[first : first + depth, :, :width] = last
        return running

    def _running(self, place: Place) -> Span:
        state, lag = place[1], place[2] if len(place) > 2 else 0
        running = self.running[state]
        assert running is not None, "clocks have no adjoint"
        if self._is_history(state):
            return self._in_time(running, self.tape.after(lag))
        return Span(running.data_ptr(), 0, running.stride(1))

    def _outer(self, place: Place) -> Span:
        """What comes from outside the recurrence; one row of zeros if nothing does."""
        state = place[1]
        given = self.outer_gradients.get(state)
        if given is None:
            width = padded(self.job.state_sizes()[state])
            return Span(self._keep(torch.zeros(width, dtype=self.dtype)).data_ptr(), 0, 0)
        return self._in_time(self._keep(_loadable(given)))

    def _adjoint(self, place: Place) -> Span:
        return self._gate(place, self.adjoints)

    def _grad(self, place: Place) -> Span:
        """The sums over time of each row."""
        number = place[2]
        if number not in self.sums:
            shape = (self.tape.batch, self._width(place))
            self.sums[number] = torch.zeros(shape, dtype=self.dtype)
        a = self.sums[number]
        return Span(a.data_ptr(), 0, a.stride(0))

    def _grad_extra(self, place: Place) -> Span:
        shape = (self.tape.steps, self.tape.batch, self._width(place))
        a = self.extras[place[1]] = new(shape, self.dtype)
        return self._in_time(a)


def _loadable(gradient: Tensor) -> Tensor:
    """A gradient as whole vectors: a sum's, the same everywhere, as one row."""
    if gradient.stride(-1) == 0 and gradient.shape[-1] > 1:
        row = gradient[..., :1]
        width = padded(gradient.shape[-1])
        if not any(gradient.stride()):
            return row.flatten()[:1].expand(width).contiguous().expand(*gradient.shape[:2], width)
        return row.expand(*gradient.shape[:2], width).contiguous()
    return wide(gradient)


class _Gathering:
    """What is left when the loop is done."""

    def __init__(self, launch: _Backward, wanted: Sequence[bool]) -> None:
        self.launch, self.tape, self.wanted = launch, launch.tape, wanted
        self.layout = launch.program.layout
        self.count = self.tape.steps * self.tape.batch
        self.where = launch.program.schedule("save").reads

    def found(self) -> Found:
        """All gradients."""
        job = self.tape.job
        found = Found(states=[None if r is None else self._first(i) for i, r in enumerate(self.launch.running)])
        if self.wanted[0]:
            found.x = self._x()
        for slot, want in zip(job.slots, self.wanted[1:], strict=True):
            found.weights.append(self._slot(slot) if want else None)
        sums = self.launch.sums.items()
        widths = [n.width for n in self.launch.program.graphs.once]
        found.once = {i: a.sum(0)[: job.sizes.of(widths[i])] for i, a in sums}
        for i, a in self.launch.extras.items():
            found.extras[i] = a[..., : self.tape.inputs.extras[i].shape[-1]]
        return found

    def _first(self, state: int) -> Tensor:
        """The adjoint of the values before the first step."""
        running, job = self.launch.running[state], self.tape.job
        assert running is not None, "clocks have no adjoint"
        depth = job.cell.depth
        if job.reverse:
            return running[-depth:].flip(0)[..., : job.state_sizes()[state]]
        return running[:depth, :, : job.state_sizes()[state]]

    def _adjoints(self, gates: Sequence[str], width: int) -> Tensor:
        """The adjoints of neighbouring gates as one matrix."""
        first = self.layout.offset(gates[0])
        rows = self.launch.adjoints[self.layout.width[gates[0]]]
        return rows.view(self.count, -1)[:, first : first + width]

    def _x(self) -> Tensor | None:
        total: Tensor | None = None
        for width, row in self.layout.gates.items():
            gates = input_gates(self.tape.job, row)
            matrix = self.tape.weights.input_matrix(width)
            if matrix is not None:
                part = product(self._adjoints(gates, matrix.shape[0]), matrix)
                total = part if total is None else total + part
        return None if total is None else total.view_as(self.tape.inputs.x)

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
                parts.append(torch.mv(a.t(), torch.ones(self.count, dtype=a.dtype)))
            else:
                parts.append(outer(a, self._matrix(gates[0], place)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _nothing(self, slot: Slot, gate: str) -> Tensor:
        sizes = self.tape.job.sizes
        width = sizes.of(self.tape.job.cell.affines[gate].width)
        columns = () if slot.columns is None else (sizes.of(slot.columns),)
        return torch.zeros(width, *columns, dtype=self.launch.dtype)

    def _runs(self, slot: Slot) -> Iterator[tuple[list[str], int | None]]:
        """The slot's gates, those together that lie together and read the same."""
        current: list[str] = []
        place: int | None = None
        for piece, _ in rows(self.tape.job, slot):
            if current and not self._joins(current[-1], place, piece.gate, piece.place):
                yield current, place
                current = []
            current, place = [*current, piece.gate], piece.place
        if current:
            yield current, place

    def _joins(self, a: str, i: int | None, b: str, j: int | None) -> bool:
        if a not in self.layout.rank or b not in self.layout.rank:
            return False
        width = self.layout.width[a]
        whole = self.layout.apart(width) == self.tape.job.sizes.of(width)
        follows = self.layout.rank[b] == self.layout.rank[a] + 1
        return whole and follows and (i is None) == (j is None) and (
            i is None or j is None or self._place(a, i) == self._place(b, j)
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
            return rows_of(tape.states[place[1]], tape.after(place[2]), steps, width)
        if place[0] == "after":
            return rows_of(tape.states[place[1]], tape.after(), steps, width)
        if place[0] == "read":
            return rows_of(tape.kept[place], 0, steps, width)
        if place[0] == "once":
            return tape.once[place[1]].view(1, -1).expand(self.count, -1)
        return tape.inputs.extras[place[1]].reshape(self.count, -1)
