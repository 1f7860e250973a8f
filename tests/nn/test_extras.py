"""Where do extra inputs come from? Drawn in training, constant outside it, or the caller's."""

import pytest
import torch

import throughtime as tt
from throughtime import Bernoulli, Extra

T, B, I, H = 8, 5, 2, 30
SCALE = 1.25


def showing(per):
    """A cell that emits the mask it was given."""
    mask = Extra("m", Bernoulli(0.8, SCALE), eval=1.0, per=per)
    return tt.cell("h", extras=[mask], emit=lambda h, m: m)(
        lambda x, h, m: tt.tanh(tt.affine("a", x, m * h))
    )


def drawn(per, **call):
    options = call.pop("options", {})
    layer = tt.Recurrent(showing(per), I, H, **options)
    return layer(torch.randn(T, B, I), **call)[0]


def changes(mask):
    """Before which steps a row's mask changes, [T - 1, B]."""
    return (mask[1:] != mask[:-1]).any(-1)


@pytest.mark.parametrize("per", ["step", "sequence"])
def test_values_are_drawn_as_declared(per):
    mask = drawn(per)
    assert set(mask.unique().tolist()) == {0.0, SCALE}
    assert 0.7 < (mask > 0).float().mean() < 0.9


def test_one_draw_a_step():
    assert changes(drawn("step")).all()


def test_one_draw_a_row_and_call():
    mask = drawn("sequence")
    assert not changes(mask).any()
    assert not torch.equal(mask[0, 0], mask[0, 1])
    assert not torch.equal(mask, drawn("sequence"))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_draw_a_sequence_begins_anew_after_a_reset(bidirectional):
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[0, 0] = reset[3, 1] = reset[3, 2] = reset[4, 2] = reset[7, 3] = True
    mask = drawn("sequence", reset=reset, options={"bidirectional": bidirectional})
    for direction in mask.split(H, -1):
        assert torch.equal(changes(direction), reset[1:])


def test_a_draw_for_each_layer_and_direction():
    a, b = drawn("sequence", options={"bidirectional": True}).split(H, -1)
    assert not torch.equal(a, b)
    stack = tt.Recurrent(showing("step"), I, H, 2)
    with torch.no_grad():
        seen = [stack(torch.zeros(T, B, I))[0] for _ in range(2)]
    assert not torch.equal(*seen)


def test_outside_training_the_constant_holds():
    layer = tt.Recurrent(showing("step"), I, H).eval()
    assert layer(torch.randn(T, B, I))[0].eq(1.0).all()


def test_the_generator_decides():
    layer, x = tt.Recurrent(showing("step"), I, H), torch.randn(T, B, I)
    torch.manual_seed(5)
    first = layer(x)[0]
    torch.manual_seed(5)
    assert torch.equal(layer(x)[0], first)


def test_a_call_without_steps_or_rows_draws_nothing():
    for per in ("step", "sequence"):
        layer = tt.Recurrent(showing(per), I, H)
        reset = torch.zeros(0, B, dtype=torch.bool)
        assert layer(torch.randn(0, B, I), reset=reset)[0].shape == (0, B, H)
        assert layer(torch.randn(T, 0, I))[0].shape == (T, 0, H)


@pytest.mark.parametrize("training", [False, True])
def test_the_callers_values_go_before_draws(training):
    layer = tt.Recurrent(showing("sequence"), I, H).train(training)
    x, given = torch.randn(T, B, I), torch.rand(T, B, H)
    assert torch.equal(layer(x, extras={"m": given})[0], given)
    assert torch.equal(layer(x, extras={"m": given[0]})[0], given[:1].expand(T, B, H))
    narrow = given[..., :1]
    assert torch.equal(layer(x, extras={"m": narrow})[0], narrow.expand(T, B, H))


def test_the_callers_values_lie_as_the_input_does():
    layer = tt.Recurrent(showing("step"), I, H, batch_first=True, bidirectional=True)
    x, given = torch.randn(B, T, I), torch.rand(B, T, H)
    assert torch.equal(layer(x, extras={"m": given})[0], torch.cat([given, given], -1))
    assert torch.equal(layer(x[0], extras={"m": given[0]})[0], torch.cat([given[0]] * 2, -1))


def test_a_value_for_a_whole_sequence_without_a_batch():
    layer, given = tt.Recurrent(showing("sequence"), I, H), torch.rand(H)
    assert torch.equal(layer(torch.randn(T, I), extras={"m": given})[0], given.expand(T, H))


def test_in_reverse_a_steps_value_stays_with_its_input():
    cell = tt.cell("h", extras=[Extra("gap", width=1)])(
        lambda x, h, gap: tt.tanh(tt.affine("a", x, gap * h))
    )
    layer = tt.Recurrent(cell, I, 4, bidirectional=True, dtype=torch.float64)
    x, gap = torch.randn(T, 1, I).double(), torch.rand(T, 1, 1).double()
    back = layer(x, extras={"gap": gap})[0][..., 4:]
    twin = tt.Recurrent(cell, I, 4, dtype=torch.float64)
    for name, parameter in twin.named_parameters():
        parameter.data = getattr(layer, f"{name}_reverse").data
    assert torch.equal(twin(x.flip(0), extras={"gap": gap.flip(0)})[0].flip(0), back)


def test_gradients_flow_to_the_callers_values():
    cell = tt.cell("h", extras=[Extra("gap", width=1)])(
        lambda x, h, gap: tt.tanh(tt.affine("a", x, gap * h))
    )
    layer = tt.Recurrent(cell, I, 4, dtype=torch.float64)
    gap = torch.rand(T, B, 1, dtype=torch.float64, requires_grad=True)
    output, _ = layer(torch.randn(T, B, I).double(), extras={"gap": gap}, lengths=[8, 3, 0, 1, 8])
    (found,) = torch.autograd.grad(output.sum(), gap)
    assert (found[1:, 0] != 0).all()
    assert found[3:, 1].eq(0).all()
    assert found[:, 2].eq(0).all()


def test_recurrent_dropout_on_hidden_states_is_one_mask_a_sequence():
    mask = Extra("seen", Bernoulli(0.5, 2.0), eval=1.0, per="sequence")
    cell = tt.cell("h", extras=[mask])(lambda x, h, seen: tt.tanh(tt.affine("a", x, seen * h)))
    layer, x = tt.Recurrent(cell, I, 4, dtype=torch.float64), torch.randn(T, B, I).double()
    torch.manual_seed(1)
    got, _ = layer(x)
    torch.manual_seed(1)
    held = 2.0 * torch.bernoulli(torch.full((B, 4), 0.5, dtype=torch.float64))
    assert torch.equal(layer(x, extras={"seen": held})[0], got)
