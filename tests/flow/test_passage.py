"""Seeds and pulled adjoints together are dE/ds_t: against probes, with resets, lengths, delays."""

from dataclasses import replace

import pytest
import torch

import throughtime as tt
from throughtime.declare.surgery import probed
from throughtime.engine import Inputs, reference
from throughtime.engine.steps import Steps
from throughtime.flow.calls import Gradients, kept
from throughtime.flow.joined import joined
from throughtime.flow.loops import Carried
from throughtime.nn.runs import initial_states, weights_in_use

CELLS = {
    "lstm": tt.cells.lstm,
    "rnn_notes": tt.cells.CATALOGUE["rnn_notes"],
    "skip": tt.skip(tt.cells.CATALOGUE["gru"], [3]),
    "remove": tt.remove(tt.cells.lstm, [2, 4]),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_error_of_every_step(name, reverse):
    cell, T, B = CELLS[name], 9, 3
    layer = tt.Recurrent(cell, 3, 5, bidirectional=reverse, dtype=torch.float64)
    run = layer._runs[-1]
    job = run.jobs[True, None]
    x = torch.randn(T, B, 3, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[7, 0] = reset[2, 1] = reset[3, 2] = True  # near the ends of the rows, too
    weights = tuple(w.detach() for w in weights_in_use(layer, run))
    start = initial_states(layer, cell, run, B, x)
    inputs = Inputs(x, start, (), weights, (), (), torch.tensor([9, 6, 4]), reset)
    count = len(cell.states)
    call, handed = kept(layer, 0, job, inputs, reference.sequence)
    probes = tuple(torch.zeros_like(s).requires_grad_() for s in call.every)
    probed_job = replace(job, cell=probed(cell), memo={})
    outcome = reference.sequence(probed_job, inputs._replace(extras=probes))[: 1 + count]
    factors = [torch.randn_like(t) for t in outcome]

    def loss(tensors):
        return sum((t * f).sum() for t, f in zip(tensors, factors, strict=True))

    truth = torch.autograd.grad(loss(outcome), probes)
    gradients = Gradients(loss(handed[: 1 + count]), [call])
    found = joined(Carried([call]), gradients, torch.arange(B))
    depth, order = found.steps.depth, Steps(job, inputs)
    total = [torch.cat([s.new_zeros(depth, B, s.shape[-1]), s]) for s in found.seeds]
    for t in reversed(range(T)):
        pulled = found.steps.pulled(t, [a[depth + t].unsqueeze(0) for a in total])
        for (state, lag), value in pulled.past.items():
            handed = found.reached[depth - lag, t] & found.real[t]
            total[state][depth + t - lag] += value[0] * handed.unsqueeze(-1)
    for got, want in zip(total, truth, strict=True):
        assert torch.allclose(got[depth:], order.in_order(want), rtol=0, atol=1e-12)


def test_a_clipped_adjoint_is_measured_unclipped():
    torch.manual_seed(0)
    plain = tt.Recurrent(tt.cells.CATALOGUE["rnn"], 3, 5)
    torch.manual_seed(0)
    clipped = tt.Recurrent(tt.clip_adjoint(tt.cells.CATALOGUE["rnn"], 1e-6), 3, 5)
    x = torch.randn(9, 2, 3)
    a, b = (tt.diagnose(m, x, lambda m, x: m(x)[0][-1].sum()).layers[0] for m in (plain, clipped))
    assert a.error_by_lag == b.error_by_lag
    assert a.lyapunov == b.lyapunov
