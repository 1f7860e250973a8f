"""Does `clip_adjoint` clip at every step, and nothing else? Against backward passes by hand."""

import pytest
import torch
from torch import func, sigmoid, tanh
from torch.autograd import grad

import throughtime as tt
from graph_loop import bptt, draw_given, draw_like, forward
from throughtime import cells
from throughtime.declare.graph import walk
from throughtime.declare.roles import roles
from throughtime.declare.slots import Sizes
from throughtime.engine.clip_adjoint import clip_adjoint
from throughtime.errors import EngineError
from throughtime.testing import check_cell
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["loop", torch.float64].bound
T, B, I, H = 9, 2, 3, 5
CLIP = 0.2
PLACES = ("gates", "states")


def layer_of(cell, **options):
    """A layer with a gain above one, so that gradients grow on their way."""
    layer = tt.Recurrent(cell, I, H, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.weight_hh_l0 *= 4.0
    return layer


def drawn():
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(T, B, H, dtype=torch.float64)


def gradients(layer, x, outer, output=None):
    leaves = {"x": x} | dict(layer.named_parameters())
    output = layer(x)[0] if output is None else output
    return dict(zip(leaves, grad(output, list(leaves.values()), outer), strict=True))


def by_hand(layer, x, outer, at):
    """BPTT of a tanh layer as on paper, and at how many steps something was clipped.

    outer[t] is dE/dh_t as far as it comes from step t's own output.
    """
    W, U, b = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_l0
    h = [x.new_zeros(B, H)]
    for x_t in x:
        h.append(tanh(x_t @ W.T + h[-1] @ U.T + b))
    dW, dU, db, dx = (torch.zeros_like(a) for a in (W, U, b, x))
    later, clipped = torch.zeros_like(h[0]), 0
    for t in reversed(range(T)):
        state = outer[t] + later
        kept = state.clamp(-CLIP, CLIP) if at == "states" else state
        a = kept * (1 - h[t + 1] ** 2)
        kept_a = a.clamp(-CLIP, CLIP) if at == "gates" else a
        clipped += not (torch.equal(kept, state) and torch.equal(kept_a, a))
        dW, dU, db = dW + kept_a.T @ x[t], dU + kept_a.T @ h[t], db + kept_a.sum(0)
        dx[t], later = kept_a @ W, kept_a @ U
    return {"x": dx, "weight_ih_l0": dW, "weight_hh_l0": dU, "bias_l0": db}, clipped


@pytest.mark.parametrize("at", PLACES)
def test_every_step_is_clipped_as_by_hand(at):
    layer = layer_of(tt.clip_adjoint(cells.rnn, CLIP, at=at))
    x, outer = drawn()
    with torch.no_grad():
        want, clipped = by_hand(layer, x, outer, at)
    assert clipped > T // 2
    for name, gradient in gradients(layer, x, outer).items():
        assert error_to_largest(gradient, want[name]) <= BOUND, name


@pytest.mark.parametrize("at", PLACES)
def test_an_lstm_against_hooks_in_a_loop(at):
    """torch's own hooks clip what they are put on: pre-activations, or h and c."""
    layer = layer_of(tt.clip_adjoint(cells.lstm, CLIP, at=at))
    x, outer = drawn()
    h = c = x.new_zeros(B, H)
    outputs = []
    for x_t in x:
        a = x_t @ layer.weight_ih_l0.T + h @ layer.weight_hh_l0.T + layer.bias_l0
        a.register_hook(clipping(at == "gates"))
        i, f, g, o = a.chunk(4, -1)
        new = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h, c = sigmoid(o) * tanh(new), new * 1.0  # the c carried on; h reads the one before
        h.register_hook(clipping(at == "states"))
        c.register_hook(clipping(at == "states"))
        outputs.append(h)
    want = gradients(layer, x, outer, torch.stack(outputs))
    for name, gradient in gradients(layer, x, outer).items():
        assert error_to_largest(gradient, want[name]) <= BOUND, name


def clipping(wanted):
    return lambda g: g.clamp(-CLIP, CLIP) if wanted else g


@pytest.mark.parametrize("at", PLACES)
def test_forward_and_below_the_bound_nothing_changes(at):
    layer = layer_of(tt.clip_adjoint(cells.gru, CLIP, at=at))
    plain = layer_of(cells.gru, engine="reference")
    plain.load_state_dict(layer.state_dict())
    x, outer = drawn()
    assert torch.equal(layer(x)[0], plain(x)[0])
    small = 1e-9 * outer
    ours, theirs = gradients(layer, x, small), gradients(plain, x, small)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(gradients(layer, x, outer)["x"], gradients(plain, x, outer)["x"])


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "lstm_projection"])
def test_the_contract_with_gradients_that_are_clipped(name, at):
    report = check_cell(tt.clip_adjoint(cells.CATALOGUE[name], 0.05, at=at))
    refused = {line.check: line.where for line in report.lines if line.error is None}
    assert refused == {"gradcheck": "gradients that are clipped on their way are no derivatives"}
    assert report.engine.startswith("reference")


def test_the_vendor_engine_refuses_by_the_graph():
    with pytest.raises(EngineError, match=r"of clip_adjoint\(lstm, bound=0.2\) are not"):
        layer_of(tt.clip_adjoint(cells.lstm, CLIP), engine="vendor")(drawn()[0])


@pytest.mark.parametrize("at", PLACES)
def test_gates_keep_their_roles(at):
    for cell in (*cells.CATALOGUE.values(), cells.gf_gru()):
        assert roles(tt.clip_adjoint(cell, 1.0, at=at)) == roles(cell)


def test_only_steps_are_clipped():
    """Not the gates of emit, not what params alone decide, not clocks."""

    def step(x, h, p):
        return tt.tanh(tt.affine("a", x, h) + tt.affine("fixed", p))

    emit = lambda h: tt.affine("y", h)  # noqa: E731
    cell = tt.cell("h", params=[tt.Param("p", 0.5)], emit=emit)(step)
    cell = tt.clockwork(cell, (1, 2))

    def clipped(at):
        nodes = walk((*(made := tt.clip_adjoint(cell, 1.0, at=at)).new, *made.out))
        return [n.args[0].op for n in nodes if n.op == "clip_adjoint"]

    assert clipped("gates") == ["affine"]
    assert clipped("states") == ["where"]
    check_cell(tt.clip_adjoint(cell, 0.05))


def test_bounds_within_each_other():
    """The outer bound acts on what the inner one lets through: as the smaller of the two."""
    sizes = Sizes(input=I, hidden=H, projection=H)
    found = []
    for bounds in ((CLIP,), (CLIP, 1.0), (1.0, CLIP)):
        cell = cells.rnn
        for bound in bounds:
            cell = tt.clip_adjoint(cell, bound)
        given = draw_given(cell, sizes, steps=T, batch=B, seed=0)
        seen = forward(cell, sizes, given)
        found.append(bptt(cell, sizes, given, seen, draw_like(seen, 0)).named())
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in other)


def test_under_transforms():
    """grad and vmap clip, jvp lets tangents through, second derivatives are those of clamp."""
    layer = layer_of(tt.clip_adjoint(cells.lstm, CLIP))
    plain = layer_of(cells.lstm, engine="reference")
    plain.load_state_dict(layer.state_dict())
    x, outer = drawn()
    x = x.detach()
    params = dict(layer.named_parameters())

    def loss(p, x, call=layer):
        return (outer * func.functional_call(call, p, (x,))[0]).sum()

    want = gradients(layer, x.clone().requires_grad_(True), outer)
    found = func.grad(loss)(params, x)
    for name, gradient in found.items():
        assert error_to_largest(gradient, want[name]) <= BOUND
    both = func.vmap(func.grad(loss), (None, 0))(params, torch.stack([x, 2 * x]))
    assert error_to_largest(both["bias_l0"][0], want["bias_l0"]) <= BOUND
    tangent = torch.randn_like(x)
    ours = func.jvp(lambda x: func.functional_call(layer, params, (x,))[0], (x,), (tangent,))
    theirs = func.jvp(lambda x: func.functional_call(plain, params, (x,))[0], (x,), (tangent,))
    assert error_to_largest(ours[1], theirs[1]) <= BOUND
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    leaf = x.clone().requires_grad_(True)
    got = gradients(layer, leaf, outer, compiled(leaf)[0])
    assert all(error_to_largest(got[name], want[name]) <= BOUND for name in want)


def test_second_derivatives():
    """d/da of clamp(a^2 g) for f = a^3 / 3: 2 a g where a^2 g is inside, else 0."""
    a = torch.tensor([0.1, -0.2, 2.0], dtype=torch.float64, requires_grad=True)
    g = torch.ones_like(a)
    (first,) = grad(clip_adjoint_of_cube(a), a, g, create_graph=True)
    assert error_to_largest(first.detach(), torch.tensor([0.01, 0.04, 0.5], dtype=a.dtype)) <= BOUND
    (second,) = grad(first, a, g)
    assert error_to_largest(second, torch.tensor([0.2, -0.4, 0.0], dtype=a.dtype)) <= BOUND


def clip_adjoint_of_cube(a):
    """a^3 / 3, whose gradient a^2 is clipped before it reaches a."""
    return clip_adjoint(a, 0.5) ** 3 / 3


@pytest.mark.parametrize("compiled", [False, True])
def test_the_identity_by_itself(compiled):
    run = torch.compile(clip_adjoint, backend="aot_eager") if compiled else clip_adjoint
    a = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    g = 2.0 * torch.randn_like(a)
    out = run(a, 0.5)
    assert torch.equal(out, a)
    assert torch.equal(grad(out, a, g)[0], g.clamp(-0.5, 0.5))
