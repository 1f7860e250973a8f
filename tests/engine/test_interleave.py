"""Lags with a common divisor: interleaved sequences give the numbers of steps one by one."""

import pytest
import torch

import throughtime as tt
from throughtime import engine as engines
from throughtime.cells import gru_reset_before, lstm_peephole, lstm_projection, rnn
from throughtime.cells.delays import dilate, remove, skip
from throughtime.cells.masks import clip_adjoint, recurrent_dropout
from throughtime.cells.mixtures import clockwork, leaky, zoneout
from throughtime.declare.quotient import common_lag, divided
from throughtime.declare.slots import Sizes
from throughtime.engine import Inputs, Job, reference
from throughtime.engine.dispatch import REFERENCE, VENDOR
from throughtime.engine.interleave import interleaved, quotient
from throughtime.testing.adjoint import bptt, forward
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["loop", torch.float64].bound
SIZES = Sizes(input=3, hidden=5, projection=4)
ROWS = 6


def lagged_lstm(lag):
    @tt.cell("h c", name=f"lstm_{lag}")
    def lagged(x, h, c):
        h, c = tt.ago(h, lag), tt.ago(c, lag)
        i, f, g, o = tt.affine("i f g o", x, h)
        c = tt.sigmoid(f) * c + tt.sigmoid(i) * tt.tanh(g)
        return tt.sigmoid(o) * tt.tanh(c), c

    return lagged


def lagged_gru(lag):
    @tt.cell("h", name=f"gru_{lag}")
    def lagged(x, h):
        h = tt.ago(h, lag)
        r, z = tt.affine("r z", x, h)
        n = tt.tanh(tt.affine("n_x", x) + tt.sigmoid(r) * tt.affine("n_h", h))
        return (1.0 - tt.sigmoid(z)) * n + tt.sigmoid(z) * h

    return lagged


@tt.cell((tt.State("h", initial=0.25),), emit=lambda h, x: tt.affine("y", h, x, width=2))
def two_and_four(x, h):
    return tt.tanh(tt.affine("a", x, tt.ago(h, 2)) + tt.affine("b", tt.ago(h, 4), bias=False))


@tt.cell(
    ("h", tt.State("p", width="projection"), tt.State("k", width=1, clock=True)),
    params=(tt.Param("rate", init=0.3),),
    extras=(
        tt.Extra("gap"),
        tt.Extra("mask", sample=tt.Bernoulli(0.7), eval=0.7, per="sequence", width=1),
    ),
)
def clocked(x, h, p, k, rate, gap, mask):
    """A leak, a clock that counts to three, a projection: everything goes back by 3 or 6."""
    past, held, count = tt.ago(h, 3), tt.ago(p, 6), tt.ago(k, 3) + 1.0
    new = tt.tanh(tt.affine("a", x, mask * past, held)) / (1.0 + gap)
    new = tt.where(count < 2.0, past, rate * past + (1.0 - rate) * new)
    wrapped = tt.where(count >= 3.0, 0.0, count)
    return new, tt.affine("q", new, bias=False, width="projection") + tt.ago(p, 3), wrapped


CELLS = {
    "two_and_four": (two_and_four, 2),
    "lstm_3": (lagged_lstm(3), 3),
    "gru_4": (lagged_gru(4), 4),
    "clocked": (clocked, 3),
    "removed": (remove(leaky(lstm_peephole, rate="learned"), [2, 6]), 2),
    "clockwork": (dilate(clockwork(skip(gru_reset_before, [2]), [1, 2, 3]), 3), 3),
    "masked": (dilate(zoneout(recurrent_dropout(lstm_projection, 0.3), 0.2), 2), 2),
    "clipped": (dilate(clip_adjoint(rnn, 0.05), 2), 2),
}
MASKS = ("none", "lengths", "resets", "both")


def draw(cell, steps, mask, learned, seed):
    source = torch.Generator().manual_seed(seed)

    def even(*shape):
        return torch.rand(shape, generator=source, dtype=torch.float64) * 2.0 - 1.0

    job = Job(cell, SIZES)
    widths = dict(zip(cell.states, job.state_sizes(), strict=True))
    histories = [even(cell.depth, ROWS, w) for w in widths.values()]
    lengths = torch.randint(0, steps + 1, (ROWS,), generator=source)
    lengths[-1] = steps
    return Inputs(
        x=even(steps, ROWS, SIZES.input),
        states=tuple(
            (h.abs() * 3.0).floor() if s.clock else h
            for s, h in zip(cell.states, histories, strict=True)
        ),
        initial=tuple(even(w) for s, w in widths.items() if not s.clock) if learned else (),
        weights=tuple(even(*slot.shape(SIZES)) for slot in job.slots),
        params=tuple(even(SIZES.of(p.width)) for p in cell.params),
        extras=tuple(even(steps, ROWS, SIZES.of(e.width)).abs() for e in cell.extras),
        lengths=lengths if mask in {"lengths", "both"} else None,
        reset=torch.rand((steps, ROWS), generator=source) < 0.15
        if mask in {"resets", "both"}
        else None,
    )


def everything(run, job, inputs):
    """Outputs and the gradients of all that is given, by a random functional of the outputs."""
    clocks = {1 + i for i, s in enumerate(job.cell.states) if s.clock}
    leaves = [t.clone().requires_grad_(i not in clocks) for i, t in enumerate(inputs.flat())]
    outputs = run(job, engines.job.unflatten(job, leaves, inputs.lengths, inputs.reset))
    source = torch.Generator().manual_seed(1)
    total = sum((o * torch.randn(o.shape, generator=source).double()).sum() for o in outputs)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(total, asked, allow_unused=True)
    filled = [torch.zeros_like(t) if g is None else g for t, g in zip(asked, found, strict=True)]
    return [*[o.detach() for o in outputs], *filled]


def plain(job, inputs):
    """The truth: all steps, one after another."""
    return reference.sequence(job, inputs)


def worst(found, wanted):
    pairs = zip(found, wanted, strict=True)
    return max((error_to_largest(a, b) for a, b in pairs if b.numel()), default=0.0)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", CELLS)
def test_outputs_and_gradients_are_those_of_single_steps(name, reverse):
    cell, strands = CELLS[name]
    assert common_lag(cell) == strands
    job = Job(cell, SIZES, reverse=reverse, all_states=True)
    for steps in range(3 * strands + 2):
        for mask in MASKS:
            for learned in (False, True):
                inputs = draw(cell, steps, mask, learned, seed=steps)
                found = everything(REFERENCE.sequence, job, inputs)
                error = worst(found, everything(plain, job, inputs))
                assert error <= BOUND, (steps, mask, learned, error)


@pytest.mark.parametrize("name", CELLS)
def test_the_adjoint_graph_by_hand_gives_the_same(name):
    cell, strands = CELLS[name]
    job = Job(cell, SIZES, all_states=True)
    inputs = draw(cell, 2 * strands + 1, "none", False, seed=3)
    outputs = forward(job, inputs)
    source = torch.Generator().manual_seed(1)
    entering = [torch.randn(o.shape, generator=source).double() for o in outputs]
    clocks = {1 + i for i, s in enumerate(cell.states) if s.clock}
    gradients = [g for i, g in enumerate(bptt(job, inputs, entering)) if i not in clocks]
    assert worst(everything(REFERENCE.sequence, job, inputs), [*outputs, *gradients]) <= BOUND


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["lstm_3", "gru_4"])
def test_the_vendor_runs_dilated_cells(name, reverse):
    cell, strands = CELLS[name]
    job = Job(cell, SIZES, reverse=reverse)
    engines.prepare(job)
    for steps in range(1, 2 * strands + 2):
        for mask in MASKS:
            inputs = draw(cell, steps, mask, True, seed=steps)
            assert VENDOR.refusal(job, inputs) is None
            found = everything(lambda job, i: engines.run(job, i, "vendor"), job, inputs)
            assert worst(found, everything(plain, job, inputs)) <= BOUND, (steps, mask)


def test_no_rows_and_no_steps():
    for reverse in (False, True):
        job = Job(clocked, SIZES, reverse=reverse)
        inputs = draw(clocked, 7, "both", True, seed=0)
        none = inputs._replace(
            x=inputs.x[:, :0],
            states=tuple(h[:, :0] for h in inputs.states),
            extras=tuple(e[:, :0] for e in inputs.extras),
            lengths=inputs.lengths[:0],
            reset=inputs.reset[:, :0],
        )
        for few in (none, draw(clocked, 0, "both", True, seed=0)):
            found, wanted = REFERENCE.sequence(job, few), plain(job, few)
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("steps", "own"), [(0, (0, 0)), (1, (1, 6)), (3, (1, 18)), (9, (3, 24))])
def test_a_batch_holds_no_strand_without_a_step(steps, own):
    cell, seen = CELLS["gru_4"][0], []

    def watched(job, inputs):
        seen.append(inputs.x.shape[:2])
        assert (inputs.lengths is None) == (steps < 4)
        return reference.sequence(job, inputs)

    interleaved(watched)(Job(cell, SIZES), draw(cell, steps, "none", False, seed=0))
    assert seen == [own]


def test_a_clocks_history_gets_no_gradient():
    inputs = draw(clocked, 2, "none", False, seed=0)
    clock = inputs.states[2].requires_grad_()
    outputs = REFERENCE.sequence(Job(clocked, SIZES), inputs)
    assert not any(o.requires_grad for o in outputs)
    assert not clock.grad_fn


def test_lags_are_divided_and_matrices_stay_in_order():
    whole = divided(two_and_four, 2)
    assert whole.lags() == {"h": 2}
    assert divided(lagged_lstm(3), 3) == tt.cells.lstm
    assert divided(lagged_gru(4), 4) == tt.cells.gru
    assert divided(dilate(skip(tt.cells.gru, [3]), 5), 5) == skip(tt.cells.gru, [3])
    for cell, strands in CELLS.values():
        job = Job(cell, SIZES)
        short = quotient(job)
        assert common_lag(short.cell) == 1
        assert [s.pieces for s in short.slots] == [s.pieces for s in job.slots]
        assert short.cell.depth * strands == cell.depth
    assert common_lag(tt.cells.lstm) == 1
    job = Job(tt.cells.lstm, SIZES)
    assert quotient(job) is job


@tt.cell("h c")
def one_and_two(x, h, c):
    return tt.tanh(tt.affine("a", x, tt.ago(h, 2), c)), tt.ago(h, 4)


def test_one_state_with_another_lag_keeps_the_steps_in_line():
    assert common_lag(one_and_two) == 1
    assert "interleaved" not in tt.Recurrent(one_and_two, 3, 5).explain()


def test_layers_say_how_they_run():
    dilated = tt.Recurrent(dilate(tt.cells.lstm, 4), 3, 5)
    said = dilated.explain(torch.zeros(39, 2, 3))  # no strand has ten steps
    assert said.startswith("vendor, as 4 interleaved sequences: torch's own fused op")
    assert dilated.explain(torch.zeros(40, 2, 3)).startswith("llvm, as 4 interleaved sequences: ")
    said = tt.Recurrent(two_and_four, 3, 5).explain()
    assert said.startswith("llvm, as 2 interleaved sequences: ")
    assert "not vendor: the equations of two_and_four" in said
    assert "interleaved" not in tt.LSTM(3, 5).explain()


@pytest.mark.parametrize("engine", ["vendor", "llvm", "reference"])
def test_second_derivatives_and_transforms_agree(engine):
    cell, _ = CELLS["gru_4"]
    job, inputs = Job(cell, SIZES), draw(CELLS["gru_4"][0], 6, "both", False, seed=2)

    def energy(run, x):
        return run(job, inputs._replace(x=x))[0].square().sum()

    def by_engine(job, i):
        return engines.run(job, i, engine)

    def hessian_times(run, x, v):
        x = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(energy(run, x), x, create_graph=True)
        return torch.autograd.grad((first * v).sum(), x)[0]

    v = torch.randn_like(inputs.x)
    wanted = hessian_times(plain, inputs.x, v)
    assert error_to_largest(hessian_times(by_engine, inputs.x, v), wanted) <= 1e-10
    gradient = torch.func.grad(lambda x: energy(by_engine, x))
    _, tangent = torch.func.jvp(gradient, (inputs.x,), (v,))
    assert error_to_largest(tangent, wanted) <= 1e-10


def test_compiled_layers_stay_one_node():
    layer = tt.Recurrent(lagged_lstm(3), 3, 5, bidirectional=True, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    results = []
    for model in (compiled, layer):
        out = model(x)[0]
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    assert worst(*results) <= BOUND
    program = torch.export.export(layer, (x.detach(),))
    nodes = [n for n in program.graph.nodes if n.target is torch.ops.throughtime.sequence.default]
    assert len(nodes) == 2  # one a direction
    assert worst([program.module()(x.detach())[0]], [layer(x)[0]]) <= BOUND


@pytest.mark.parametrize("cell", [lagged_lstm(2), two_and_four], ids=["lstm", "two_and_four"])
def test_the_contract_holds(cell):
    found = {(line.engine, line.check) for line in tt.testing.check_cell(cell).lines}
    assert {("reference", "engine"), ("llvm", "engine")} <= found
    assert (("vendor", "engine") in found) == (cell is not two_and_four)


def test_products_are_rounded_as_in_single_steps():
    job = Job(two_and_four, SIZES, products="bfloat16")
    drawn = draw(two_and_four, 7, "both", True, seed=0)
    flat = [t.float() for t in drawn.flat()]
    inputs = engines.job.unflatten(job, flat, drawn.lengths, drawn.reset)
    found, wanted = REFERENCE.sequence(job, inputs), plain(job, inputs)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.float32]
    assert error_to_largest(found[1], wanted[1]) <= TOLERANCE["autocast", torch.float32].bound
    rounded = error_to_largest(found[0].float(), wanted[0].float())
    assert rounded <= TOLERANCE["bfloat16", torch.float32].bound


def test_shapes_alone_are_enough_on_the_meta_device():
    layer = tt.Recurrent(dilate(tt.cells.lstm, 3), 3, 5, device="meta", engine="reference")
    out, (h, c) = layer(torch.empty(7, 2, 3, device="meta"))
    assert [tuple(t.shape) for t in (out, h, c)] == [(7, 2, 5), (3, 1, 2, 5), (3, 1, 2, 5)]
