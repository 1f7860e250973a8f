"""Are single steps and pieces joined to the sequence they are, and no others?"""

import pytest
import torch
from stepped_by_hand import adjoints
from stepped_in_loops import (
    CELLS,
    LAYERS,
    B,
    H,
    I,
    T,
    alike,
    curvy,
    same_weights,
    seen_whole,
    stepped,
)
from torch import nn

import throughtime as tt
from throughtime.flow.capture import watching


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_in_a_loop_is_the_layer(kind):
    cell, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    with watching(cell) as watch:
        loss = curvy(stepped(cell, x))
    (passage,) = watch.passages(loss, rows=B)
    assert passage.name == kind.__name__
    assert passage.kind.removeprefix("tt.").removeprefix("nn.") == kind.__name__
    assert passage.replay_error <= 1e-12
    alike(passage, seen_whole(cell, kind, x))


@pytest.mark.parametrize("kind", [nn.LSTMCell, tt.GRUCell])
def test_a_cell_without_a_batch(kind):
    cell, x = kind(I, H, dtype=torch.float64), torch.randn(T, I, dtype=torch.float64)
    with watching(cell) as watch:
        loss = curvy(stepped(cell, x))
    (passage,) = watch.passages(loss)
    whole = same_weights(cell, kind)
    with watching(whole) as watch:
        loss = curvy(whole(x)[0])
    alike(passage, watch.passages(loss)[0])


@pytest.mark.parametrize("pieces", [[1] * 8, [3, 1, 4]])
@pytest.mark.parametrize("kind", LAYERS)
def test_pieces_whose_state_is_handed_on_are_one_sequence(kind, pieces):
    layer, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    with watching(layer) as watch:
        state, outputs = None, []
        for piece in x.split(pieces):
            out, state = layer(piece, state)
            outputs.append(out)
        loss = curvy(torch.cat(outputs))
    (passage,) = watch.passages(loss, rows=B)
    alike(passage, seen_whole(layer, kind, x))


def test_stacked_cells_are_told_apart():
    net = nn.ModuleList([nn.LSTMCell(I, H), nn.LSTMCell(H, H)]).double()
    x = torch.randn(T, B, I, dtype=torch.float64)
    whole = nn.LSTM(I, H, 2, dtype=torch.float64)
    for layer, cell in enumerate(net):
        for name, p in cell.named_parameters():
            getattr(whole, f"{name}_l{layer}").data.copy_(p.data)
    with watching(net) as watch:
        states, outputs = [None, None], []
        for t in range(T):
            states[0] = net[0](x[t], states[0])
            states[1] = net[1](states[0][0], states[1])
            outputs.append(states[1][0])
        loss = curvy(torch.stack(outputs))
    got = watch.passages(loss, rows=B)
    with watching(whole) as watch:
        loss = curvy(whole(x)[0])
    assert [p.name for p in got] == ["0", "1"]
    for a, b in zip(got, watch.passages(loss, rows=B), strict=True):
        alike(a, b)


@pytest.mark.parametrize("pieces", [[1] * 8, [4, 4]])
def test_rows_that_were_set_to_zero_start_anew(pieces):
    layer = tt.LSTM(I, H, dtype=torch.float64)
    x, reset = torch.randn(T, B, I, dtype=torch.float64), torch.zeros(T, B, dtype=torch.bool)
    reset[4, 1] = True
    with watching(layer) as watch:
        want = curvy(layer(x, reset=reset)[0])
    want = watch.passages(want, rows=B)[0]
    assert not want.reached[0, 4, 1]
    with watching(layer) as watch:
        state, outputs, t = None, [], 0
        for piece in x.split(pieces):
            if state is not None:
                keep = (~reset[t]).double().view(1, B, 1)
                state = tuple(s * keep for s in state)
            out, state = layer(piece, state)
            outputs.append(out)
            t += len(piece)
        loss = curvy(torch.cat(outputs))
    (got,) = watch.passages(loss, rows=B)
    alike(got, want)


@pytest.mark.parametrize("zeroed", [False, True])
def test_pieces_of_rows_of_any_length(zeroed):
    layer = tt.LSTM(I, H, dtype=torch.float64)
    pieces = [torch.randn(n, B, I, dtype=torch.float64) for n in (3, 2, 4)]
    lengths = torch.tensor([[3, 0, 2], [0, 2, 1], [4, 1, 0]])
    reset = torch.zeros(7, B, dtype=torch.bool)
    reset[3, 0] = zeroed  # before the second piece, of which that row has no step
    with watching(layer) as watch:
        state, real, between = None, [[] for _ in range(B)], 0.0
        for number, (piece, own) in enumerate(zip(pieces, lengths, strict=True)):
            if number == 1 and zeroed:
                keep = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).view(1, B, 1)
                state = tuple(s * keep for s in state)
            out, state = layer(piece, state, lengths=own)
            between = between + state[1].sin().sum()
            for row in range(B):
                real[row].append(out[: own[row], row])
        loss = sum(curvy(torch.cat(r)) for r in real) + between
    (got,) = watch.passages(loss, rows=B)
    total = lengths.sum(0)
    whole = torch.zeros(int(total.max()), B, I, dtype=torch.float64)
    for row in range(B):
        parts = [p[: own[row], row] for p, own in zip(pieces, lengths, strict=True)]
        whole[: total[row], row] = torch.cat(parts)
    with watching(layer) as watch:
        out, _, [(_, c)] = layer(whole, lengths=total, reset=reset, return_all_states=True)
        loss = sum(curvy(out[: total[r], r]) for r in range(B))
        done = lengths.cumsum(0)
        for number in range(3):
            for row in range(B):
                gone = zeroed and number == 1 and row == 0
                if done[number, row] and not gone:
                    loss = loss + c[done[number, row] - 1, row].sin().sum()
    (want,) = watch.passages(loss, rows=B)
    count = want.steps.count
    assert torch.equal(got.reached[:, :count][:, want.real], want.reached[:, want.real])
    for a, b in zip(adjoints(got), adjoints(want), strict=True):
        torch.testing.assert_close(a[:count], b, rtol=1e-8, atol=1e-8)
        assert not a[count:].any()


def test_pieces_with_delays():
    cell = tt.cells.skip(tt.cells.CATALOGUE["rnn"], [1, 3])
    layer = tt.Recurrent(cell, I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with watching(layer) as watch:
        want = curvy(layer(x)[0])
    (want,) = watch.passages(want, rows=B)
    with watching(layer) as watch:
        state, outputs = None, []
        for piece in x.split([1, 2, 1, 4]):
            out, state = layer(piece, state)
            outputs.append(out)
        loss = curvy(torch.cat(outputs))
    (got,) = watch.passages(loss, rows=B)
    for a, b in zip(got.seeds, want.seeds, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    assert torch.equal(got.reached, want.reached)


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_a_state_taken_from_the_output_is_handed_on_too(kind):
    layer, x = kind(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    with watching(layer) as watch:
        state, outputs = None, []
        for piece in x.split([3, 5]):
            out, _ = layer(piece, state)
            outputs.append(out)
            state = out[-1:]
        loss = curvy(torch.cat(outputs))
    (passage,) = watch.passages(loss, rows=B)
    alike(passage, seen_whole(layer, kind, x))


def test_weights_drawn_anew_for_every_piece_are_refused():
    layer = tt.LSTM(I, H, weight_drop=0.5)
    with watching(layer) as watch:
        state, loss = None, 0.0
        for piece in torch.randn(T, B, I).split(4):
            out, state = layer(piece, state)
            loss = loss + out.sum()
    assert watch.passages(loss) == []
    assert "weights at call 2" in watch.refused["LSTM"]


def test_a_detached_state_begins_a_sequence():
    layer, x = nn.GRU(I, H), torch.randn(T, B, I)
    with watching(layer) as watch:
        first, state = layer(x[:5])
        second, _ = layer(x[5:], state.detach())
        loss = first.sum() + second.sum()
    found = watch.passages(loss)
    assert [(p.name, p.steps.count) for p in found] == [("GRU call 1", 5), ("GRU call 2", 3)]


def test_a_context_from_elsewhere_begins_a_sequence():
    net = nn.ModuleDict({"encoder": nn.GRU(I, H), "decoder": nn.GRU(I, H)})
    x = torch.randn(T, B, I)
    with watching(net) as watch:
        loss = 0.0
        for part in x.split(4):
            _, context = net["encoder"](part)
            loss = loss + net["decoder"](part, context)[0].sum()
    names = [p.name for p in watch.passages(loss)]
    assert names == [f"{n} call {i}" for n in ("encoder", "decoder") for i in (1, 2)]


def test_two_sequences_in_turns_are_told_apart():
    cell, x = nn.GRUCell(I, H, dtype=torch.float64), torch.randn(2, T, B, I, dtype=torch.float64)
    with watching(cell) as watch:
        states, outputs = [None, None], [[], []]
        for t in range(T):
            for n in (0, 1) if t % 2 == 0 else (1, 0):
                states[n] = cell(x[n, t], states[n])
                outputs[n].append(states[n])
        loss = sum(curvy(torch.stack(o)) for o in outputs)
    found = watch.passages(loss, rows=B)
    assert [p.name for p in found] == ["GRUCell call 1", "GRUCell call 2"]
    for n, passage in enumerate(found):
        alike(passage, seen_whole(cell, nn.GRUCell, x[n]))


def test_a_state_that_was_changed_is_refused_by_name_and_the_rest_goes_on():
    net = nn.ModuleDict({"a": nn.GRUCell(I, H), "b": nn.LSTM(H, H)})
    x = torch.randn(T, B, I)
    with watching(net) as watch:
        outputs = stepped(net["a"], x, between=lambda t, s: None if s is None else 0.9 * s)
        loss = net["b"](outputs)[0].sum()
    assert [p.name for p in watch.passages(loss)] == ["b"]
    assert list(watch.refused) == ["a"]
    assert "at call 2 is neither" in watch.refused["a"]


def test_gradients_are_those_without_watching():
    cell, x = nn.LSTMCell(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64)
    own = torch.autograd.grad(curvy(stepped(cell, x)), list(cell.parameters()))
    with watching(cell) as watch:
        loss = curvy(stepped(cell, x))
    watch.passages(loss)
    for a, b in zip(torch.autograd.grad(loss, list(cell.parameters())), own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
