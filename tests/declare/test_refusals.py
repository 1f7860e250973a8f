"""Is every wrong declaration refused, by an error of ours that names the thing?"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from throughtime import declare as tt
from throughtime.declare import affine, ago, where
from throughtime.declare.slots import slots
from throughtime.errors import DeclarationError

HALF = tt.Bernoulli(0.5)


def declare(step, states="h", **options):
    return lambda: tt.cell(states, **options)(step)


def of_h(function):
    """A cell whose new state is a function of a good one, `h`."""
    return declare(lambda x, h: affine("a", x, h) + function(h))


def emitting(emit, states="h"):
    return declare(lambda x, h: affine("a", x, h), states, emit=emit)


def branching(h):
    return h if h > 0 else -h


def writing(h):
    h[0] = 1.0
    return h


def in_two_steps(kept=[]):  # noqa: B006 (one list for two steps is the mistake)
    tt.cell("q")(lambda x, q: [affine("a", x), kept.append(q)][0])
    return tt.cell("h")(lambda x, h: affine("b", x, h) * kept[0])


def gate_in_two_steps(kept=[]):  # noqa: B006
    tt.cell("h")(lambda x, h: [kept.append(affine("a", x, h)), kept[0]][1])
    return tt.cell("h")(lambda x, h: affine("b", x, h) * kept[0])


def step_value_in_emit(kept=[]):  # noqa: B006
    step = lambda x, h: [kept.append(h), affine("a", x, h)][1]  # noqa: E731
    return tt.cell("h", emit=lambda: kept[0])(step)


def step_gate_in_emit(kept=[]):  # noqa: B006
    step = lambda x: [kept.append(affine("a", x)), kept[0]][1]  # noqa: E731
    return tt.cell("h", emit=lambda: kept[0])(step)


def with_an_inner_matrix(x, h, **params):
    return affine("b", tt.sigmoid(affine("a", x, h)))


def with_a_gate_named_as_a_second_read(x, h):
    b = affine("b", x, h)
    return affine("a", b, tt.tanh(b)) + affine("a_2", b)


# what it is: (a call that makes it, what the message must say)
WRONG = {
    # gates
    "unused gate": (declare(lambda x, h: [affine("a b", x, h)][0][0]), "gate 'b' .* never used"),
    "repeated gate": (
        declare(lambda x, h: affine("a", x) + affine("a", h)),
        "gate 'a' is declared twice",
    ),
    "repeated in one call": (declare(lambda x: affine("a a", x)[0]), "gate 'a' is declared twice"),
    "repeated in emit": (emitting(lambda h: affine("a", h)), "gate 'a' is declared twice"),
    "unused in emit": (emitting(lambda h: [affine("y", h), h][1]), "gate 'y' .* emit .* never"),
    "affine without a read": (of_h(lambda h: affine("b")), r"affine\('b'\) got 0 reads"),
    "affine without a name": (of_h(lambda h: affine("", h)), "needs a name"),
    "affine of a number": (of_h(lambda h: affine("b", 2.0)), r"affine\('b'\) reads 2.0 of type"),
    "affine of constants": (
        of_h(lambda h: affine("b", tt.minimum(1.0, 2.0))),
        r"affine\('b'\) reads a number",
    ),
    "affine of a tensor": (of_h(lambda h: affine("b", torch.ones(2))), "of type Tensor"),
    "affine of a comparison": (of_h(lambda h: affine("b", h > 0)), "comparison outside where"),
    "affine outside a step": (lambda: affine("a", 1.0), "outside a step"),
    "gate not an identifier": (of_h(lambda h: affine("b-1", h)), "gate 'b-1'.*identifier"),
    "gate of a reserved name": (of_h(lambda h: affine("hh", h)), "gate 'hh'.*reserved"),
    "gate of no width": (of_h(lambda h: affine("b", h, width=0)), "gate 'b': width is 0"),
    "gate of a float width": (of_h(lambda h: affine("b", h, width=2.0)), "width is 2.0"),
    "gate of an unknown width": (of_h(lambda h: affine("b", h, width="input")), "'input'"),
    # x
    "x alone": (declare(lambda x, h: x), r"x outside affine\(\)"),
    "x in arithmetic": (declare(lambda x, h: affine("a", h) + x), r"x outside affine\(\)"),
    "x in a function": (declare(lambda x: affine("a", tt.tanh(x))), r"x outside affine\(\)"),
    "x in a comparison": (declare(lambda x, h: where(x > 0, h, -h)), r"x outside affine\(\)"),
    "x emitted": (emitting(lambda x, h: x), r"x outside affine\(\)"),
    # results
    "too few results": (
        declare(lambda x, h, c: affine("a", x, h), "h c"),
        "returned 1 values; .* h, c",
    ),
    "too many results": (declare(lambda x, h: (affine("a", x), h)), "returned 2 values; .*: h"),
    "no result": (declare(lambda x, h: None), "None of type NoneType"),
    "a comparison as result": (declare(lambda x, h: affine("a", x) > h), "comparison outside"),
    "emit without a result": (emitting(lambda h: ()), "emit returned nothing"),
    "emit of None": (emitting(lambda h: None), "None of type NoneType"),
    # widths
    "widths in a sum": (
        declare(lambda x, h: h + affine("a", x, width="projection")),
        "add got values of widths hidden and projection",
    ),
    "widths in a product": (declare(lambda x, h: h * affine("a", x, width=3)), "hidden and 3"),
    "widths in where": (
        declare(lambda x, h: where(h > 0, affine("a", x, width=3), 0.0)),
        "where got values of widths hidden and 3",
    ),
    "widths in a comparison": (
        declare(lambda x, h: where(affine("a", x, width=3) > h, 1.0, 0.0)),
        "gt got values of widths 3 and hidden",
    ),
    "state of another width": (
        declare(lambda x, h: affine("a", x, h, width="projection")),
        "state 'h' has width hidden, but its new value has width projection",
    ),
    # Python on values
    "if": (of_h(branching), "Python branch"),
    "and": (of_h(lambda h: h and 1.0), "Python branch"),
    "a chained comparison": (of_h(lambda h: where(0 < h < 1, h, 0.0)), "Python branch"),
    "built-in max": (of_h(lambda h: max(h, 0.0)), "Python branch"),
    "in": (of_h(lambda h: h in [1.0]), "Python branch"),
    "for": (of_h(lambda h: sum(u for u in h)), "iterating"),
    "unpacking": (of_h(lambda h: max(*h)), "iterating"),
    "len": (of_h(len), r"len\(\)"),
    "index": (of_h(lambda h: h[0]), "indexing"),
    "slice": (of_h(lambda h: h[:, :2]), "indexing"),
    "writing": (of_h(writing), "writing into a value"),
    "float": (of_h(float), r"float\(\)"),
    "int": (of_h(int), r"int\(\)"),
    "complex": (of_h(complex), r"complex\(\)"),
    "round": (of_h(round), r"round\(\)"),
    "math": (of_h(math.tanh), r"float\(\)"),
    "range": (of_h(lambda h: range(h)), "whole number"),
    "a key": (of_h(lambda h: {h: 1.0}[h]), "key of a dict or set"),
    "@": (of_h(lambda h: h @ h), "^@ cannot"),
    "@ with a tensor": (of_h(lambda h: torch.ones(2, 2) @ h), "matmul"),
    "&": (of_h(lambda h: where((h > 0) & (h < 1), h, 0.0)), "^& cannot"),
    "|": (of_h(lambda h: where((h > 0) | (h < 1), h, 0.0)), r"^\| cannot"),
    "^": (of_h(lambda h: h ^ h), r"^\^ cannot"),
    "~": (of_h(lambda h: where(~(h > 0), h, 0.0)), "^~ cannot"),
    "//": (of_h(lambda h: h // 2), "^// cannot"),
    "2 //": (of_h(lambda h: 2 // h), "^// cannot"),
    "%": (of_h(lambda h: h % 2), "^% cannot.*counter"),
    "<<": (of_h(lambda h: h << 1), "^<< cannot"),
    "divmod": (of_h(lambda h: divmod(h, 2)), r"^divmod\(\) cannot"),
    "2 ** h": (of_h(lambda h: 2**h), "a number to the power of a value"),
    "h ** 0.5": (of_h(lambda h: h**0.5), r"the power 0.5.*exp\(p"),
    "h ** h": (of_h(lambda h: h**h), "the power"),
    "a bool": (of_h(lambda h: h * True), "True of type bool"),
    "a complex number": (of_h(lambda h: h * 1j), "1j of type complex"),
    "text": (of_h(lambda h: h + "1"), "'1' of type str"),
    "an array": (of_h(lambda h: np.ones(3) * h), "ndarray"),
    "an array on the right": (of_h(lambda h: h + np.ones(3)), "ndarray"),
    "a tensor": (of_h(lambda h: torch.ones(3) * h), "Tensor"),
    "a tensor of one number": (of_h(lambda h: torch.tensor(2.0) - h), "Tensor"),
    "where without a comparison": (of_h(lambda h: where(h, h, 0.0)), r"where\(\) without"),
    "where of a tensor": (of_h(lambda h: torch.where(torch.tensor([True]), h, h)), "without a"),
    "arithmetic on a comparison": (of_h(lambda h: (h > 0) * 2.0), "comparison outside where"),
    "clamp to nothing": (of_h(lambda h: tt.clamp(h)), "clamp needs min, max or both"),
    "clamp to a value": (of_h(lambda h: tt.clamp(h, max=h)), "clamp to .*minimum"),
    "ago of a value": (of_h(lambda h: ago(tt.tanh(h), 2)), r"ago\(\) got .* bare state"),
    "ago of ago": (of_h(lambda h: ago(ago(h, 2), 2)), "bare state"),
    "ago 0": (of_h(lambda h: ago(h, 0)), "lag 0"),
    "ago in a fraction": (of_h(lambda h: ago(h, 1.5)), "lag 1.5"),
    "ago in emit": (emitting(lambda h: ago(h, 2)), "bare state"),
    # methods, torch, numpy
    "in-place tanh_": (of_h(lambda h: h.tanh_()), r"\.tanh_ of a value"),
    "in-place add_": (of_h(lambda h: h.add_(1.0)), r"\.add_ of a value"),
    "torch.tanh_": (of_h(torch.tanh_), "torch's tanh_"),
    "inplace=True": (of_h(lambda h: functional.relu(h, inplace=True)), "torch's relu.*inplace"),
    "a method sum": (of_h(lambda h: h.sum(-1)), r"\.sum of a value"),
    "a shape": (of_h(lambda h: h.shape[0]), r"\.shape of a value"),
    "a transposition": (of_h(lambda h: h.T), r"\.T of a value"),
    "softplus(beta=2)": (of_h(lambda h: functional.softplus(h, beta=2)), "softplus .*beta"),
    "softplus(h, 2)": (of_h(lambda h: functional.softplus(h, 2)), "softplus"),
    "add(alpha=2)": (of_h(lambda h: torch.add(h, h, alpha=2)), "torch's add .*alpha"),
    "div(rounding)": (of_h(lambda h: torch.div(h, h, rounding_mode="floor")), "rounding_mode"),
    "a third addend": (of_h(lambda h: h.add(h, h)), r"\.add\(\) with these arguments"),
    "torch.softmax": (of_h(lambda h: torch.softmax(h, -1)), "torch's softmax"),
    "torch.sum": (of_h(torch.sum), "torch's sum"),
    "torch.cat": (of_h(lambda h: torch.cat([h, h], -1)), "torch's cat"),
    "torch.matmul": (of_h(lambda h: torch.matmul(h, h)), "torch's matmul"),
    "F.linear": (of_h(lambda h: functional.linear(h, torch.ones(2, 2))), "torch's linear"),
    "F.gelu": (of_h(functional.gelu), "torch's gelu"),
    "F.leaky_relu": (of_h(functional.leaky_relu), "torch's leaky_relu"),
    "np.tanh": (of_h(np.tanh), "numpy's tanh"),
    "np.maximum": (of_h(lambda h: np.maximum(h, 0.0)), "numpy's maximum"),
    "np.add.reduce": (of_h(np.add.reduce), "numpy's add"),
    # names and data
    "unknown argument": (declare(lambda x, h, y: affine("a", x, h)), "argument 'y'.*x, h"),
    "a default": (declare(lambda x, h, k=2: affine("a", x, h)), "argument 'k'"),
    "*args": (declare(lambda *args: affine("a", *args)), "argument 'args'"),
    "a step that is no function": (declare(5), "plain Python function"),
    "no states": (declare(lambda x: affine("a", x), ""), "at least one state"),
    "states forgotten": (lambda: tt.cell(lambda x, h: h), "stands without states"),
    "only a clock": (declare(lambda k: k + 1, [tt.State("k", clock=True)]), "not a clock"),
    "two states of a name": (declare(lambda x, h: (h, h), "h h"), "'h' is used twice"),
    "a param named as a state": (
        declare(lambda x, h: affine("a", x), params=[tt.Param("h")]),
        "'h' is used twice",
    ),
    "an extra named as a param": (
        declare(lambda x, p: affine("a", x), params=[tt.Param("p")], extras=[tt.Extra("p")]),
        "'p' is used twice",
    ),
    "a state named x": (declare(lambda x: affine("a", x), "x"), "state 'x'.*reserved"),
    "a state named 1h": (declare(lambda x: affine("a", x), "1h"), "state '1h'.*identifier"),
    "a state of another type": (declare(lambda x: affine("a", x), [3]), "state 3"),
    "params as text": (declare(lambda x, p: affine("a", x), params="p"), "params is a sequence"),
    "params not in a sequence": (
        declare(lambda x, p: affine("a", x), params=tt.Param("p")),
        "params is a sequence",
    ),
    "an extra among params": (
        declare(lambda x, e: affine("a", x), params=[tt.Extra("e")]),
        "params is a sequence of Param",
    ),
    "two parameters of a name": (
        lambda: slots(tt.cell("h", params=[tt.Param("weight_b")])(with_an_inner_matrix)),
        "two parameters would be called 'weight_b'",
    ),
    "two matrices of a name": (
        lambda: slots(tt.cell("h")(with_a_gate_named_as_a_second_read)),
        "two parameters would be called 'weight_a_2'",
    ),
    "a width of True": (lambda: tt.State("h", width=True), "width is True"),
    "a width in a list": (lambda: tt.State("h", width=[3]), r"width is \[3\]"),
    "a negative width": (lambda: tt.Extra("e", width=-1), "width is -1"),
    "init as a function": (lambda: tt.Param("p", init=lambda: 0.0), "init is <function"),
    "init as a tensor": (lambda: tt.Param("p", init=torch.zeros(3)), "init is tensor"),
    "init as True": (lambda: tt.Param("p", init=True), "init is True"),
    "init on its bound": (lambda: tt.Param("p", 0.0, low=0.0), "strictly inside"),
    "init beyond its bound": (lambda: tt.Param("p", tt.Uniform(0.0, 2.0), high=1.0), "inside"),
    "initial as text": (lambda: tt.State("h", initial="zero"), "initial is 'zero'"),
    "uniform upside down": (lambda: tt.Uniform(1.0, 0.0), "low 1.0 lies above high 0.0"),
    "blocks of nothing": (lambda: tt.Blocks(()), "at least one value"),
    "blocks of one number": (lambda: tt.Blocks(3.0), "sequence of numbers; got 3.0"),
    "blocks of text": (lambda: tt.Blocks("12"), "sequence of numbers; got '12'"),
    "no probability": (lambda: tt.Bernoulli(1.5), "p is 1.5"),
    "sample without eval": (lambda: tt.Extra("e", sample=HALF), "both sample and eval"),
    "eval without sample": (lambda: tt.Extra("e", eval=1.0), "both sample and eval"),
    "per window": (lambda: tt.Extra("e", per="window"), "per is 'window'"),
    "a clock that reads x": (
        declare(lambda x, h, k: (affine("a", x), affine("b", x)), ["h", tt.State("k", clock=True)]),
        "clock 'k' depends on",
    ),
    "a clock that reads a state": (
        declare(lambda x, h, k: (affine("a", x), k + h), ["h", tt.State("k", clock=True)]),
        "clock 'k' depends on state h",
    ),
    "a clock with a learned period": (
        declare(
            lambda x, h, k, p: (affine("a", x), k + p),
            ["h", tt.State("k", clock=True)],
            params=[tt.Param("p")],
        ),
        "clock 'k' depends on param p",
    ),
    # values of another step
    "a state of another step": (in_two_steps, "the step uses 'q' of another step"),
    "a gate of another step": (gate_in_two_steps, "the step uses 'a' of another step"),
    "a past state in emit": (step_value_in_emit, "emit uses 'h' of another step"),
    "a gate of the step in emit": (step_gate_in_emit, "emit uses 'a' of another step"),
    "a text of another format": (lambda: tt.restore('{"format": 99}'), "format 99"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_refused_by_name(name):
    make, message = WRONG[name]
    with pytest.raises(DeclarationError, match=message):
        make()


def test_a_refusal_leaves_nothing_behind():
    """A step that failed must not leave the tracer believing it is still inside."""
    with pytest.raises(DeclarationError, match="Python branch"):
        of_h(branching)()
    with pytest.raises(DeclarationError, match="outside a step"):
        affine("a", 1.0)
    tt.cell("h")(lambda x, h: affine("a", x, h))


def test_an_error_of_the_users_own_passes_through():
    with pytest.raises(ZeroDivisionError):
        tt.cell("h")(lambda x, h: affine("a", x, h) * (1 / 0))
