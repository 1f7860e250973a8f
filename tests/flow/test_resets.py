"""Does a model that is reset every n steps say what it says of the last n steps alone?"""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime.cells.notation import parse_cell
from throughtime.errors import ConfigError
from throughtime.flow.capture import watching
from throughtime.flow.resets import resetting

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")  # torch's

T, B, I, H = 7, 3, 3, 4
LENGTHS = [3, 7, 1]
LAYERS = [
    (nn.RNN, {}),
    (nn.GRU, {"bias": False}),
    (nn.LSTM, {"proj_size": 2}),
    (nn.LSTM, {"batch_first": True}),
    (tt.LSTM, {}),
    (tt.GRU, {"batch_first": True}),
]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def last(state):
    return state if isinstance(state, torch.Tensor) else torch.cat([s[-1] for s in state], -1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_the_last_step_has_seen_n_steps(kind, options, n):
    layer = kind(I, H, dtype=torch.float64, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)

    def run(x):
        out, state = layer(x.transpose(0, 1) if layer.batch_first else x)
        return out.transpose(0, 1) if layer.batch_first else out, state

    with resetting(layer, n) as model:
        assert model is layer
        out, state = run(x)
    alone, alone_state = run(x[-n:])
    close(out[-1], alone[-1])
    close(last(state), last(alone_state))
    for k in range(0, T, n):  # and so has every other step, counted from its border
        close(out[max(T - k - n, 0) : T - k], run(x[max(T - k - n, 0) : T - k])[0])
    if n < T:
        assert not torch.allclose(run(x)[0][-1], out[-1])


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, tt.LSTM, tt.RNN])
def test_each_direction_and_row_counts_from_its_own_end(kind, n):
    layer = kind(I, H, bidirectional=True, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    with resetting(layer, n):
        out, state = layer(packed)
    out, _ = pad_packed_sequence(out)
    h = state[0] if isinstance(state, tuple) else state
    for row, length in enumerate(LENGTHS):
        own = x[:length, row]
        close(h[0, row], layer(own[-n:])[0][-1, :H])
        close(h[1, row], layer(own[:n])[0][0, H:])
        for end in range(length, 0, -n):
            close(out[max(end - n, 0) : end, row, :H], layer(own[max(end - n, 0) : end])[0][:, :H])
        for begin in range(0, length, n):
            piece = own[begin : begin + n]
            close(out[begin : begin + len(piece), row, H:], layer(piece)[0][:, H:])
        assert not out[length:, row].any()


@pytest.mark.parametrize("text", ["leaky(lstm,rate=0.1)", "skip(rnn,[2,5])", "dilate(gru,2)"])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_cures_forget_too(text, n):
    layer = tt.Recurrent(parse_cell(text), I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with resetting(layer, n):
        out, _ = layer(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        begin = max(length - n, 0)
        close(out[begin:length, row], layer(x[begin:length, row])[0])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_users_own_resets_stay(n):
    layer = tt.LSTM(I, H, bidirectional=True, dtype=torch.float64)
    x, reset = torch.randn(T, B, I, dtype=torch.float64), torch.rand(T, B) < 0.3
    lengths = torch.tensor(LENGTHS)
    step = torch.arange(T)[:, None]
    hx = tuple(torch.randn(2, B, H, dtype=torch.float64) for _ in range(2))
    with resetting(layer, n):
        out, (h, c) = layer(x, hx, reset=reset, lengths=lengths)
    for place, borders in enumerate([(lengths - step) % n == 0, step % n == 0]):
        both = reset | (borders & (step > 0))
        want, (want_h, want_c) = layer(x, hx, reset=both, lengths=lengths)
        part = slice(place * H, (place + 1) * H)
        close(out[..., part], want[..., part])
        close(h[place], want_h[place])
        close(c[place], want_c[place])


@pytest.mark.parametrize("kind", [nn.GRU, tt.GRU])
def test_a_state_handed_in_reaches_the_first_piece_alone(kind):
    layer = kind(I, H, dtype=torch.float64)
    x, h = torch.randn(T, B, I, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    with resetting(layer, 3):
        out, _ = layer(x, h)
        whole, _ = layer(x[:3], h)
    close(out[:1], layer(x[:1], h)[0])
    close(out[1:4], layer(x[1:4])[0])
    close(whole, layer(x[:3], h)[0])


def test_states_of_every_step_and_dropout_between_layers():
    layer = tt.LSTM(I, H, 2, dropout=0.5, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(1)
    with resetting(layer, 2):
        out, _, every = layer(x, return_all_states=True)
    close(every[1][0], out)
    reset = (T - torch.arange(T)[:, None]) % 2 == 0
    torch.manual_seed(1)
    close(out, layer(x, reset=reset.expand(T, B))[0])


def looped(cell, x, state=None):
    for step in x:
        state = cell(step, state)
    return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.RNNCell, tt.GRUCell, tt.LSTMCell])
def test_cells_in_a_loop(kind, n):
    cell, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    with watching(cell) as watch:
        looped(cell, x)
    seen = watch.schedule()
    assert seen.longest_steps == T
    for _ in range(2):  # a schedule may be used again
        with resetting(cell, n, seen):
            close(looped(cell, x), looped_alone(cell, x[-n:]))


def looped_alone(cell, x):
    """By torch's own layer, which is not reset here."""
    whole = getattr(nn, type(cell).__name__.removesuffix("Cell"))(I, H, dtype=torch.float64)
    for name, p in cell.named_parameters():
        getattr(whole, f"{name}_l0").data.copy_(p.data)
    return whole(x)[0][-1]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", [nn.LSTM, tt.GRU])
def test_pieces_count_to_the_end_of_the_sequence(kind, n):
    layer, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)

    def run():
        state, outputs = None, []
        for piece in x.split([3, 1, 3]):
            out, state = layer(piece, state)
            outputs.append(out)
        return torch.cat(outputs)

    with watching(layer) as watch:
        run()
    with resetting(layer, n, watch.schedule()):
        out = run()
    for end in range(T, 0, -n):
        begin = max(end - n, 0)
        close(out[begin:end], layer(x[begin:end])[0])


@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_callable_and_a_module_of_the_users_own(n):
    cell, x = nn.GRUCell(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    zeros = torch.zeros(B, H, dtype=torch.float64)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.u = nn.Linear(H, H)

        def forward(self, x, h=None):
            h = zeros if h is None else h
            return 0.5 * h + torch.tanh(x.sum(-1, keepdim=True) + self.u(h))

    for step in (lambda x, h: cell(x, h), Own().double()):
        with watching(step) as watch:
            looped(watch.model, x, None if isinstance(step, nn.Module) else zeros)
        with resetting(step, n, watch.schedule()) as model:
            got = looped(model, x, None if isinstance(step, nn.Module) else zeros)
        close(got, looped(step, x[-n:], zeros))


def test_single_steps_without_a_schedule_are_refused():
    cell, x = nn.GRUCell(I, H), torch.randn(T, B, I)
    with resetting(cell, 2), pytest.raises(ConfigError, match="takes single steps"):
        looped(cell, x)


def test_more_calls_than_were_seen_are_refused():
    cell, x = nn.GRUCell(I, H), torch.randn(T, B, I)
    with watching(cell) as watch:
        looped(cell, x)
    with (
        resetting(cell, 2, watch.schedule()),
        pytest.raises(ConfigError, match="called 8 times; expected 7"),
    ):
        looped(cell, torch.cat([x, x]))


@pytest.mark.parametrize("n", [0, -1, 2.0, "2"])
def test_what_is_no_number_of_steps_is_refused(n):
    with pytest.raises(ConfigError, match="whole number from 1 up"), resetting(nn.GRU(I, H), n):
        pass


def test_everything_is_put_back():
    net = nn.ModuleList([nn.GRU(I, H), tt.GRU(H, H)])
    x, forward = torch.randn(T, B, I), nn.GRU.forward
    own = net[1](net[0](x)[0])[0]
    with pytest.raises(RuntimeError, match="in the middle"), resetting(net, 2):
        raise RuntimeError("in the middle")
    assert nn.GRU.forward is forward
    assert torch.equal(net[1](net[0](x)[0])[0], own)
