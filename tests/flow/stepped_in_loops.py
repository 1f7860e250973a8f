"""Cells in loops, and the layers that do the same at once."""

import torch
from stepped_by_hand import adjoints
from torch import nn

import throughtime as tt
from throughtime.flow.capture import watching

T, B, I, H = 8, 3, 3, 4
CELLS = [nn.RNNCell, nn.GRUCell, nn.LSTMCell, tt.RNNCell, tt.GRUCell, tt.LSTMCell]
LAYERS = [nn.RNN, nn.GRU, nn.LSTM, tt.RNN, tt.GRU, tt.LSTM]


def whole_of(kind):
    """The layer of torch's that does what a cell or a layer does."""
    return getattr(nn, kind.__name__.removesuffix("Cell"))


def same_weights(module, kind):
    """A layer over whole sequences with the weights of a module."""
    whole = whole_of(kind)(I, H, dtype=torch.float64)
    own = {n.removesuffix("_l0"): p for n, p in module.named_parameters()}
    for name, p in whole.named_parameters():
        p.data.copy_(own[name.removesuffix("_l0")].data)
    return whole


def curvy(outputs):
    return (outputs * torch.linspace(1, 2, outputs.numel()).view(outputs.shape)).sin().sum()


def seen_whole(module, kind, x):
    """The passage of the whole sequence."""
    whole = same_weights(module, kind)
    with watching(whole) as watch:
        loss = curvy(whole(x)[0])
    return watch.passages(loss, rows=B)[0]


def alike(got, want):
    assert torch.equal(got.reached, want.reached)
    assert torch.equal(got.real, want.real)
    for a, b in zip(got.seeds, want.seeds, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    for a, b in zip(adjoints(got), adjoints(want), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def of_h(state):
    return state[0] if isinstance(state, tuple) else state


def stepped(cell, x, state=None, between=lambda t, state: state):
    outputs = []
    for t in range(len(x)):
        state = cell(x[t], between(t, state))
        outputs.append(of_h(state))
    return torch.stack(outputs)
