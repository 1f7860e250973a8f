"""Omega by its formula: cells written by hand, loops over rows, stretches and steps."""

import torch

import throughtime as tt
from tolerances import TOLERANCE

T, B, I, H = 6, 3, 2, 4
DOUBLE = {"dtype": torch.float64}
WEIGHT = 2.0
NEAR = TOLERANCE["loop", torch.float64].bound
LENGTHS = [6, 4, 0]
RESET = torch.zeros(T, B, dtype=torch.bool)
RESET[2, 0] = RESET[5, 0] = RESET[0, 1] = RESET[4, 1] = True  # the last lies past the row's end


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def scale(y):
    """What makes the loss tell steps, rows and units apart."""
    return torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)


def loss(y):
    return (scale(y) * y.square() + y).sum()


def gradients(layer, call):
    """The gradients of all parameters, by name."""
    parameters = dict(layer.named_parameters())
    found = torch.autograd.grad(call(layer), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


# One step of each cell written by hand: from x, past[state][-lag] and weights to new states. The
# last weight is the recurrent one that Omega sees.


def rnn_step(x, past, w):
    bias, w_ih, w_hh = w
    return [torch.tanh(w_ih @ x + bias + w_hh @ past[0][-1])]


def lstm_step(x, past, w):
    bias, w_ih, w_hh = w
    i, f, g, o = (w_ih @ x + bias + w_hh @ past[0][-1]).chunk(4)
    c = f.sigmoid() * past[1][-1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


def gru_step(x, past, w):
    b_ih, b_hh, w_ih, w_hh = w
    of_x, of_h = (w_ih @ x + b_ih).chunk(3), (w_hh @ past[0][-1] + b_hh).chunk(3)
    r, z = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
    return [(1.0 - z) * torch.tanh(of_x[2] + r * of_h[2]) + z * past[0][-1]]


def delayed_step(x, past, w):
    bias, w_ih, w_2, w_3 = w
    return [torch.tanh(w_ih @ x + bias + w_2 @ past[0][-2] + w_3 @ past[0][-3])]


def recurrent(cell):
    return lambda **options: tt.Recurrent(cell, I, H, omega=WEIGHT, **DOUBLE, **options)


ONE_BIAS = ["bias", "weight_ih", "weight_hh"]
CELLS = {  # the layer, its step, its weights in order, how many are recurrent, range of lags
    "rnn": (recurrent(tt.cells.rnn), rnn_step, ONE_BIAS, 1, (1, 1)),
    "lstm": (recurrent(tt.cells.lstm), lstm_step, ONE_BIAS, 1, (1, 1)),
    "GRU": (
        lambda **options: tt.GRU(I, H, omega=WEIGHT, **DOUBLE, **options),
        gru_step,
        ["bias_ih", "bias_hh", "weight_ih", "weight_hh"],
        1,
        (1, 1),
    ),
    "delayed": (
        recurrent(tt.remove(tt.cells.rnn, [2, 3])),
        delayed_step,
        [*ONE_BIAS, "weight_hh_d3"],
        2,
        (2, 3),
    ),
}


def terms_of(step, weights, recurrent, start, steps, lags, *, anew):
    """The terms of Omega of one stretch of one row, one step after the other.

    Args:
        step: The cell.
        weights: All weights, the last `recurrent` of which Omega is a function of.
        recurrent: How many.
        start: For each state its D values before the first step.
        steps: For each step x, and the row of `scale`.
        lags: The shortest and the longest.
        anew: Whether the values before the first step are no past, after a reset.
    """
    fixed = [w.detach() for w in weights]
    history = [[s.detach().clone().requires_grad_() for s in values] for values in start]
    total = torch.zeros((), **DOUBLE)
    for x, factor in steps:
        # + 0: the c that is carried on is another value than the c that h is made from
        new = [value + 0.0 for value in step(x, [h[-lags[1] :] for h in history], fixed)]
        for values, value in zip(history, new, strict=True):
            values.append(value)
        total = total + (factor * new[0].square() + new[0]).sum()
    found = []
    depth = len(start[0])
    for t, (x, _) in enumerate(steps):
        now = [values[depth + t] for values in history]
        signal = torch.autograd.grad(
            total, now, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        first = depth if anew else 0
        if depth + t - lags[0] < first:
            continue
        past = [[v.detach().requires_grad_() for v in values[t : depth + t]] for values in history]
        handed = torch.autograd.grad(
            step(x, past, [*fixed[:-recurrent], *weights[-recurrent:]]),
            [v for values in past for j, v in enumerate(values) if t + j >= first],
            signal,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        size = sum(g.square().sum() for g in signal)
        found.append((sum(v.square().sum() for v in handed) / size - 1.0).square())
    return found


def stretches(length, borders):
    """Each run of steps between resets, with whether it begins with one."""
    starts = [t for t in range(length) if t == 0 or borders[t]]
    for start, stop in zip(starts, [*starts[1:], length], strict=False):
        yield start, stop, bool(borders[start])


def by_formula(kind, layer, x, hx, lengths, reset, *, reverse=False):
    """Omega of a single layer and direction, as loops over rows, stretches and steps."""
    _, step, names, recurrent, lags = CELLS[kind]
    suffix = "_l0_reverse" if reverse else "_l0"
    weights = [getattr(layer, name + suffix) for name in names]
    factor = scale(torch.empty(T, B, H * layer.directions, **DOUBLE))
    factor = factor[..., H:] if reverse else factor[..., :H]
    own = (layer.cell.states[0].initial,) * len(layer.cell.states)
    found = []
    for b, length in enumerate(lengths):
        for start, stop, begins_anew in stretches(length, reset[:, b].tolist()):
            steps = [(x[t, b], factor[t, b]) for t in range(start, stop)]
            if reverse:
                steps.reverse()
            carried = stop == length if reverse else start == 0 and not begins_anew
            fresh = [torch.full((lags[1], H), value, **DOUBLE) for value in own]
            given = [s[..., int(reverse), b, :].reshape(-1, H) for s in hx]
            given = [s.expand(lags[1], H) if len(s) == 1 else s for s in given]
            found += terms_of(
                step, weights, recurrent, given if carried else fresh, steps, lags, anew=not carried
            )
    omega = sum(found) / len(found)
    gradients = torch.autograd.grad(omega, weights[-recurrent:])
    return omega, dict(zip([n + suffix for n in names[-recurrent:]], gradients, strict=True))
