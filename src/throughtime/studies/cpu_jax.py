"""How does JAX compute a row of the CPU bench? `jax.lax.scan` under jit, where it is installed."""

import os
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from throughtime.studies.cpu_cells import Ops
from throughtime.studies.cpu_peers import Contestant, Problem

__all__ = ["jax_scan", "jax_version"]


def jax_version() -> str | None:
    """The version of JAX; None where it is not installed."""
    return version("jax") if find_spec("jax") else None


def jax_scan(problem: Problem) -> Contestant | None:
    """A scan over time, compiled once for the problem; None where JAX is not installed."""
    if find_spec("jax") is None:
        return None
    # Read when JAX makes its pool of threads, at its first computation: as many as torch has.
    os.environ.setdefault("PJRT_NPROC", str(torch.get_num_threads()))
    jax = import_module("jax")
    weights = {name: jax.numpy.asarray(w.numpy()) for name, w in problem.weights.items()}
    x, dy = jax.numpy.asarray(problem.x.numpy()), jax.numpy.asarray(problem.dy.numpy())
    forward = _scanned(jax, problem)

    def train(weights: Any, x: Any, dy: Any) -> Any:
        y, pull = jax.vjp(forward, weights, x)
        return y, *pull(dy)

    compiled = jax.jit(train if problem.mode == "train" else forward)
    arguments = (weights, x, dy)[: 3 if problem.mode == "train" else 2]

    def run() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    def results() -> dict[str, Tensor]:
        if problem.mode == "infer":
            return {"y": _tensor(run())}
        y, of_weights, of_x = run()
        named = {"y": y, "x": of_x, **of_weights}
        return {name: _tensor(value) for name, value in named.items()}

    return Contestant("jax", run, results)


def _scanned(jax: Any, problem: Problem) -> Any:
    jnp = jax.numpy
    ops = Ops(_linear, jax.nn.sigmoid, jnp.tanh, partial(jnp.split, axis=-1))
    real = None if problem.is_real is None else jnp.asarray(problem.is_real.numpy())
    zeros = jnp.zeros((problem.x.shape[1], problem.dy.shape[2]), jnp.float32)

    def forward(w: Any, x: Any) -> Any:
        by_hand = problem.kind.by_hand(ops, w)
        projected = _linear(x, w["weight_ih"], w.get("bias_ih", w.get("bias")))

        def step(state: Any, inputs: Any) -> Any:
            x_t, real_t = inputs
            new = by_hand(x_t, state)
            if real_t is None:
                return new, new[0]
            held = tuple(jnp.where(real_t, a, b) for a, b in zip(new, state, strict=True))
            return held, jnp.where(real_t, new[0], 0.0)

        return jax.lax.scan(step, (zeros,) * problem.states, (projected, real))[1]

    return forward


def _linear(x: Any, weight: Any, bias: Any) -> Any:
    product = x @ weight.T
    return product if bias is None else product + bias


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))
