"""What does torch's own ModuleInfo ask of RNN, LSTM, GRU and their cells?"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import throughtime as tt
from conformance.faults import BreakLayer, unbroken
from conformance.torch_parity import leaves
from tolerances import TOLERANCE, error_to_largest

__all__ = ["COUNTS", "agrees_with_torch", "call", "error_inputs", "inputs_of", "make", "tensors"]

COUNTS = {"RNN": 32, "LSTM": 32, "GRU": 16, "RNNCell": 3, "LSTMCell": 2, "GRUCell": 2}


@cache
def _infos() -> dict[str, Any]:
    from torch.testing._internal.common_modules import module_db

    return {info.name.removeprefix("nn."): info for info in module_db}


def _options(name: str, *, training: bool) -> dict[str, Any]:
    return {
        "module_info": _infos()[name],
        "device": "cpu",
        "dtype": torch.float64,
        "requires_grad": True,
        "training": training,
    }


def inputs_of(name: str, *, training: bool = True) -> list[Any]:
    """Torch's ModuleInputs of a class, drawn from a fixed seed."""
    torch.manual_seed(0)
    return list(_infos()[name].module_inputs_func(**_options(name, training=training)))


def error_inputs(name: str) -> list[Any]:
    """Torch's ErrorModuleInputs of a class: calls it refuses, with the error's type and words."""
    return list(_infos()[name].module_error_inputs_func(**_options(name, training=True)))


def make(name: str, module_input: Any, library: Any = tt, *, training: bool = True) -> nn.Module:
    """The class of that name with the input's constructor arguments, in float64.

    Weights come from one seed, so ours and torch's are equal.
    """
    constructor = module_input.constructor_input
    options = {"dtype": torch.float64} | constructor.kwargs
    torch.manual_seed(1)
    return getattr(library, name)(*constructor.args, **options).train(training)


def call(module: nn.Module, module_input: Any, device: str = "cpu") -> Any:
    """The module's result for the input's forward arguments, on a device."""
    forward = module_input.forward_input
    assert forward is not None, "this input tests the construction, which went through"
    moved = tree_map(lambda value: value.to(device), forward.args)
    return module(*moved, **forward.kwargs)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of some arguments or of a result."""
    return (tensor for _, tensor in leaves("", value))


def agrees_with_torch(
    name: str, index: int, break_layer: BreakLayer = unbroken, *, training: bool = True
) -> bool:
    """Whether our class gives torch's results and gradients for one of torch's inputs."""
    module_input = inputs_of(name, training=training)[index]
    theirs = make(name, module_input, nn, training=training)
    ours = make(name, module_input, training=training)
    ours.load_state_dict(theirs.state_dict())
    got, want = (list(_with_gradients(m, module_input)) for m in (break_layer(ours), theirs))
    bound = TOLERANCE["torch.nn", torch.float64].bound
    return all(error_to_largest(a, b) <= bound for a, b in zip(got, want, strict=True))


def _with_gradients(module: nn.Module, module_input: Any) -> Iterator[Tensor]:
    found = list(tensors(call(module, module_input)))
    roots = [*tensors(module_input.forward_input.args), *module.parameters()]
    loss = sum((value * value.detach().cos()).sum() for value in found)
    yield from (value.detach() for value in found)
    yield from torch.autograd.grad(loss, roots)
