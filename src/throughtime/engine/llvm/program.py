"""Which kernels does a job need? Its step lowered, put in order and compiled, each when first used."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch

from throughtime.engine.job import Job
from throughtime.engine.llvm.jit import Module, compiled
from throughtime.engine.llvm.layout import Layout, layout
from throughtime.engine.llvm.lowering import StepGraphs, Variant, lowered
from throughtime.engine.llvm.machine import Machine, machine
from throughtime.engine.llvm.schedule import Schedule, scheduled
from throughtime.engine.llvm.skeleton import Kernel, kernel

__all__ = ["Kind", "Program", "Ready", "program_of"]

Kind = Literal["infer", "save", "backward"]
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
    """

    job: Job
    variant: Variant
    dtype: torch.dtype
    machine: Machine
    _ready: dict[Kind, Ready] = field(default_factory=dict)

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
        graphs = self.graphs
        roots = {
            "infer": graphs.forward,
            "save": (*graphs.forward, *graphs.saved),
            "backward": graphs.backward,
        }[kind]
        return scheduled(roots, self.layout.rank)

    def written(self, kind: Kind) -> Kernel:
        """A kernel's text."""
        return kernel(self.schedule(kind), self.machine, _REAL[self.dtype])

    def ready(self, kind: Kind) -> Ready:
        """A kernel, compiled."""
        found = self._ready.get(kind)
        if found is None:
            written = self.written(kind)
            module = compiled(written.text, self.machine)
            found = self._ready[kind] = Ready(written, module, module.address("kernel"))
        return found


def program_of(job: Job, variant: Variant, dtype: torch.dtype) -> Program:
    """The program of a job; kept with the job."""
    host = machine()
    key = ("llvm", variant, dtype, host.name)
    found = job.memo.get(key)
    if found is None:
        found = job.memo[key] = Program(job, variant, dtype, host)
    return found
