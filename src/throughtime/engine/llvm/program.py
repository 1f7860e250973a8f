"""Which kernels does a job need? Its step lowered, put in order, compiled when first used."""

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

import torch

from throughtime.declare.graph import Width
from throughtime.engine.job import Job
from throughtime.engine.llvm.ir import Lanes
from throughtime.engine.llvm.jit import Module, compiled
from throughtime.engine.llvm.layout import Layout, layout
from throughtime.engine.llvm.lowering import Place, Root, StepGraphs, Variant, lowered
from throughtime.engine.llvm.machine import Machine, machine
from throughtime.engine.llvm.rows import Rows, rows_of_slots
from throughtime.engine.llvm.schedule import Schedule, scheduled
from throughtime.engine.llvm.skeleton import Kernel, kernel
from throughtime.engine.llvm.tiles import Shape, dispatch_text
from throughtime.engine.llvm.weights import Inputs

__all__ = ["Kind", "Program", "Ready", "program_of"]

Kind = Literal["infer", "save", "backward"]
_NEVER = 1 << 30
_REAL = {torch.float32: "float", torch.float64: "double"}


@dataclass(frozen=True)
class Ready:
    """A kernel that can be called."""

    kernel: Kernel
    module: Module
    address: int


@dataclass
class Program:
    """A job for one kind of call, number type and machine.

    Attributes:
        job: What is asked.
        variant: The kind of call.
        dtype: Of all numbers.
        machine: What it runs on.
        plans: What calls of some size need, by size.
    """

    job: Job
    variant: Variant
    dtype: torch.dtype
    machine: Machine
    _ready: dict[Kind, Ready] = field(default_factory=dict)
    _kernels: dict[Kind, Kernel] = field(default_factory=dict)
    _schedules: dict[Kind, Schedule] = field(default_factory=dict)
    plans: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def graphs(self) -> StepGraphs:
        """The step, forward and backward."""
        return lowered(self.job, self.variant)

    @cached_property
    def layout(self) -> Layout:
        """Where gates lie."""
        return layout(self.job)

    def schedule(self, kind: Kind) -> Schedule:
        """The stages of a kernel."""
        if kind not in self._schedules:
            self._schedules[kind] = scheduled(self._roots(kind), self.layout.rank)
        return self._schedules[kind]

    def _roots(self, kind: Kind) -> tuple[Root, ...]:
        graphs = self.graphs
        return {
            "infer": graphs.forward,
            "save": (*graphs.forward, *graphs.saved),
            "backward": graphs.backward,
        }[kind]

    def after(self, lag: int = 0) -> int:
        """Where in the history of a state the value some steps before that of step 0 lies."""
        return lag if self.job.reverse else self.job.cell.depth - lag

    @cached_property
    def inputs(self) -> Inputs:
        """The matrices that read x."""
        return Inputs(self.job, self.layout)

    @cached_property
    def reads(self) -> dict[Place, Width]:
        """What products read and only the loop makes, with its width."""
        schedule = self.schedule("save")
        places = {p for p in schedule.reads.values() if p[0] == "read"}
        stores = [r for stage in schedule.stages for r in stage.roots if r.place in places]
        return {r.place: r.width for r in stores}

    @cached_property
    def may_overwrite(self) -> dict[Width, bool]:
        """Whether what is kept of gates may lie where what they get from x lay, by width."""
        loads, stores = self.schedule("save").loads, self.schedule("save").stores
        return {
            width: width != 1
            and all(loads.get(("input", g), 0) <= stores.get(("saved", g), _NEVER) for g in gates)
            for width, gates in self.layout.gates.items()
        }

    @cached_property
    def shown(self) -> tuple[int, ...] | None:
        """The states that the output consists of; None where it is computed from them."""
        index = {s.name: i for i, s in enumerate(self.job.cell.states)}
        if any(n.op != "new" for n in self.job.cell.out):
            return None
        return tuple(index[n.data[0]] for n in self.job.cell.out)

    @cached_property
    def rows(self) -> list[tuple[Width, int, bool]]:
        """Of each width of gates, how long a row is and whether what is kept may lie in it."""
        gates = self.layout.gates
        return [(w, self.layout.stride(w), self.may_overwrite[w]) for w in gates]

    @cached_property
    def rows_of_slots(self) -> tuple[tuple[Rows, ...] | None, ...]:
        """Which rows of each weight's gradient come from which gates."""
        return rows_of_slots(self.job, self.layout, self.schedule("save"))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Of the states."""
        return self.job.state_sizes()

    @cached_property
    def work(self) -> int:
        """Multiplications a step and row, those that read x left out, at least one a unit."""
        sizes = self.job.sizes
        inside = sum(
            sizes.of(p.width) * sizes.of(slot.columns)
            for slot in self.job.slots
            for p in slot.pieces
            if slot.columns is not None and p.gate in self.layout.rank
        )
        return inside + 16 * sum(self.job.state_sizes())

    def kernel(self, kind: Kind) -> Kernel:
        """A kernel's text."""
        if kind not in self._kernels:
            self._kernels[kind] = kernel(self.schedule(kind), self.machine, _REAL[self.dtype])
        return self._kernels[kind]

    def ready(self, kind: Kind) -> Ready:
        """A kernel, compiled."""
        found = self._ready.get(kind)
        if found is None:
            written = self.kernel(kind)
            shapes = {s for t in written.tilings.values() for s in t.shapes}
            lanes = written.frame.lanes
            tiles = {f"tile{s.vectors}": _tile(s, lanes, self.machine) for s in shapes}
            module = compiled(written.text, self.machine, tiles)
            found = self._ready[kind] = Ready(written, module, module.address("kernel"))
        return found


@cache
def _tile(size: Shape, lanes: Lanes, target: Machine) -> int:
    """The address of the tiles of a shape: most of the code of any kernel, and the same for all."""
    text, name = dispatch_text(lanes, size), f"tile{size.vectors}"
    head = f"define internal void @{name}("
    return compiled(text.replace(head, head.replace(" internal", "")), target).address(name)


def program_of(job: Job, variant: Variant, dtype: torch.dtype) -> Program:
    """The program of a job; kept with the job."""
    host = machine()
    programs = job.memo.setdefault("llvm", {})
    key = variant, dtype, host.name
    found = programs.get(key)
    if found is None:
        found = programs[key] = Program(job, variant, dtype, host)
    return found
