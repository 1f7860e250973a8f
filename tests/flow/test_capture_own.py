"""Are a callable, and modules of the user's own, followed as the steps they are?"""

import pytest
import torch
from stepped_by_hand import adjoints
from stepped_in_loops import B, H, I, T, alike, curvy, seen_whole, stepped
from torch import nn

from throughtime.errors import ConfigError
from throughtime.flow.capture import watching


def step_of(cell):
    def step(x, state):
        return cell(x, state)

    return step


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_a_callable_is_linearised(kind):
    cell, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    zeros = torch.zeros(B, H, dtype=torch.float64)
    start = (zeros, zeros) if kind is nn.LSTMCell else zeros
    with watching(step_of(cell)) as watch:
        loss = curvy(stepped(watch.model, x, start))
    (passage,) = watch.passages(loss, rows=B)
    assert (passage.name, passage.kind) == ("step", "function")
    alike(passage, seen_whole(cell, kind, x))
    (some,) = watch.passages(loss, rows=2)
    assert adjoints(some)[0].shape == (T, 2, H)
    match = [(adjoints(passage)[0][:, r] - adjoints(some)[0][:, 1]).abs().max() for r in range(B)]
    assert min(match) < 1e-12


def test_many_adjoints_at_once():
    cell, x = nn.LSTMCell(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    zeros = torch.zeros(B, H, dtype=torch.float64)
    with watching(step_of(cell)) as watch:
        loss = curvy(stepped(watch.model, x, (zeros, zeros)))
    (passage,) = watch.passages(loss, rows=B)
    many = [torch.randn(6, B, H, dtype=torch.float64) for _ in range(2)]
    whole = seen_whole(cell, nn.LSTMCell, x)
    for t in (0, 4):
        got, want = passage.steps.pulled(t, many).past, whole.steps.pulled(t, many).past
        assert got.keys() == want.keys()
        for key, g in got.items():
            torch.testing.assert_close(g, want[key], rtol=1e-8, atol=1e-10)


def test_a_callable_that_is_not_deterministic_is_refused():
    def step(x, h):
        return torch.tanh(nn.functional.dropout(x @ x.T @ h, 0.5))

    with watching(step) as watch, pytest.raises(ConfigError, match="two different results"):
        watch.model(torch.randn(B, I), torch.ones(B, H))


def test_a_callable_that_returns_something_else_is_refused():
    with watching(lambda x, h: (x, h)) as watch, pytest.raises(ConfigError, match="expected the"):
        watch.model(torch.randn(B, I), torch.zeros(B, H))


class Own(nn.Module):
    """A step of the user's own, that also returns what is no state."""

    def __init__(self):
        super().__init__()
        self.read, self.keep = nn.Linear(I, H), nn.Linear(H, H, bias=False)
        self.noise = nn.Dropout(0.3)

    def forward(self, x, h=None):
        a = self.read(x) + (0 if h is None else self.keep(self.noise(h)))
        return 2 * a, torch.tanh(a)


class OwnNet(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 1)

    def forward(self, x):
        h, outputs = None, []
        for t in range(len(x)):
            _, h = self.cell(x[t], h)
            outputs.append(self.head(h))
        return torch.stack(outputs)


def test_a_module_of_the_users_own_is_found_by_what_comes_back():
    net, x = OwnNet(Own()).double(), torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(3)
    with watching(net) as watch:
        loss = curvy(net(x))
    (passage,) = watch.passages(loss, rows=B)
    assert (passage.name, passage.kind, passage.steps.count) == ("cell", "Own", T - 1)
    torch.manual_seed(3)
    h, kept = None, []
    for t in range(T):
        a = net.cell.read(x[t])
        a = a if h is None else a + net.cell.keep(nn.functional.dropout(h, 0.3))
        h = torch.tanh(a)
        h.retain_grad()
        kept.append(h)
    curvy(torch.stack([net.head(h) for h in kept])).backward()
    want = torch.stack([h.grad for h in kept])[1:]  # the first call had no state
    torch.testing.assert_close(adjoints(passage)[0], want, rtol=1e-8, atol=1e-8)


class Mixed(nn.Module):
    """A cell of torch's whose state is mixed with the one before: it is no GRUCell any more."""

    def __init__(self):
        super().__init__()
        self.inner = nn.GRUCell(I, H)

    def forward(self, x, h=None):
        h = x.new_zeros(len(x), H) if h is None else h
        new = 0.5 * h + 0.5 * self.inner(x, h)
        return new.clone(), new


def test_a_module_around_a_cell_takes_its_place_where_it_changes_the_state():
    net, x = OwnNet(Mixed()), torch.randn(T, B, I)
    with watching(net) as watch:
        loss = curvy(net(x))
    assert [(p.name, p.kind) for p in watch.passages(loss)] == [("cell", "Mixed")]
    assert watch.refused == {}


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.GRUCell(I, H)

    def forward(self, x, h=None):
        h = self.inner(x, h)
        return None, h


def test_a_module_that_only_calls_a_cell_is_that_cell():
    net, x = OwnNet(Around()), torch.randn(T, B, I)
    with watching(net) as watch:
        loss = curvy(net(x))
    assert [(p.name, p.kind) for p in watch.passages(loss)] == [("cell.inner", "nn.GRUCell")]


def test_modules_that_do_not_step_are_none():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(H, H)

        def forward(self, x):
            return torch.tanh(self.linear(x))

    twice = Block()
    net = nn.Sequential(twice, twice, nn.GRU(H, H))
    with watching(net) as watch:
        loss = net(torch.randn(T, B, H))[0].sum()
    assert [p.name for p in watch.passages(loss)] == ["2"]
