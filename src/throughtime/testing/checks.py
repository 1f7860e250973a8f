"""What does the contract say, line by line? Each line measures how far an engine is off.

A line takes a bench and yields differences; none at all means that the engine refuses this.
"""

import math
import pickle  # noqa: TID251 (whether a cell survives it is one of the lines)
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.gradcheck import gradcheck

from throughtime.declare.graph import walk
from throughtime.engine import Inputs, Job, reference
from throughtime.engine.job import unflatten
from throughtime.nn import Recurrent
from throughtime.testing.adjoint import bptt, forward
from throughtime.testing.bench import Bench
from throughtime.testing.outcome import Difference, Outcome, differ, entering, output_names
from throughtime.testing.pieces import alone, windows
from throughtime.testing.sample import Sample

ROUNDING = 1e-12  # the same float64 sums in another order differ by some T * H * 1e-16
EXACT = 0.0
MASKS = ((False, False), (True, False), (True, True))


def _finite(bench: Bench) -> Iterator[Difference]:
    found = bench.result(bench.sample.job(), bench.inputs())
    bad = [name for name, value in found.items() if not value.isfinite().all()]
    yield Difference(math.inf if bad else 0.0, ", ".join(bad))


def by_hand(sample: Sample, job: Job, inputs: Inputs) -> Outcome:
    """Outputs by the graph, gradients by its adjoint, both step by step."""
    outputs = forward(job, inputs)
    gradients = bptt(job, inputs, entering(outputs))
    found = dict(zip(output_names(job), outputs, strict=True))
    named = zip(sample.leaves(), gradients, strict=True)
    return found | {f"gradient of {name}": g for name, g in named if name is not None}


def _adjoint(bench: Bench) -> Iterator[Difference]:
    for all_states in (True, False):
        job, inputs = bench.sample.job(all_states=all_states), bench.inputs()
        yield differ(by_hand(bench.sample, job, inputs), bench.result(job, inputs))


def _engine(bench: Bench) -> Iterator[Difference]:
    for lengths, reset in MASKS:
        for job, inputs in bench.cases(lengths=lengths, reset=reset):
            yield bench.same(job, inputs, partial(reference.sequence, job))


def _lengths(bench: Bench) -> Iterator[Difference]:
    for job, inputs in bench.cases(lengths=True):
        yield bench.same(job, inputs, partial(alone, bench.run(job), job))


def _padding(bench: Bench) -> Iterator[Difference]:
    ended = bench.ended().unsqueeze(-1)

    def spoilt(values: Tensor) -> Tensor:
        return torch.where(ended, torch.nan, values)

    for lengths, reset in MASKS[1:]:
        for job, inputs in bench.cases(lengths=lengths, reset=reset):
            bad = inputs._replace(x=spoilt(inputs.x), extras=tuple(map(spoilt, inputs.extras)))
            yield differ(bench.result(job, bad, spoilt), bench.result(job, inputs))


def _resets(bench: Bench) -> Iterator[Difference]:
    for lengths in (False, True):
        for job, inputs in bench.cases(lengths=lengths, reset=True):
            yield bench.same(job, inputs, partial(alone, bench.run(job), job))


def _late_resets(bench: Bench) -> Iterator[Difference]:
    for job, inputs in bench.cases(lengths=True, reset=True):
        late = inputs._replace(reset=bench.sample.reset | bench.ended())
        yield differ(bench.result(job, late), bench.result(job, inputs))


def _windows(bench: Bench) -> Iterator[Difference]:
    steps = bench.sample.inputs.x.shape[0]
    single = [[cut] for cut in range(1, steps)]
    for lengths, reset in MASKS[1:]:
        for job, inputs in bench.cases(lengths=lengths, reset=reset):
            if job.reverse and reset:  # a border between two windows is seen from its later side
                continue
            for cuts in (range(1, steps), *single):
                yield bench.same(job, inputs, partial(windows, bench.run(job), job, cuts=cuts))


def _unmoved(job: Job, inputs: Inputs) -> tuple[Tensor, ...]:
    """What a call without a step, or without a row, gives: its own states."""
    timed = [job.output_size, *(job.state_sizes() if job.all_states else ())]
    empty = [inputs.x.new_zeros(*inputs.x.shape[:2], width) for width in timed]
    return (empty[0], *inputs.states, *empty[1:])


def _empty(bench: Bench, steps: int, rows: int) -> Iterator[Difference]:
    for lengths, reset in MASKS:
        for job, inputs in bench.cases(lengths=lengths, reset=reset, steps=steps, rows=rows):
            yield bench.same(job, inputs, partial(_unmoved, job))


def _no_steps(bench: Bench) -> Iterator[Difference]:
    return _empty(bench, 0, bench.sample.inputs.x.shape[1])


def _no_rows(bench: Bench) -> Iterator[Difference]:
    return _empty(bench, bench.sample.inputs.x.shape[0], 0)


def _one_step(bench: Bench) -> Iterator[Difference]:
    for job, inputs in bench.cases(steps=1):
        yield differ(bench.result(job, inputs), by_hand(bench.sample, job, inputs))


def _transposed(a: Tensor) -> Tensor:
    backwards = tuple(reversed(range(a.dim())))
    return a.permute(backwards).contiguous().permute(backwards)


def _every_second(a: Tensor) -> Tensor:
    return torch.stack([a.flip(0), a], -1)[..., 1]


def _expanded(a: Tensor) -> Tensor:
    return a[..., :1].expand_as(a)


def _relaid(inputs: Inputs, layout: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with every tensor laid out in memory as asked."""
    lengths, reset = inputs.lengths, inputs.reset
    return inputs._replace(
        x=layout(inputs.x),
        states=tuple(map(layout, inputs.states)),
        initial=tuple(map(layout, inputs.initial)),
        weights=tuple(map(layout, inputs.weights)),
        params=tuple(map(layout, inputs.params)),
        extras=tuple(map(layout, inputs.extras)),
        lengths=None if lengths is None else layout(lengths),
        reset=None if reset is None else layout(reset),
    )


def _strides(bench: Bench) -> Iterator[Difference]:
    for lengths, reset in MASKS:
        for job, inputs in bench.cases(lengths=lengths, reset=reset):
            for layout in (_transposed, _every_second, _expanded):
                odd = _relaid(inputs, layout)
                plain = _relaid(odd, Tensor.contiguous)
                yield differ(
                    bench.result(job, odd, layout),
                    bench.result(job, plain, lambda g, layout=layout: layout(g).contiguous()),
                )


def _gradcheck(bench: Bench) -> Iterator[Difference]:
    """Against finite differences; drawn extras are left out, they may be compared with numbers."""
    cell = bench.sample.cell
    if any(n.op == "clip_adjoint" for n in walk(cell.new)):
        bench.refusals.append("gradients that are clipped on their way are no derivatives")
        return
    drawn = {f"extra {e.name}" for e in cell.extras if e.sample is not None}
    names = [None if name in drawn else name for name in bench.sample.leaves()]
    for lengths, reset in MASKS[1:]:
        for job, inputs in bench.cases(lengths=lengths, reset=reset, steps=cell.depth + 2):
            flat = zip(inputs.flat(), names, strict=True)
            leaves = [t.detach().clone().requires_grad_(name is not None) for t, name in flat]
            run = partial(_from_flat, bench, job, inputs)
            moving = [i for i, output in enumerate(run(*leaves)) if output.requires_grad]
            chosen = partial(_only, run, moving)
            gradcheck(chosen, leaves, fast_mode=True, check_batched_grad=True)
            yield Difference(0.0, "")


def _from_flat(bench: Bench, job: Job, inputs: Inputs, *flat: Tensor) -> tuple[Tensor, ...]:
    return bench.run(job)(unflatten(job, flat, inputs.lengths, inputs.reset))


def _only(run: Callable[..., tuple[Tensor, ...]], chosen: list[int], *flat: Tensor) -> list[Tensor]:
    outputs = run(*flat)
    return [outputs[i] for i in chosen]


def _repeat(bench: Bench) -> Iterator[Difference]:
    for lengths, reset in MASKS:
        for job, inputs in bench.cases(lengths=lengths, reset=reset):
            first = bench.result(job, inputs)
            yield differ(bench.result(job, inputs), first)
            with torch.no_grad():
                outputs = dict(zip(output_names(job), bench.run(job)(inputs), strict=True))
            yield differ(outputs, {name: first[name] for name in outputs})


def _pickle(bench: Bench) -> Iterator[Difference]:
    sample, sizes = bench.sample, bench.sample.sizes
    cell = sample.cell
    projection = sizes.projection if sizes.projection != sizes.hidden else 0
    layer = Recurrent(
        cell,
        sizes.input,
        sizes.hidden,
        proj_size=projection,
        learn_initial_state=True,
        dtype=torch.float64,
        device=sample.inputs.x.device,
        engine=bench.engine.name,
    )
    named = zip(cell.extras, sample.inputs.extras, strict=True)
    extras = {e.name: value for e, value in named}
    twin = pickle.loads(pickle.dumps(layer))
    outputs = [m(sample.inputs.x, extras=extras)[0] for m in (twin, layer)]
    yield differ({"output": outputs[0]}, {"output": outputs[1]})
    same = twin.cell == cell and hash(twin.cell) == hash(cell) and twin.cell.text == cell.text
    yield Difference(0.0 if same else 1.0, "the cell's equations")


class Check(NamedTuple):
    """One line of the contract.

    Attributes:
        name: What a report calls it.
        what: What it asks.
        bound: How large a difference may be.
        measure: Yields the differences seen.
    """

    name: str
    what: str
    bound: float
    measure: Callable[[Bench], Iterator[Difference]]


FINITE = Check("finite", "outputs and gradients are finite", EXACT, _finite)
ADJOINT = Check("adjoint", "the graph and its adjoint by hand give the same", ROUNDING, _adjoint)
ENGINE = Check("engine", "gives what the reference gives, step by step", ROUNDING, _engine)
CHECKS = (
    Check("lengths", "a row with a length equals that row alone", ROUNDING, _lengths),
    Check("padding", "NaN past the end of a row changes nothing", EXACT, _padding),
    Check("resets", "a row with resets equals its pieces alone", ROUNDING, _resets),
    Check("late resets", "a reset past the end of a row is ignored", EXACT, _late_resets),
    Check("windows", "windows split anywhere equal the whole", ROUNDING, _windows),
    Check("no steps", "T = 0 gives back the states", EXACT, _no_steps),
    Check("no rows", "B = 0 gives empty tensors and zero gradients", EXACT, _no_rows),
    Check("one step", "T = 1 equals a step by hand", ROUNDING, _one_step),
    Check(
        "strides", "transposed, skipping and expanded tensors change nothing", ROUNDING, _strides
    ),
    Check("gradcheck", "gradients equal finite differences", EXACT, _gradcheck),
    Check("repeat", "the same bits again, also without gradients", EXACT, _repeat),
    Check("pickle", "a layer and its cell survive it", EXACT, _pickle),
)
