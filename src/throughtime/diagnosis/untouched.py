"""How is the same computed again and again, and the model left as it was?"""

import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from throughtime.errors import ConfigError

__all__ = ["differentiable", "untouched"]

_CONTAINERS = (list, dict, set, OrderedDict, deque)


@contextmanager
def untouched(model: Any, seed: int) -> Iterator[None]:
    """Draw what the seed gives, and put back what the computation changes.

    Put back are the generators of torch, numpy and Python; and of a module the buffers, the
    gradients, the mode and the attributes of every part, such as a state that it keeps between
    calls.

    Args:
        model: A module, or a callable that nothing is known of.
        seed: Of all generators.

    Raises:
        ConfigError: A weight was changed.
    """
    with ExitStack() as stack:
        stack.enter_context(_drawing(seed))
        if isinstance(model, nn.Module):
            stack.enter_context(_same_weights(model))
            stack.enter_context(_same_buffers(model))
            stack.enter_context(_same_gradients(model))
            stack.enter_context(_same_attributes(model))
        yield


@contextmanager
def differentiable(model: Any) -> Iterator[None]:
    """Let a model that is frozen as a whole have gradients for a while.

    A step of the user's own that is frozen would leave no graph to follow an error in.
    """
    frozen = list(model.parameters()) if isinstance(model, nn.Module) else []
    if any(p.requires_grad for p in frozen):
        frozen = []
    frozen = [p for p in frozen if p.is_floating_point() or p.is_complex()]
    try:
        for p in frozen:
            p.requires_grad_()
        yield
    finally:
        for p in frozen:
            p.requires_grad_(requires_grad=False)


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    by_python, by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's own)
    with torch.random.fork_rng(devices):
        # torch.manual_seed would seed a GPU that is first used later on, too.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(by_python)
            np.random.set_state(by_numpy)  # noqa: NPY002


@contextmanager
def _same_weights(model: nn.Module) -> Iterator[None]:
    """Refuse what trains: there is no copy of the weights to put back."""
    before = {n: p._version for n, p in model.named_parameters() if not p.is_inference()}
    yield
    now = dict(model.named_parameters())
    changed = [n for n, version in before.items() if n in now and now[n]._version != version]
    if changed:
        raise ConfigError(
            f"loss(model, batch) changed {changed[0]}; expected a function that computes the loss "
            "and no more. Leave the optimiser's step out of it, and load the weights again."
        )


@contextmanager
def _same_buffers(model: nn.Module) -> Iterator[None]:
    kept = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                if not torch.equal(buffer, value):  # what a graph needs must not be written to
                    buffer.copy_(value)


@contextmanager
def _same_gradients(model: nn.Module) -> Iterator[None]:
    kept = [(p, p.grad) for p in model.parameters()]
    try:
        for p, _ in kept:
            p.grad = None
        yield
    finally:
        for p, gradient in kept:
            p.grad = gradient


@contextmanager
def _same_attributes(model: nn.Module) -> Iterator[None]:
    """Buffers that are assigned to, modes, states in plain attributes, lists that grow."""
    kept = [(m, dict(vars(m))) for m in model.modules()]
    inside = [
        (value, value.copy())
        for _, attributes in kept
        for value in attributes.values()
        if type(value) in _CONTAINERS
    ]
    try:
        yield
    finally:
        for module, attributes in kept:
            _put_back(vars(module), attributes)
        for value, before in inside:
            _put_back(value, before)


def _put_back(value: Any, before: Any) -> None:
    """Give a container what was in it; nothing is written where nothing changed."""
    if isinstance(value, dict):
        for name in value.keys() - before.keys():
            del value[name]
        for name, item in before.items():
            if value.get(name, value) is not item:
                value[name] = item
    elif len(value) != len(before) or any(a is not b for a, b in zip(value, before, strict=True)):
        value.clear()
        value.update(before) if isinstance(value, set) else value.extend(before)
