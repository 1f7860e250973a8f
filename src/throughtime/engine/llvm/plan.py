"""What does a kernel's array of arguments hold? Worked out once for each number of steps and rows.

A place becomes a span of a buffer; what is left for each call is to add the buffers' addresses.
"""

from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from throughtime.engine.job import rows
from throughtime.engine.llvm.jit import compiled
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.machine import Machine
from throughtime.engine.llvm.memory import Key, Span, span
from throughtime.engine.llvm.program import Kind, Program
from throughtime.engine.llvm.schedule import Matrix, Pass, Stage
from throughtime.engine.llvm.setup import SIZE, Panels, Task, setup_text
from throughtime.engine.llvm.skeleton import Tiling
from throughtime.engine.llvm.team import launch
from throughtime.engine.llvm.tiles import Shape

__all__ = ["Plan", "Shared", "plan"]

WORK: Key = ("work",)
_LINE = 16  # numbers: buffers within the work space begin on cache lines


class Shared(NamedTuple):
    """How the work is shared: by how many threads, and whether they share units or rows."""

    threads: int
    by_units: bool


class Plan:
    """A kernel for calls of one size.

    Attributes:
        program, kind: Which kernel.
        steps, batch: T and B.
        shared: How the work is shared.
        work: How many numbers of work space a call needs.
        open: The slots of places whose spans differ from call to call.
        zeros: Where in the work space there is a row of zeros.
    """

    def __init__(self, program: Program, kind: Kind, size: tuple[int, int], shared: Shared) -> None:
        self.program, self.kind, self.shared = program, kind, shared
        self.steps, self.batch = size
        self.ready = program.ready(kind)
        self.kernel, self.job = self.ready.kernel, program.job
        forward = 1 if kind != "backward" else -1
        self.direction = -forward if self.job.reverse else forward
        self.work = 0
        self.open: dict[Place, int] = {}
        self._tasks: list[Task] = []
        self._task_patches: list[tuple[int, Key, int]] = []
        self._patches: list[tuple[int, Key, int]] = []
        self._arguments = array("q", bytes(8 * self.kernel.frame.size))
        self._temporary: dict[Place, Span] = {}
        self.zeros = self._room(max((padded(w) for w in self.job.state_sizes()), default=1))
        self._clear(self.zeros, 1, self.work)
        self._fill()
        numbers = [n for t in self._tasks for n in t.numbers]
        self._list = array("q", [len(self._tasks), *numbers])
        self._setup = _setup(program.machine, "float" if self._bytes == 4 else "double")

    @property
    def _bytes(self) -> int:
        return self.program.dtype.itemsize

    def prepare(self, addresses: Mapping[Key, int]) -> None:
        """Pack weights, copy first states, clear what must begin at zero."""
        tasks = array("q", self._list)
        for slot, key, offset in self._task_patches:
            address = addresses[key]
            tasks[slot] = address + offset if address else 0
        launch(self._setup, tasks.buffer_info()[0], self.shared.threads)

    def run(self, addresses: Mapping[Key, int], spans: Mapping[Place, Span]) -> None:
        """Run the kernel, which must have been prepared.

        Args:
            addresses: Of every buffer.
            spans: Of the places that are open, each in a buffer.
        """
        arguments = array("q", self._arguments)
        for slot, key, offset in self._patches:
            arguments[slot] = addresses[key] + offset
        for place, found in spans.items():
            slot = self.open.get(place)
            if slot is not None:
                start = addresses[found.buffer] + found.start * self._bytes
                arguments[slot : slot + 3] = array("q", (start, found.step, found.row))
        launch(self.ready.address, arguments.buffer_info()[0], self.shared.threads)

    def _room(self, numbers: int) -> int:
        """Reserve work space; where it begins."""
        start = self.work
        self.work += -(-numbers // _LINE) * _LINE
        return start

    def _task(self, task: Task, to: tuple[Key, int], of: tuple[Key, int] | None) -> None:
        """Note a task and what its addresses will be, in numbers from a buffer's start."""
        slot = 1 + len(self._tasks) * SIZE
        self._tasks.append(task)
        for number, where in ((slot + 1, to), (slot + 2, of)):
            if where is not None:
                self._task_patches.append((number, where[0], where[1] * self._bytes))

    def _clear(self, start: int, count: int, width: int) -> None:
        self._task(Task.copy(count, width, width, 0), (WORK, start), None)

    def _fill(self) -> None:
        frame, slots = self.kernel.frame, self._arguments
        flags = 0
        if self.shared.by_units:
            flags = self._room(16 * self.shared.threads * 8 // self._bytes)
            self._clear(flags, 1, self.work - flags)
        slots[0:3] = array("q", (self.steps, self.batch, int(self.shared.by_units)))
        self._patches.append((3, WORK, flags * self._bytes))
        for width in frame.widths:
            slot, size = frame.width_slot(width), self.job.sizes.of(width)
            slots[slot : slot + 2] = array("q", (size, padded(size)))
        for place in frame.places:
            slot = frame.slot(place)
            if place[0] in {"outer", "running"}:
                self.open[place] = slot
                continue
            found = self._find(place)
            self._patches.append((slot, found.buffer, found.start * self._bytes))
            slots[slot + 1 : slot + 3] = array("q", (found.step, found.row))
        for number, stage, tiling, p, shape in self.kernel.passes():
            self._pass(number, stage, tiling, p, shape)
        if self.kind != "backward":
            self._first_states()
            self._input_matrices()

    def _first_states(self) -> None:
        """Copy the states before the first step to where those after it will lie."""
        depth, batch = self.job.cell.depth, self.batch
        for i, width in enumerate(self.job.state_sizes()):
            far = padded(width)
            for lag in range(1, depth + 1):
                first = self.steps - 1 if self.job.reverse else 0  # the step that is taken first
                to = (first + self.program.after(lag)) * batch * far
                of = (depth - lag) * batch * width
                task = Task.copy(batch, width, far, width)
                self._task(task, (("states", i), to), (("start", i), of))

    def _input_matrices(self) -> None:
        """Gather the matrices that read x, where they do not stand as gates lie in memory."""
        for key, row, height, index, start in self.program.inputs.copies():
            columns = self.job.sizes.input
            task = Task.copy(height, columns, columns, columns)
            self._task(task, (key, row * columns), (("weight", index), start * columns))

    def _find(self, place: Place) -> Span:
        finders: dict[object, Callable[[Place], Span]] = {
            "past": lambda p: self._state(p[1], p[2]),  # type: ignore[arg-type]
            "after": lambda p: self._state(p[1], 0),  # type: ignore[arg-type]
            "input": lambda p: self._gate(p, "gates"),
            "saved": lambda p: self._gate(p, "saved"),
            "adjoint": lambda p: self._gate(p, "adjoints"),
            "bias": self._bias,
            "once": lambda p: Span(p, 0),
            "extra": lambda p: self._rows(p, p),
            "mask": lambda p: self._rows(p, p),
            "carried": self._carried,
            "sum": self._carried,
            "partial": self._carried,
            "read": self._read,
            "grad": self._sums,
            "grad extra": lambda p: self._rows(p, p),
        }
        return finders[place[0]](place)

    def _width(self, place: Place) -> int:
        """How far apart the rows of a buffer for a place's values are."""
        if place[0] == "partial":
            return self.kernel.frame.lanes.count
        width = self.kernel.frame.width_of[place]
        return 1 if width == 1 else padded(self.job.sizes.of(width))

    def _in_time(self, buffer: Key, row: int, index: int = 0) -> Span:
        return span(buffer, (self.batch * row, row), index, self.steps, self.direction)

    def _rows(self, place: Place, buffer: Key) -> Span:
        return self._in_time(buffer, self._width(place))

    def _state(self, state: int, lag: int) -> Span:
        row = padded(self.job.state_sizes()[state])
        return self._in_time(("states", state), row, self.program.after(lag))

    def _gate(self, place: Place, buffer: str) -> Span:
        layout, gate = self.program.layout, str(place[1])
        width = layout.width[gate]
        found = self._in_time((buffer, width), layout.stride(width))
        return found._replace(start=found.start + layout.offset(gate))

    def _bias(self, place: Place) -> Span:
        gate, number = str(place[1]), int(str(place[2]))
        size = self.job.sizes.of(self.program.layout.width[gate])
        found = [
            (index, part.start)
            for index, slot in enumerate(self.job.slots)
            for piece, part in rows(self.job, slot)
            if piece.place is None and piece.gate == gate
        ]
        index, start = found[number]
        if size in {1, padded(size)}:
            return Span(("weight", index), start)
        room = self._room(padded(size))  # so that it can be loaded in whole vectors
        self._task(Task.copy(1, size, 0, 0), (WORK, room), (("weight", index), start))
        return Span(WORK, room)

    def _carried(self, place: Place) -> Span:
        """A value of one step alone."""
        if place not in self._temporary:
            row = self._width(place)
            self._temporary[place] = Span(WORK, self._room(self.batch * row), 0, row)
        return self._temporary[place]

    def _read(self, place: Place) -> Span:
        """What a product reads.

        It is kept of all steps where its matrix has a gradient to come, and where another thread
        may still be reading that of the step before.
        """
        if self.kind == "infer" and not self.shared.by_units:
            return self._carried(place)
        return self._rows(place, ("kept", *place))

    def _sums(self, place: Place) -> Span:
        row = self._width(place)
        task = Task.copy(self.batch, row, row, 0)
        self._task(task, (place, 0), None)
        return Span(place, 0, 0, row)

    def _pass(self, number: int, stage: Stage, tiling: Tiling, p: Pass, shape: Shape) -> None:
        """Where a pass's packed weights lie, and how they get there."""
        sizes, layout = self.job.sizes, self.program.layout
        known = next(m for column in p.matrices for m in column if m is not None)
        k = self._depth_of(known)
        joined = len(p.reads) > 1 and k % 16 == 0
        parts = 1 if joined else len(p.reads)
        k_whole = k * len(p.reads) // parts
        wide = shape.vectors * self.kernel.frame.lanes.count
        columns = len(p.matrices) * tiling.units
        tiles = -(-columns // wide)
        units = sizes.of(stage.width)
        panels = -(-units // tiling.units)
        start = self._room(panels * parts * tiles * wide * k_whole)
        place = Panels(tiling.units, wide, parts * tiles * wide * k_whole, wide * k_whole, 0)
        for c in range(tiles * wide // tiling.units):
            column = p.matrices[c] if c < len(p.matrices) else (None,) * len(p.reads)
            for r, matrix in enumerate(column):
                offset = r * k * wide if joined else r * tiles * wide * k_whole
                spot = place._replace(column=c * tiling.units)
                self._pack(matrix, k, units, spot, start + offset)
        slot = self.kernel.frame.pass_slot(number)
        self._patches.append((slot, WORK, start * self._bytes))
        apart = layout.apart(layout.width[known[0]]) if parts > 1 else 0
        self._arguments[slot + 1 : slot + 4] = array("q", (k_whole, parts, apart))

    def _depth_of(self, matrix: Matrix) -> int:
        """How many numbers a matrix reads."""
        gate, place, turned = matrix
        affine = self.job.cell.affines[gate]
        return self.job.sizes.of(affine.width if turned else affine.args[place].width)

    def _pack(self, matrix: Matrix | None, k: int, units: int, spot: Panels, start: int) -> None:
        if matrix is None:
            self._task(Task.pack(0, k, (0, 0), spot), (WORK, start), None)
            return
        gate, place, turned = matrix
        index, first, columns = self._matrix(gate, place)
        strides = (1, columns) if turned else (columns, 1)
        task = Task.pack(units, k, strides, spot)
        self._task(task, (WORK, start), (("weight", index), first * columns))

    def _matrix(self, gate: str, place: int) -> tuple[int, int, int]:
        """The slot, first row and row length of a matrix."""
        for index, slot in enumerate(self.job.slots):
            for piece, part in rows(self.job, slot):
                if (piece.gate, piece.place) == (gate, place):
                    assert slot.columns is not None, "a matrix has columns"
                    return index, part.start, self.job.sizes.of(slot.columns)
        raise AssertionError(f"no slot holds matrix {place} of a gate")


@lru_cache
def _setup(machine: Machine, real: str) -> int:
    lanes = machine.lanes("float" if real == "float" else "double")
    return compiled(setup_text(lanes), machine).address("setup")


_KEPT = 64  # sizes of calls whose plans a program keeps


def plan(program: Program, kind: Kind, size: tuple[int, int], shared: Shared) -> Plan:
    """The plan for calls of one size; the last ones are kept."""
    key = (kind, size, shared)
    found = program.plans.get(key)
    if found is None:
        if len(program.plans) >= _KEPT:
            program.plans.pop(next(iter(program.plans)), None)
        found = program.plans[key] = Plan(program, kind, size, shared)
    return found
