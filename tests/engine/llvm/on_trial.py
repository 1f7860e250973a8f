"""Which engine is on trial, and what does it give? Shared by the tests of the fused CPU engine.

The same tests judge any engine: THROUGHTIME_ENGINE_ON_TRIAL=reference runs them on another one.
"""

import os
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import throughtime as tt
from throughtime import engine as engines
from throughtime.declare import Cell
from throughtime.engine import NAMES, Inputs, Job
from throughtime.engine.dispatch import ENGINES, Engine
from throughtime.engine.job import unflatten
from throughtime.engine.pullback import pulled_back
from throughtime.testing.outcome import entering, output_names
from throughtime.testing.sample import Sample, draw, sizes_for
from tolerances import error_to_largest

__all__ = [
    "ENGINE",
    "Change",
    "Named",
    "drawn",
    "engine_on_trial",
    "everything",
    "layer_of",
    "needs_engine",
    "of_job",
    "seeds_for",
    "worst",
]

ENGINE = os.environ.get("THROUGHTIME_ENGINE_ON_TRIAL", "llvm")
needs_engine = pytest.mark.skipif(ENGINE not in NAMES, reason=f"there is no engine {ENGINE!r} yet")

Named = dict[str, Tensor]
Change = Callable[[Tensor], Tensor]


def engine_on_trial() -> Engine:
    """The engine itself."""
    return next(engine for engine in ENGINES if engine.name == ENGINE)


def drawn(cell: Cell, input_size: int = 3, hidden_size: int = 5, seed: int = 0) -> Sample:
    """A cell with random tensors, all of them exact in float32 too."""
    torch.manual_seed(seed)
    sample = draw(cell, sizes_for(cell, input_size, hidden_size, None), "cpu")
    job, given = sample.job(), sample.inputs
    flat = [t.float().double() for t in given.flat()]
    inputs = unflatten(job, flat, None, None)
    return Sample(cell, sample.sizes, inputs, sample.lengths, sample.reset)


def seeds_for(
    outputs: Sequence[Tensor], dtype: torch.dtype, change: Sequence[Change] | None
) -> list[Tensor]:
    """Random gradients of outputs, the same numbers whatever the dtype."""
    drawn = [g.float().to(dtype) for g in entering(tuple(o.double() for o in outputs))]
    return [c(g) for g, c in zip(drawn, change, strict=True)] if change else drawn


def of_job(
    sample: Sample,
    job: Job,
    inputs: Inputs,
    *,
    engine: str = ENGINE,
    dtype: torch.dtype,
    change: Sequence[Change] | None = None,
) -> Named:
    """Outputs, states and gradients of a job in some dtype; the same numbers go in for each.

    Args:
        sample: Where the inputs come from.
        job: What is run.
        inputs: On what.
        engine: By which engine.
        dtype: In what.
        change: What is done to the gradient of each output before it goes in.
    """
    names = sample.leaves()
    flat = zip(inputs.flat(), names, strict=True)
    leaves = [t.detach().to(dtype, copy=True).requires_grad_(n is not None) for t, n in flat]
    outputs = engines.run(job, unflatten(job, leaves, inputs.lengths, inputs.reset), engine)
    found = pulled_back(outputs, leaves, seeds_for(outputs, dtype, change))
    named = dict(zip(output_names(job), (o.detach() for o in outputs), strict=True))
    for name, leaf, gradient in zip(names, leaves, found, strict=True):
        if name is not None:
            named[f"gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return named


def layer_of(
    cell: Cell, input_size: int, hidden_size: int, *, engine: str = ENGINE, **options: object
) -> tt.Recurrent:
    """A layer in float64 whose weights are all different from zero."""
    made: dict[str, object] = {"dtype": torch.float64, "engine": engine} | options
    layer = tt.Recurrent(cell, input_size, hidden_size, **made)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def everything(
    layer: torch.nn.Module,
    x: Tensor,
    hx: tuple[Tensor, ...] = (),
    extras: Mapping[str, Tensor] | None = None,
    *,
    engine: str | None = None,
    **call: object,
) -> Named:
    """Outputs, states, and the gradients of input, states, extras and parameters, by name.

    Args:
        layer: What is called.
        x: On what.
        hx: The states before the first step, if any are given.
        extras: Values of the cell's extras.
        engine: Another engine than the layer's own.
        call: Further arguments.
    """
    before, layer.engine = layer.engine, engine or layer.engine
    live = {"x": x} | {f"hx {i}": h for i, h in enumerate(hx)} | dict(extras or {})
    live = {name: value.detach().requires_grad_() for name, value in live.items()}
    states = tuple(value for name, value in live.items() if name.startswith("hx "))
    given = {name: live[name] for name in extras or {}}
    packed = {1: states[:1], 0: (None,)}.get(len(states), (states,))[0]
    try:
        outputs = tree_leaves(layer(live["x"], packed, extras=given, **call))
        leaves = live | dict(layer.named_parameters())
        pairs = zip(outputs, entering(tuple(outputs)), strict=True)
        moving, seeds = zip(*[(o, g) for o, g in pairs if o.requires_grad], strict=True)
        gradients = torch.autograd.grad(
            moving, list(leaves.values()), seeds, materialize_grads=True
        )
    finally:
        layer.engine = before
    named = {f"output {i}": o.detach() for i, o in enumerate(outputs)}
    return named | {f"gradient of {n}": g for n, g in zip(leaves, gradients, strict=True)}


def worst(got: Named, want: Named) -> tuple[float, str]:
    """The largest error over the largest element of its tensor, and that tensor's name."""
    assert got.keys() == want.keys()
    return max((error_to_largest(got[name], want[name]), name) for name in want)
