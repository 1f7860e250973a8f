"""How is the loop of one call carried out? Buffers found, the input projected, a kernel run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from throughtime.declare.graph import Width
from throughtime.engine.job import Inputs, Job
from throughtime.engine.llvm.gemm import project
from throughtime.engine.llvm.layout import padded
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.memory import Key, aligned
from throughtime.engine.llvm.plan import WORK, Plan, Shared, plan
from throughtime.engine.llvm.program import Kind, Program
from throughtime.engine.llvm.team import team_size
from throughtime.engine.llvm.workspace import borrow

__all__ = ["Tape", "addresses", "forward", "input_matrix", "new", "plan_of"]

_FROM_POOL = 4096  # numbers from which memory comes from the pool
_BY_UNITS_FROM = 256  # units from which threads share a row: the weights fill a core's cache
_FEW_ROWS = 4  # rows a thread below which they share units
_SMALL = 20_000_000  # multiplications a call below which a second thread does not pay
_SHORT = 200_000  # multiplications a step below which threads would mostly wait for each other


@dataclass
class Tape:
    """What a call leaves for its backward pass.

    Attributes:
        program: What was run.
        inputs: Of the call.
        weights: Of the inputs, contiguous.
        masks: Validity and age of every step, if there are lengths or resets.
        once: The values per unit.
        states: Of each state, all steps and those before them.
        gates: Of each width, the rows of what gates get from x.
        saved: Of each width, the rows of what is kept of gates: the same, where that is safe.
        kept: What products read, by place.
        buffers: The other tensors whose addresses kernels know.
    """

    program: Program
    inputs: Inputs
    weights: Sequence[Tensor]
    masks: Mapping[str, Tensor]
    once: Sequence[Tensor]
    states: list[Tensor] = field(default_factory=list)
    gates: dict[Width, Tensor] = field(default_factory=dict)
    saved: dict[Width, Tensor] = field(default_factory=dict)
    kept: dict[Place, Tensor] = field(default_factory=dict)
    buffers: dict[Key, Tensor] = field(default_factory=dict)

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
    def x(self) -> Tensor:
        """All rows of the input, [T B, I], the numbers of each side by side."""
        x = self.inputs.x.flatten(0, 1)
        return x if x.stride(1) == 1 else x.clone(memory_format=torch.contiguous_format)

    @cached_property
    def ends(self) -> Tensor | None:
        """[D, B, 1]: where in `states` the last D values lie; None where that is at the end."""
        lengths, depth = self.inputs.lengths, self.job.cell.depth
        if lengths is None or depth == 1:
            return None
        return (lengths + torch.arange(depth)[:, None]).unsqueeze(-1)

    def trajectory(self, state: int) -> Tensor:
        """[T, B, w]: a state after every step."""
        return self.part(state, self.program.after(), self.steps)

    def part(self, state: int, first: int, count: int) -> Tensor:
        """[count, B, w]: some steps of a state's history."""
        states, width = self.states[state], self.program.widths[state]
        far, row, _ = states.stride()
        return states.as_strided((count, self.batch, width), (far, row, 1), first * far)


def new(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, its memory from the pool where that pays."""
    count = math.prod(shape)
    if count < _FROM_POOL:
        return torch.empty(shape, dtype=dtype)
    return borrow(count, dtype).view(shape)


def plan_of(tape: Tape, kind: Kind) -> Plan:
    """The plan of a kernel for a call."""
    return plan(tape.program, kind, (tape.steps, tape.batch), _shared(tape, kind))


def _shared(tape: Tape, kind: Kind) -> Shared:
    """How many threads work on a call, and what they share."""
    threads, program = team_size(), tape.program
    if threads == 1 or tape.steps * tape.batch * program.work < _SMALL:
        return Shared(1, by_units=False)
    kernel, a_step = program.kernel(kind), tape.batch * program.work
    most = max(program.job.sizes.of(w) for w in kernel.frame.widths)
    many_rows = tape.batch >= threads * _FEW_ROWS
    if many_rows and most < _BY_UNITS_FROM:
        return Shared(threads, by_units=False)
    if kernel.by_units and a_step >= _SHORT:
        return Shared(min(threads, -(-most // kernel.granule)), by_units=True)
    return Shared(min(threads, tape.batch), by_units=False)


def forward(tape: Tape, *, save: bool) -> None:
    """Run a call: the input projection, then the loop over time.

    Args:
        tape: Filled with the states, and with what the backward pass needs.
        save: Whether there will be one.
    """
    program, steps, batch = tape.program, tape.steps, tape.batch
    depth, dtype = tape.job.cell.depth, program.dtype
    chosen = plan_of(tape, "save" if save else "infer")
    for width in program.widths:
        tape.states.append(new((depth + steps, batch, padded(width)), dtype))
    for width, row, in_place in program.rows:
        tape.gates[width] = rows = new((steps, batch, row), dtype)
        tape.saved[width] = new((steps, batch, row), dtype) if save and not in_place else rows
    for place, width in program.reads.items():
        row = 1 if width == 1 else padded(tape.job.sizes.of(width))
        tape.kept[place] = new((steps, batch, row), dtype)
    for width, count in program.inputs.gathered.items():
        tape.buffers["input matrix", width] = new((count, tape.x.shape[1]), dtype)
    _collect(tape)
    where = addresses(tape, chosen)
    chosen.prepare(where)
    for width in program.inputs.widths:
        matrix = input_matrix(tape, width)
        rows = tape.gates[width].flatten(0, 1)[:, : matrix.shape[0]]
        project(tape.x, matrix, rows, team_size())
    chosen.run(where, {})
    del tape.buffers[WORK]  # packed weights and the like: the next pass has its own


def input_matrix(tape: Tape, width: Width) -> Tensor:
    """[gates, apart] by I: the matrix that gives gates of a width what they get from x."""
    gathered = tape.buffers.get(("input matrix", width))
    return tape.program.inputs.matrix(width, tape.weights) if gathered is None else gathered


def _collect(tape: Tape) -> None:
    """The tensors that kernels know, each laid out for them."""
    buffers, cell = tape.buffers, tape.job.cell
    for i, start in enumerate(tape.inputs.states):
        buffers["start", i] = start.contiguous()
    for i, weight in enumerate(tape.weights):
        buffers["weight", i] = weight
    for i, (value, n) in enumerate(zip(tape.once, tape.program.graphs.once, strict=True)):
        buffers["once", i] = aligned(value, n.width)
    for i, (extra, kind) in enumerate(zip(tape.inputs.extras, cell.extras, strict=True)):
        buffers["extra", i] = aligned(extra, kind.width)
    for name, mask in tape.masks.items():
        buffers["mask", name] = mask
    for i, states in enumerate(tape.states):
        buffers["states", i] = states
    for width, rows in tape.gates.items():
        buffers["gates", width], buffers["saved", width] = rows, tape.saved[width]
    for place, read in tape.kept.items():
        buffers["kept", *place] = read


def addresses(tape: Tape, chosen: Plan) -> dict[Key, int]:
    """Where every buffer of a call lies, and work space for a plan."""
    tape.buffers[WORK] = borrow(chosen.work, tape.program.dtype)
    return {key: a.data_ptr() for key, a in tape.buffers.items()}
