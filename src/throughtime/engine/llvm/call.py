"""How is one call carried out? Tensors found and laid out, kernels launched, gradients gathered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from throughtime.declare.graph import Width
from throughtime.engine.job import Inputs, Job
from throughtime.engine.llvm.products import project
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.memory import Arguments, Span, span, wide
from throughtime.engine.llvm.program import Kind, Program
from throughtime.engine.llvm.skeleton import Kernel
from throughtime.engine.llvm.team import launch, team_size
from throughtime.engine.llvm.weights import Weights, packed
from throughtime.engine.llvm.workspace import borrow

__all__ = ["Launch", "Tape", "forward", "new", "wide_vector"]

_BY_UNITS_FROM = 256  # units of a row from which threads share them: the weights fill a core's cache
_FEW_ROWS = 4  # rows a thread below which they share units
_SMALL = 200_000  # multiplications a call below which a second thread does not pay


@dataclass
class Tape:
    """What a call leaves for its backward pass.

    Attributes:
        program: What was run.
        inputs: Of the call.
        masks: Validity and age of every step, if there are lengths or resets.
        once: The values per unit.
        states: Of each state, all steps and those before them.
        gates: Of each width, the rows of what gates get from x.
        saved: Of each width, the rows of what is kept of gates: the same, where that is safe.
        kept: Other buffers, by place: what products read.
    """

    program: Program
    inputs: Inputs
    masks: Mapping[str, Tensor]
    once: Sequence[Tensor]
    states: list[Tensor] = field(default_factory=list)
    gates: dict[Width, Tensor] = field(default_factory=dict)
    saved: dict[Width, Tensor] = field(default_factory=dict)
    kept: dict[Place, Tensor] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """What was asked."""
        return self.program.job

    @property
    def steps(self) -> int:
        """T."""
        return self.inputs.x.shape[0]

    @property
    def batch(self) -> int:
        """B."""
        return self.inputs.x.shape[1]

    @cached_property
    def weights(self) -> Weights:
        """As gates lie in memory."""
        return Weights(self.job, self.program.layout, self.inputs.weights)

    @cached_property
    def x(self) -> Tensor:
        """[T B, I]."""
        x = self.inputs.x
        return x.reshape(-1, x.shape[2])

    @cached_property
    def ends(self) -> Tensor | None:
        """Where in `states` the last D values lie; None where they lie at the end. [D, B, 1]"""
        lengths, depth = self.inputs.lengths, self.job.cell.depth
        if lengths is None or depth == 1:
            return None
        return (lengths + torch.arange(depth)[:, None]).unsqueeze(-1)

    def after(self, lag: int = 0) -> int:
        """Where in `states` the value some steps before the one of step 0 lies."""
        depth = self.job.cell.depth
        return lag if self.job.reverse else depth - lag

    def trajectory(self, state: int) -> Tensor:
        """A state after every step. [T, B, w]"""
        first, width = self.after(), self.job.state_sizes()[state]
        return self.states[state][first : first + self.steps, :, :width]


def new(shape: Sequence[int], like: torch.dtype) -> Tensor:
    """An uninitialised tensor from the pool."""
    count = 1
    for n in shape:
        count *= n
    return borrow(count, like).view(shape)


class Launch:
    """One launch of a kernel: the places that its arguments name."""

    def __init__(self, tape: Tape, kind: Kind) -> None:
        self.tape, self.kind = tape, kind
        self.program, self.job = tape.program, tape.job
        self.ready = self.program.ready(kind)
        self.kernel: Kernel = self.ready.kernel
        forward = 1 if kind != "backward" else -1
        self.direction = -forward if self.job.reverse else forward
        self.dtype = self.program.dtype
        self.threads, self.by_units = self._team()
        self.alive: list[Tensor] = []
        self.temporary: dict[Place, Tensor] = {}

    def _team(self) -> tuple[int, bool]:
        """How many threads, and whether they share units rather than rows."""
        threads = team_size()
        matrices = sum(w.numel() for w in self.tape.inputs.weights if w.dim() == 2)
        if threads == 1 or matrices * self.tape.batch * self.tape.steps < _SMALL:
            return 1, False
        sizes = self.job.sizes
        most = max(sizes.of(w) for w in self.kernel.frame.widths)
        few = self.tape.batch < threads * _FEW_ROWS
        if self.kernel.by_units and (most >= _BY_UNITS_FROM or few):
            return min(threads, -(-most // self.kernel.granule)), True
        return min(threads, self.tape.batch), False

    def run(self) -> None:
        """Fill in the arguments and go."""
        frame, arguments = self.kernel.frame, Arguments(self.kernel.frame.size)
        flags = self._flags()
        arguments.put(0, self.tape.steps, self.tape.batch, int(self.by_units), flags)
        for width in frame.widths:
            size = self.job.sizes.of(width)
            arguments.put(frame.width_slot(width), size, padded(size))
        for place in frame.places:
            arguments.put(frame.slot(place), *self.find(place))
        for number, stage, tiling, p, shape in self.kernel.passes():
            dense = self.tape.weights.dense(p)
            weights = self._keep(packed(dense, tiling, shape, frame.lanes.count))
            apart = 0 if len(p.reads) == 1 else self.program.layout.apart(stage_width(p, self))
            slot = frame.pass_slot(number)
            arguments.put(slot, weights.data_ptr(), dense.shape[3], dense.shape[1], apart)
        launch(self.ready.address, arguments.address, self.threads)

    def _keep(self, a: Tensor) -> Tensor:
        self.alive.append(a)
        return a

    def _flags(self) -> int:
        if not self.by_units:
            return 0
        return self._keep(torch.zeros(16 * self.threads, dtype=torch.int64)).data_ptr()

    def find(self, place: Place) -> Span:
        """Where a place lies."""
        return getattr(self, f"_{place[0].replace(' ', '_')}")(place)  # type: ignore[attr-defined]

    def _in_time(self, a: Tensor, index: int = 0) -> Span:
        return span(a, index, self.tape.steps, self.direction)

    def _past(self, place: Place) -> Span:
        state, lag = place[1:]
        return self._in_time(self.tape.states[state], self.tape.after(lag))

    def _after(self, place: Place) -> Span:
        return self._in_time(self.tape.states[place[1]], self.tape.after())

    def _gate(self, place: Place, rows: Mapping[Width, Tensor]) -> Span:
        layout = self.program.layout
        gate = place[1]
        found = self._in_time(rows[layout.width[gate]])
        size = self.dtype.itemsize
        return found._replace(address=found.address + layout.offset(gate) * size)

    def _input(self, place: Place) -> Span:
        return self._gate(place, self.tape.gates)

    def _saved(self, place: Place) -> Span:
        return self._gate(place, self.tape.saved)

    def _bias(self, place: Place) -> Span:
        bias = self.tape.weights.bias(place[1])
        assert bias is not None, "a gate without bias reads none"
        return Span(self._keep(bias).data_ptr(), 0, 0)

    def _once(self, place: Place) -> Span:
        return Span(self._keep(wide_vector(self.tape.once[place[1]])).data_ptr(), 0, 0)

    def _extra(self, place: Place) -> Span:
        extra = self.tape.inputs.extras[place[1]]
        extra = extra.contiguous() if extra.shape[-1] == 1 else wide(extra)
        return self._in_time(self._keep(extra))

    def _mask(self, place: Place) -> Span:
        return self._in_time(self.tape.masks[place[1]])

    def _width(self, place: Place) -> int:
        width = self.kernel.frame.width_of[place]
        return 1 if width == 1 else padded(self.job.sizes.of(width))

    def _carried(self, place: Place) -> Span:
        """A value that a later stage of the same step reads."""
        if place not in self.temporary:
            self.temporary[place] = new((self.tape.batch, self._width(place)), self.dtype)
        a = self.temporary[place]
        return Span(a.data_ptr(), 0, a.stride(0))

    _sum = _carried

    def _partial(self, place: Place) -> Span:
        if place not in self.temporary:
            count = self.kernel.frame.lanes.count
            self.temporary[place] = new((self.tape.batch, count), self.dtype)
        a = self.temporary[place]
        return Span(a.data_ptr(), 0, a.stride(0))

    def _read(self, place: Place) -> Span:
        """What a product reads: of all steps where its matrix has a gradient to come."""
        if self.kind == "infer" and not self.by_units:
            return self._carried(place)
        if place not in self.tape.kept:
            shape = (self.tape.steps, self.tape.batch, self._width(place))
            self.tape.kept[place] = new(shape, self.dtype)
        return self._in_time(self.tape.kept[place])


def stage_width(p: object, launch: Launch) -> Width:
    """The width of the gates that a pass reads."""
    place = p.reads[0]  # type: ignore[attr-defined]
    return launch.program.layout.width[place[1]]


def wide_vector(a: Tensor) -> Tensor:
    """A vector over the units that can be loaded in whole vectors."""
    return a.contiguous() if a.numel() == 1 else wide(a.view(-1))


def forward(tape: Tape, *, save: bool) -> None:
    """Run a call: the input projection, then the loop over time.

    Args:
        tape: Filled with the states, and with what the backward pass needs.
        save: Whether there will be one.
    """
    job, inputs, program = tape.job, tape.inputs, tape.program
    depth, steps, batch = job.cell.depth, tape.steps, tape.batch
    for start, width in zip(inputs.states, job.state_sizes(), strict=True):
        states = new((depth + steps, batch, padded(width)), program.dtype)
        before = start.flip(0) if job.reverse else start
        first = steps if job.reverse else 0
        states[first : first + depth, :, :width] = before
        tape.states.append(states)
    for width, gates in program.layout.gates.items():
        rows = new((steps, batch, program.layout.stride(width)), program.dtype)
        matrix = tape.weights.input_matrix(width)
        if matrix is not None:
            count = matrix.shape[0]
            project(tape.x, matrix, rows.view(steps * batch, -1)[:, :count])
        tape.gates[width] = rows
    launch = Launch(tape, "save" if save else "infer")
    for width, rows in tape.gates.items():
        own = save and not _may_overwrite(launch, width)
        tape.saved[width] = new(rows.shape, program.dtype) if own else rows
    if steps and batch:
        launch.run()


def _may_overwrite(launch: Launch, width: Width) -> bool:
    """Whether what is kept of gates may lie where what they get from x lay."""
    loads, stores = launch.kernel.schedule.loads, launch.kernel.schedule.stores
    gates = launch.program.layout.gates[width]
    pairs = [(loads.get(("input", g), 0), stores.get(("saved", g))) for g in gates]
    return width != 1 and all(stored is None or loaded <= stored for loaded, stored in pairs)
