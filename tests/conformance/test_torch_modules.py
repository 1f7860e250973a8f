"""Do our classes pass torch's own module inputs (ModuleInfo), put in the place of torch's classes?

The checks restate the ideas of torch's generic module tests: the input's own reference function,
non-contiguous tensors, first and second derivatives, copies, construction, and inputs that must
be refused. Each input is also compared with the torch class that it was written for.
"""

import copy
import io

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from conformance.torch_modules import (
    COUNTS,
    agrees_with_torch,
    call,
    error_inputs,
    inputs_of,
    make,
    tensors,
)
from throughtime.errors import ThroughtimeError
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["torch.nn", torch.float64].bound
INPUTS = [(name, index) for name, count in COUNTS.items() for index in range(count)]
every_input = pytest.mark.parametrize(("name", "index"), INPUTS)
in_both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def assert_close(got, want):
    for a, b in zip(tensors(got), tensors(want), strict=True):
        assert error_to_largest(a.detach(), b.detach()) <= BOUND


def as_function(module, module_input):
    """The module as a function of every tensor of the call and every parameter."""
    arguments = module_input.forward_input.args
    flat, parameters = list(tensors(arguments)), dict(module.named_parameters())

    def function(*values):
        replaced = iter(values[: len(flat)])
        given = [
            tuple(next(replaced) for _ in a) if isinstance(a, tuple) else next(replaced)
            for a in arguments
        ]
        weights = dict(zip(parameters, values[len(flat) :], strict=True))
        return tuple(tensors(functional_call(module, weights, tuple(given))))

    return function, [*flat, *parameters.values()]


def test_these_are_all_of_torchs_inputs():
    assert {name: len(inputs_of(name)) for name in COUNTS} == COUNTS
    assert sum(COUNTS.values()) == 87


@in_both_modes
@every_input
def test_the_reference_function_of_the_input(name, index, training):
    module_input = inputs_of(name, training=training)[index]
    module = make(name, module_input, training=training)
    forward = module_input.forward_input
    want = module_input.reference_fn(module, *forward.args, **forward.kwargs)
    assert_close(call(module, module_input), want)


@in_both_modes
@every_input
def test_torchs_class_gives_the_same_numbers(name, index, training):
    assert agrees_with_torch(name, index, training=training)


@every_input
def test_non_contiguous_tensors(name, index):
    module_input = inputs_of(name)[index]
    function, values = as_function(make(name, module_input), module_input)
    spread = [torch.stack([v, v], -1).detach()[..., 0].requires_grad_() for v in values]
    assert not any(v.is_contiguous() for v in spread if v.numel() > 1)
    found = []
    for arguments in (values, spread):
        outputs = function(*arguments)
        seeds = [torch.stack([o, o], -1).detach()[..., 0].cos() for o in outputs]
        found.append([*outputs, *torch.autograd.grad(outputs, arguments, seeds)])
    assert_close(*found)


@every_input
def test_gradients(name, index):
    module_input = inputs_of(name)[index]
    function, values = as_function(make(name, module_input), module_input)
    assert gradcheck(function, values, fast_mode=True, check_batched_grad=True)


@every_input
def test_second_gradients(name, index):
    module_input = inputs_of(name)[index]
    function, values = as_function(make(name, module_input), module_input)
    assert gradgradcheck(function, values, fast_mode=True)


@every_input
def test_copies_give_the_same_bits(name, index):
    module_input = inputs_of(name)[index]
    module = make(name, module_input)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        results = tensors(call(module, module_input)), tensors(call(other, module_input))
        assert all(map(torch.equal, *results))
        assert repr(other) == repr(module)


@every_input
def test_construction_on_meta_and_to_empty(name, index):
    module_input = inputs_of(name)[index]
    constructor = module_input.constructor_input
    module = make(name, module_input)
    options = constructor.kwargs | {"device": "meta", "dtype": torch.float64}
    empty = type(module)(*constructor.args, **options)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(module.state_dict())
    assert_close(call(filled, module_input), call(module, module_input))


@pytest.mark.parametrize("name", COUNTS)
def test_shapes_can_be_had_on_the_meta_device(name):
    module_input = inputs_of(name)[-1]
    module = make(name, module_input)
    want = [tensor.shape for tensor in tensors(call(module, module_input))]
    on_meta = call(module.to("meta"), module_input, device="meta")
    assert [tensor.shape for tensor in tensors(on_meta)] == want


def refusal(error_input):
    """The type and the words of torch's error.

    Some inputs of torch's pass "relu" where the bias stands; torch's cells take it for true, and
    fail later at a wrong state. Ours refuse the bias.
    """
    arguments = error_input.module_error_input.constructor_input.args
    if "relu" in arguments or "tanh" in arguments:
        return TypeError, "bias should be of type bool, got: str"
    return error_input.error_type, error_input.error_regex


@pytest.mark.parametrize("name", COUNTS)
def test_what_torch_refuses_is_refused_in_its_words(name):
    refused = error_inputs(name)
    assert refused
    for error_input in refused:
        module_input = error_input.module_error_input
        error_type, words = refusal(error_input)
        with pytest.raises(error_type, match=words) as caught:
            call(make(name, module_input), module_input)
        assert isinstance(caught.value, ThroughtimeError)
