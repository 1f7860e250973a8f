"""Passages of any cell with drawn weights, and the same network as autograd differentiates it."""

import math
from dataclasses import replace

import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.declare.data import Blocks, Uniform
from throughtime.declare.graph import terms
from throughtime.declare.slots import Sizes
from throughtime.declare.surgery import probed
from throughtime.engine import Inputs, Job, reference
from throughtime.engine.job import by_gate, fresh_states
from throughtime.engine.steps import Steps
from throughtime.flow.passage import passage

LSTM, GRU = CATALOGUE["lstm"], CATALOGUE["gru"]
CURED = {
    "skip": tt.skip(GRU, [3]),
    "remove": tt.remove(LSTM, [2, 3]),
    "dilate": tt.dilate(LSTM, 3),
    "clockwork": tt.clockwork(CATALOGUE["rnn"], [1, 2, 4]),
    "clockwork lstm": tt.clockwork(LSTM, [1, 3]),
    "zoneout": tt.zoneout(LSTM, 0.3),
    "leaky": tt.leaky(CATALOGUE["rnn"], rate=0.1),
    "leaky remove": tt.leaky(tt.remove(GRU, [2]), retain="learned"),
    "gated feedback": tt.cells.gf_lstm(layers=2),
}
CELLS = CATALOGUE | CURED


class Drawn:
    """A call of a cell with drawn weights, in float64 unless said otherwise.

    The error is the sum of the output times `out_weights`.
    """

    def __init__(
        self,
        cell,
        *,
        T=9,
        B=3,
        hidden=4,
        features=3,
        gain=1.5,
        reverse=False,
        lengths=None,
        reset=None,
        dtype=torch.float64,
    ):
        sizes = Sizes(features, hidden, max(hidden - 1, 1))
        self.job = Job(cell, sizes, reverse=reverse, all_states=True)

        def normal(*shape):
            return torch.randn(*shape, dtype=dtype)

        params = tuple(_param(p, sizes, dtype) for p in cell.params)
        bound = gain / math.sqrt(hidden)
        weights = [bound * normal(*slot.shape(sizes)) for slot in self.job.slots]
        _cut(self.job, weights, {p.name: v for p, v in zip(cell.params, params, strict=True)})
        states = tuple(
            torch.full((cell.depth, B, sizes.of(s.width)), s.initial, dtype=dtype)
            if s.clock
            else 0.5 * normal(cell.depth, B, sizes.of(s.width))
            for s in cell.states
        )
        extras = tuple(torch.rand(T, B, sizes.of(e.width), dtype=dtype) for e in cell.extras)
        self.inputs = Inputs(
            normal(T, B, features), states, (), tuple(weights), params, extras, lengths, reset
        )
        out, *rest = reference.sequence(self.job, self.inputs)
        self.every = rest[len(states) :]
        self.out_weights = normal(*out.shape)

    def only_at(self, *steps):
        """The error enters at these steps alone, as they lie in memory."""
        kept = torch.zeros_like(self.out_weights)
        kept[list(steps)] = self.out_weights[list(steps)]
        self.out_weights = kept
        return self

    def passage(self):
        return passage(self.job, self.inputs, self.every, self.out_weights)

    def errors(self):
        """dE_t/ds_k of each moving state by probes, [T, T, B, w] over t and k in order of steps."""
        cell, order = self.job.cell, Steps(self.job, self.inputs)
        sizes = [self.job.sizes.of(s.width) for s in cell.states if not s.clock]
        T, B = self.inputs.x.shape[:2]
        probes = [self.inputs.x.new_zeros(T, B, w, requires_grad=True) for w in sizes]
        job = replace(self.job, cell=probed(cell), all_states=False, memo={})
        extras = (*self.inputs.extras, *probes)
        out = reference.sequence(job, self.inputs._replace(extras=extras))[0]
        by_step = order.in_order((out * self.out_weights).sum(-1).unsqueeze(-1))
        found = [
            torch.autograd.grad(e.sum(), probes, retain_graph=True, materialize_grads=True)
            for e in by_step
        ]
        return [torch.stack([order.in_order(f[s]) for f in found]) for s in range(len(sizes))]

    def recurrent_parts(self):
        """dE_t/dW^(k) of the recurrent matrices, one vector for each t and k; forward alone.

        Every step has its own copy of the weights, as in Goodfellow et al. 2016, sec. 10.2.2.
        """
        assert not self.job.reverse
        inputs, T = self.inputs, self.inputs.x.shape[0]
        copies = [[w.clone().requires_grad_() for w in inputs.weights] for _ in range(T)]
        states, errors = inputs.states, []
        fresh = fresh_states(self.job, inputs)
        for t, weights in enumerate(copies):
            if inputs.reset is not None:
                anew = inputs.reset[t].view(1, -1, 1)
                pairs = zip(states, fresh, strict=True)
                states = tuple(torch.where(anew, f, s) for s, f in pairs)
            one = inputs._replace(
                x=inputs.x[t : t + 1],
                states=tuple(states),
                weights=tuple(weights),
                extras=tuple(e[t : t + 1] for e in inputs.extras),
                lengths=None,
                reset=None,
            )
            out, *states = reference.sequence(replace(self.job, all_states=False, memo={}), one)
            real = 1.0 if inputs.lengths is None else (t < inputs.lengths).unsqueeze(-1)
            errors.append((out[0] * self.out_weights[t] * real).sum())
        return [[self._recurrent(e, weights) for weights in copies] for e in errors]

    def _recurrent(self, error, weights):
        grads = torch.autograd.grad(
            error, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        matrices, used = by_gate(self.job, grads)[0], by_gate(self.job, self.inputs.weights)[0]
        return torch.cat(
            [
                torch.where(used[gate, i] != 0.0, matrices[gate, i], 0.0).flatten()
                for gate, affine in self.job.cell.affines.items()
                for i, term in enumerate(terms(affine))
                if term.kind == "recurrent"
            ]
            or [self.inputs.x.new_zeros(0)]
        )


def _param(param, sizes, dtype):
    width = sizes.of(param.width)
    init = param.init
    if isinstance(init, Uniform):
        return init.low + (init.high - init.low) * torch.rand(width, dtype=dtype)
    if isinstance(init, Blocks):
        size = math.ceil(width / len(init.values))
        return torch.tensor(init.values, dtype=dtype).repeat_interleave(size)[:width]
    return torch.full((width,), init, dtype=dtype)


def _cut(job, weights, params):
    """Elements of masked matrices that are not used are zero."""
    matrices, _ = by_gate(job, weights)  # views
    for gate, affine in job.cell.affines.items():
        for i, term in enumerate(terms(affine)):
            for rows, columns in term.masks:
                matrices[gate, i] *= params[columns][None, :] >= params[rows][:, None]


def step_jacobian(drawn, t):
    """d new states / d past values of step t by autograd: {(new, past, lag): [B, w, w']}."""
    steps = drawn.passage().steps
    cell = drawn.job.cell
    moving = [i for i, s in enumerate(cell.states) if not s.clock]
    history = [h[:, t] for h in steps.history]
    inputs = steps.inputs
    job = replace(drawn.job, reverse=False, all_states=False, memo={})

    def step(*past):
        states = list(history)
        for i, value in zip(moving, past, strict=True):
            states[i] = value
        one = inputs._replace(
            x=inputs.x[t : t + 1],
            states=tuple(states),
            extras=tuple(e[t : t + 1] for e in inputs.extras),
            lengths=None,
            reset=None,
        )
        new = reference.sequence(job, one)[1:]
        return tuple(new[i][-1] for i in moving)

    found = torch.autograd.functional.jacobian(step, tuple(history[i] for i in moving))
    rows = range(drawn.inputs.x.shape[1])
    return {
        (a, b, lag): torch.stack([found[a][b][r, :, -lag, r] for r in rows])
        for a in range(len(moving))
        for b in range(len(moving))
        for lag in range(1, cell.depth + 1)
    }
