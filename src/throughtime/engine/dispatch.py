"""Which engine does a job, and why not a faster one?"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.engine import reference, vendor
from throughtime.engine.interleave import interleaved, judged, quotient, strands_of
from throughtime.engine.job import Inputs, Job, learns
from throughtime.engine.llvm import sequence as llvm
from throughtime.engine.pullback import Linearised
from throughtime.errors import ConfigError, EngineError


class Engine(NamedTuple):
    """A way to run a job, as interleaved sequences where its lags allow that.

    Attributes:
        name: What the user calls it.
        what: What it is, in words.
        sequence: Runs a job, differentiably.
        refusal: Why it cannot do a job; None if it can. Of the inputs it may look at device and
            dtype, and whether there is a step: choices are kept.
        linearised: Runs a job and says how gradients come back, where it knows that without
            autograd: given which gradients of the flat inputs are wanted, it returns the outputs
            and a function from their gradients, and whether it will be called again, to those.
    """

    name: str
    what: str
    sequence: Callable[[Job, Inputs], tuple[Tensor, ...]]
    refusal: Callable[[Job, Inputs | None], str | None]
    linearised: Linearised | None = None


REFERENCE = Engine(
    "reference",
    "the traced graph run step by step in PyTorch operations",
    interleaved(reference.sequence),
    lambda job, inputs: None,
)
VENDOR = Engine(
    "vendor",
    "torch's own fused op (oneDNN or cuDNN)",
    interleaved(vendor.sequence),
    judged(vendor.refusal),
)
LLVM = Engine(
    "llvm",
    "a fused kernel, built in memory from the cell's equations",
    interleaved(llvm.sequence),
    judged(llvm.refusal),
    llvm.linearised,
)
ENGINES = (VENDOR, LLVM, REFERENCE)
NAMES = ("auto", *(engine.name for engine in ENGINES))


def fastest_first(job: Job, inputs: Inputs | None) -> tuple[Engine, ...]:
    """The engines in the order in which "auto" asks them.

    A fused kernel's call costs more than one of torch's op, and its steps less; so torch's op goes
    first in short calls of its own cells. A call of unknown inputs counts as a long one.
    """
    asked = quotient(job)
    if vendor.refusal(asked, inputs) is not None:
        return ENGINES
    if inputs is not None and _is_short(job, inputs.x.shape[0], inputs.flat()):
        return ENGINES
    return (LLVM, VENDOR, REFERENCE)


def _is_short(job: Job, steps: int, flat: Sequence[Tensor]) -> bool:
    """Whether torch's op, where it can do a job, is the fastest."""
    if "short" not in job.memo:
        asked, strands = quotient(job), strands_of(job)
        job.memo["short"] = [
            strands * vendor.pays_up_to(asked, training=training) for training in (False, True)
        ]
    unlearned, learned = job.memo["short"]
    if steps < min(unlearned, learned) or steps >= max(unlearned, learned):
        return steps < unlearned
    return steps < (learned if torch.is_grad_enabled() and learns(flat) else unlearned)


def check_name(name: object) -> str:
    """Return the name of an engine, or refuse it."""
    if name not in NAMES:
        raise ConfigError(f"engine={name!r} is unknown; it must be one of {', '.join(NAMES)}.")
    return str(name)


def prepare(job: Job) -> None:
    """Work out all that a call would work out at its first use, which dynamo cannot trace."""
    for asked in (job, quotient(job)):  # transforms and second derivatives run the job itself
        _ = asked.text, asked.slots, asked.cell.depth
        reference.prepare(asked)
        vendor.refusal(asked)


def choose(job: Job, inputs: Inputs | None, name: str) -> Engine:
    """The engine for a job: the one named, or for "auto" the fastest that can do it.

    Raises:
        ConfigError: there is no such engine.
        EngineError: the engine named cannot do the job.
    """
    if inputs is None or name not in NAMES:
        return _judge(job, inputs, name)
    kind = _kind(job, inputs, name)
    if kind is None:
        return _judge(job, inputs, name)
    kept = job.memo.setdefault("chosen", {})
    found = kept.get(kind)
    if found is None:
        found = kept[kind] = _judge(job, inputs, name)
    return found


def _kind(job: Job, inputs: Inputs, name: str) -> tuple[Any, ...] | None:
    """All that a choice depends on, besides the job; None for the rare calls judged each time."""
    x, flat = inputs.x, inputs.flat()
    steps = x.shape[0]
    if not steps or len({t.dtype for t in flat}) > 1:
        return None
    return name, x.dtype, x.device, name == "auto" and _is_short(job, steps, flat)


def _judge(job: Job, inputs: Inputs | None, name: str) -> Engine:
    """As `choose`, by asking the engines."""
    if check_name(name) == "auto":
        able = (e for e in fastest_first(job, inputs) if e.refusal(job, inputs) is None)
        return next(able)
    engine = next(e for e in ENGINES if e.name == name)
    reason = engine.refusal(job, inputs)
    if reason is not None:
        raise EngineError(
            f"engine={name!r} cannot do this: {reason}. Take engine='auto', which chose "
            f"{choose(job, inputs, 'auto').name!r} here."
        )
    return engine


def explain(job: Job, inputs: Inputs | None, name: str) -> str:
    """Say which engine does a job, and why not the faster ones."""
    chosen, strands = choose(job, inputs, name), strands_of(job)
    how = f", as {strands} interleaved sequences" if strands > 1 else ""
    lines = [f"{chosen.name}{how}: {chosen.what}"]
    for engine in fastest_first(job, inputs):
        if engine is chosen:
            break
        reason = engine.refusal(job, inputs)
        lines.append(f"  not {engine.name}: {reason or f'engine={name!r} was asked for'}")
    if chosen is not REFERENCE:
        lines.append(
            "  under torch.func transforms, forward-mode derivatives and for derivatives of "
            "derivatives: reference"
        )
    return "\n".join(lines)
