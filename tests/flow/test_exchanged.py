"""Is an exchanged state that of the next row, and does it tell information from habit?"""

import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.flow.capture import watching
from throughtime.flow.resets import resetting

T, B, I, H = 8, 3, 2, 4


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, tt.LSTM, tt.RNN])
def test_pieces_go_on_from_the_next_rows_state(kind, n):
    layer = kind(I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with resetting(layer, n, exchange=True):
        out, _ = layer(x)
    for row in range(B):
        for begin in range(0, T, n):
            other = x[:begin, [(row + 1) % B]]
            state = layer(other)[1] if begin else None
            close(out[begin : begin + n, [row]], layer(x[begin : begin + n, [row]], state)[0])


def test_each_row_counts_from_its_own_end_in_both_directions():
    layer = tt.LSTM(I, H, bidirectional=True, dtype=torch.float64)
    x, lengths = torch.randn(T, B, I, dtype=torch.float64), [8, 5, 7]
    with resetting(layer, 3, exchange=True):
        out, _ = layer(x, lengths=lengths)
    for row in range(B):
        length, other = lengths[row], (row + 1) % B
        theirs = x[: lengths[other], other]
        _, state = layer(theirs[: lengths[other] - 3])
        close(
            out[length - 3 : length, row, :H], layer(x[length - 3 : length, row], state)[0][:, :H]
        )
        _, state = layer(theirs[3:])
        close(out[:3, row, H:], layer(x[:3, row], state)[0][:, H:])


class Loop(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state, out = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            out.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(out)


def test_a_cell_in_a_loop_takes_over_the_next_rows_state():
    model = Loop(nn.LSTMCell(I, H, dtype=torch.float64))
    x = torch.randn(T, B, I, dtype=torch.float64)
    with watching(model) as watch:
        watch.passages(model(x).sum())
    with resetting(model, 5, watch.schedule(), exchange=True):
        out = model(x)
    state = None
    for t, x_t in enumerate(x):
        if t == T - 5:
            state = tuple(s.roll(-1, 0) for s in state)
        state = model.cell(x_t, state)
        close(out[t], state[0])


def test_rows_that_are_the_same_lose_nothing():
    layer = nn.GRU(I, H, dtype=torch.float64)
    x = torch.randn(T, 1, I, dtype=torch.float64).expand(T, B, I)
    with resetting(layer, 2, exchange=True):
        out, _ = layer(x)
    close(out, layer(x)[0])


class Habit(nn.Module):
    """Its state counts the steps; what it reads does not matter."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(I, H, nonlinearity="relu")
        with torch.no_grad():
            for weight in self.rnn.parameters():
                weight.zero_()
            self.rnn.weight_hh_l0.copy_(torch.eye(H))
            self.rnn.bias_ih_l0.fill_(0.1)


def test_a_habit_is_no_use_of_context():
    torch.manual_seed(0)
    model, x = Habit(), torch.randn(32, 4, I)
    found = tt.diagnose(model, x, lambda m, x: (m.rnn(x)[0][-1] - 3.2).square().mean() + 0.1)
    context = found.record.context
    assert context.loss[0] > 5 * context.loss[-1], "resets do harm it"
    assert context.loss_exchanged == pytest.approx([context.loss[-1]] * len(context.steps))
    assert context.uses_steps is None
    single = tt.diagnose(model, x[:, :1], lambda m, x: (m.rnn(x)[0][-1] - 3.2).square().mean())
    assert single.record.context.loss_exchanged is None
