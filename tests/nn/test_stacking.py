"""Is a stack its layers, one after the other? Widths, directions, delays, projections."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same, flattened
from throughtime.errors import ConfigError, ShapeError

T, B, I = 6, 3, 3
LENGTHS = [4, 0, 6]
NAMES = ["lstm", "gru", "lru", "delayed_lstm", "emitting", "projected", "clockwork", "bounded"]


def stack_of(name, widths, **options):
    projection = 2 if name == "projected" else 0
    layer = tt.Recurrent(
        CELLS[name], I, widths, len(widths), proj_size=projection, dtype=torch.float64, **options
    )
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def parts_of(stack, widths):
    """The stack's layers as layers of their own, sharing its parameters."""
    parts, features = [], I
    for number, width in enumerate(widths):
        part = tt.Recurrent(
            stack.cell,
            features,
            width,
            proj_size=stack.proj_size,
            bidirectional=stack.bidirectional,
            dtype=torch.float64,
        )
        for name in [*part._parameters, *part._buffers]:
            setattr(part, name, getattr(stack, name.replace("_l0", f"_l{number}")))
        parts.append(part)
        features = part(torch.zeros(1, 1, features, dtype=torch.float64))[0].shape[-1]
    return parts


def one_after_the_other(parts, x, states, **options):
    last, every = [], []
    for part, hx in zip(parts, states, strict=True):
        x, hx, seen = part(x, hx, return_all_states=True, **options)
        last.append(hx)
        every += seen
    return x, last, every


def joined(hx):
    """One state of several layers, as torch shapes it."""
    if isinstance(hx[0], tuple):
        return tuple(joined(list(parts)) for parts in zip(*hx, strict=True))
    return torch.cat(hx, -3)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("widths", [(4, 4), (2, 5, 3), (5, 3, 3, 4)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_stack_equals_its_layers(name, widths, bidirectional):
    if name == "projected":
        widths = tuple(w + 2 for w in widths)
    stack = stack_of(name, widths, bidirectional=bidirectional)
    parts = parts_of(stack, widths)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    options = {"lengths": LENGTHS, "reset": torch.rand(T, B) < 0.2}
    # States that the layers themselves reach: a clock counts, it is not any number.
    with torch.no_grad():
        start = one_after_the_other(parts, torch.randn_like(x), [None] * len(parts))[1]
    hx = start if len(set(widths)) > 1 else joined(start)

    output, last, every = stack(x, hx, return_all_states=True, **options)
    want, wanted_last, wanted_every = one_after_the_other(parts, x, start, **options)
    uniform = len(set(widths)) == 1
    assert isinstance(last, list) != uniform
    assert_same([output, last], [want, joined(wanted_last) if uniform else wanted_last])
    assert_same(every, wanted_every)

    leaves = [x, *stack.parameters()]
    found = torch.autograd.grad(output.sin().sum(), leaves, materialize_grads=True)
    wanted = torch.autograd.grad(want.sin().sum(), leaves, materialize_grads=True)
    assert_same(found, wanted)
    assert found[0].abs().max() > 0


@pytest.mark.parametrize("name", ["lstm", "delayed_lstm", "gru"])
def test_windows_of_a_stack_equal_the_whole(name):
    stack = stack_of(name, (3, 5))
    x, reset = torch.randn(T, B, I, dtype=torch.float64), torch.rand(T, B) < 0.3
    whole, last = stack(x, reset=reset)
    hx, parts = None, []
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        part, hx = stack(x[start:stop], hx, reset=reset[start:stop])
        parts.append(part)
    assert_same([torch.cat(parts), hx], [whole, last])


def test_shapes_of_states():
    x = torch.randn(T, B, I, dtype=torch.float64)
    _, (h, c) = stack_of("lstm", (4, 4), bidirectional=True)(x)
    assert h.shape == c.shape == (4, B, 4)
    _, (h, c) = stack_of("delayed_lstm", (4, 4), bidirectional=True)(x)
    assert h.shape == c.shape == (3, 4, B, 4)
    _, hx = stack_of("gru", (4, 2), bidirectional=True)(x)
    assert [h.shape for h in hx] == [(2, B, 4), (2, B, 2)]
    _, hx = stack_of("projected", (4, 5))(x)
    assert [[s.shape[-1] for s in layer] for layer in hx] == [[2, 4], [2, 5]]


def test_a_state_without_delays_is_repeated():
    stack = stack_of("delayed", (4, 4))
    x, h = torch.randn(T, B, I, dtype=torch.float64), torch.randn(2, B, 4, dtype=torch.float64)
    assert_same(stack(x, h), stack(x, h.expand(3, 2, B, 4)))


def test_a_stack_of_unequal_layers_refuses_one_tensor():
    with pytest.raises(ShapeError, match=r"expected a list of 2, one a layer"):
        stack_of("gru", (4, 2))(torch.zeros(T, B, I).double(), torch.zeros(2, B, 4).double())


def test_every_state_has_its_layer_and_direction():
    stack = stack_of("lstm", (4, 4), bidirectional=True)
    hx = tuple(torch.randn(4, B, 4, dtype=torch.float64) for _ in "hc")
    _, last = stack(torch.zeros(0, B, I, dtype=torch.float64), hx)
    assert all(torch.equal(a, b) for a, b in zip(flattened(last), hx, strict=True))


def test_a_cell_without_a_matrix_is_refused():
    @tt.cell("h")
    def counter(h):
        return h + 1

    with pytest.raises(ConfigError, match="counter has no matrix"):
        tt.Recurrent(counter, 3, 5)
