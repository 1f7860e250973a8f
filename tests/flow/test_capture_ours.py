"""Are our layers seen as they are? Cells, cures, delays, extras, resets, penalties.

The oracle adds zeros to every state of every step and asks autograd for their gradients.
"""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt
from throughtime import engine as engines
from throughtime.cells.notation import parse_cell
from throughtime.flow.capture import watching
from throughtime.nn.omega import moving_places, probed_job

T, B, I, H = 7, 3, 3, 4
CELLS = tt.cells.CATALOGUE
LENGTHS = [4, 7, 0]


def delayed_adjoints(passage):
    """dE/ds_t for every step; lags of any length."""
    total = [s.clone() for s in passage.seeds]
    depth = passage.steps.depth
    for t in range(passage.steps.count - 1, -1, -1):
        back = passage.steps.pulled(t, [s[t].unsqueeze(0) for s in total]).past
        for (i, lag), g in back.items():
            if t - lag >= 0:
                total[i][t - lag] += g[0] * passage.reached[depth - lag, t].unsqueeze(-1)
    return total


class Probes:
    """An observer that adds zeros to the states, and keeps them."""

    def __init__(self):
        self.found = []

    def __call__(self, module, layer, job, inputs, sequence):
        moving = moving_places(job)
        shape = inputs.x.shape[:2]
        zeros = [
            torch.zeros(*shape, job.state_sizes()[i], dtype=inputs.x.dtype, requires_grad=True)
            for i in moving
        ]
        self.found.append((job, inputs.lengths, zeros))
        extras = (*inputs.extras, *zeros)
        out = engines.run(probed_job(job), inputs._replace(extras=extras), "reference")
        return out[: 1 + len(job.cell.states)] if not job.all_states else out

    def adjoints(self, loss):
        """For each call those of its states, in the order of the steps, zero in padding."""
        flat = [z for _, _, zeros in self.found for z in zeros]
        gradients = iter(torch.autograd.grad(loss, flat, materialize_grads=True))
        for job, lengths, zeros in self.found:
            rows = [T] * B if lengths is None else lengths.tolist()
            yield [in_order(next(gradients), rows, job.reverse) for _ in zeros]


def in_order(gradient, lengths, reverse):
    found = torch.zeros_like(gradient)
    for row, length in enumerate(lengths):
        real = gradient[:length, row]
        found[:length, row] = real.flip(0) if reverse else real
    return found


def curvy(parts):
    """A loss that depends on the output of every step and on the last states, unevenly."""
    if isinstance(parts, torch.Tensor):
        return (parts * torch.linspace(1, 2, parts.numel()).view(parts.shape)).sin().sum()
    if hasattr(parts, "batch_sizes"):
        return curvy(parts.data)
    return sum(curvy(p) for p in parts)


def agree(layer, run):
    """Compare; `run` gives the loss."""
    torch.manual_seed(4)
    with watching(layer) as watch:
        loss = run()
    found = watch.passages(loss, rows=B)
    torch.manual_seed(4)
    layer.observer = probes = Probes()
    want = list(probes.adjoints(run()))
    del layer.observer
    assert len(found) == len(want)
    for passage, states in zip(found, want, strict=True):
        for got, expected in zip(delayed_adjoints(passage), states, strict=True):
            assert torch.equal(got[~passage.real], torch.zeros_like(got[~passage.real]))
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)
    return found


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_error_at_every_step_is_that_of_brute_force(name, lengths):
    proj_size = 2 if name == "lstm_projection" else 0
    options = {"bidirectional": True, "proj_size": proj_size, "dtype": torch.float64}
    layer = tt.Recurrent(CELLS[name], I, H, 2, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)
    found = agree(layer, lambda: curvy(layer(x, lengths=lengths)))
    names = ["l0", "l0 reverse", "l1", "l1 reverse"]
    assert [p.name for p in found] == [f"Recurrent {n}" for n in names]
    assert {p.kind for p in found} == {f"Recurrent({name})"}
    assert all(p.replay_error <= 1e-12 for p in found)


@pytest.mark.parametrize(
    "text",
    [
        "leaky(lstm,rate=0.1)",
        "zoneout(gru,0.3)",
        "skip(rnn,[2,5])",
        "remove(lstm,[3])",
        "dilate(gru,2)",
        "recurrent_dropout(lstm,0.4)",
        "clockwork(rnn,[1,2])",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
def test_cures_and_resets_are_followed(text, reset):
    layer = tt.Recurrent(parse_cell(text), I, H, bidirectional=True, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    mask = torch.rand(T, B) < 0.3 if reset else None
    found = agree(layer, lambda: curvy(layer(x, reset=mask, lengths=[5, 7, 3])))
    assert all(p.replay_error <= 1e-12 for p in found)


def test_drop_ins_are_called_by_their_names():
    for kind in (tt.RNN, tt.LSTM, tt.GRU):
        layer = kind(I, H)
        with watching(layer) as watch:
            loss = layer(torch.randn(T, B, I))[0].sum()
        assert [p.kind for p in watch.passages(loss)] == [f"tt.{kind.__name__}"]


def test_the_replay_error_is_what_it_is():
    layer = tt.LSTM(I, H, dtype=torch.bfloat16)
    with watching(layer) as watch:
        loss = layer(torch.randn(T, B, I, dtype=torch.bfloat16))[0].float().sum()
    assert 0 < watch.passages(loss)[0].replay_error < 0.05  # rounded at other places


def test_packed_and_batch_first_and_dropout_between_layers():
    layer = tt.LSTM(I, H, 2, batch_first=True, dropout=0.4, dtype=torch.float64)
    x = torch.randn(B, T, I, dtype=torch.float64)
    agree(layer, lambda: curvy(layer(x)))
    packed = pack_padded_sequence(x, [4, 7, 2], batch_first=True, enforce_sorted=False)
    agree(layer, lambda: curvy(layer(packed)))


def test_the_weights_that_were_dropped_are_followed():
    layer = tt.LSTM(I, H, weight_drop=0.5, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    (dropped,) = agree(layer, lambda: curvy(layer(x)))
    (whole,) = agree(layer.eval(), lambda: curvy(layer(x)))
    changed = [
        not torch.equal(a, b)
        for a, b in zip(dropped.steps.matrices.values(), whole.steps.matrices.values(), strict=True)
    ]
    assert any(changed)


def test_states_of_every_step_may_be_used_too():
    layer = tt.LSTM(I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    agree(layer, lambda: every_used(layer(x, return_all_states=True)))


@pytest.mark.parametrize("kind", [tt.GRU, tt.RNN])
def test_output_and_states_are_told_apart_where_they_are_the_same(kind):
    layer = kind(I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)

    def run():
        out, _, [(h,)] = layer(x, return_all_states=True)
        return (h * out.cos()).sum()

    agree(layer, run)


def every_used(results):
    _, _, [(h, c)] = results
    return (h.square() * c.cos()).sum()


def test_a_learned_initial_state_is_followed():
    layer = tt.GRU(I, H, learn_initial_state=True, dtype=torch.float64)
    with torch.no_grad():
        layer.initial_h_l0.uniform_(-1, 1)
    x, reset = torch.randn(T, B, I, dtype=torch.float64), torch.rand(T, B) < 0.3
    agree(layer, lambda: curvy(layer(x, reset=reset)))


@pytest.mark.parametrize("options", [{"activation_l1": 0.1}, {"omega": 0.1}, {"weight_drop": 0.3}])
def test_what_training_adds_is_added_all_the_same(options):
    layer = tt.GRU(I, H, 2, dtype=torch.float64, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(6)
    own = torch.autograd.grad(curvy(layer(x)), list(layer.parameters()))
    torch.manual_seed(6)
    with watching(layer) as watch:
        loss = curvy(layer(x))
    for a, b in zip(
        torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True), own, strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert len(watch.passages(loss)) == 2


def test_nothing_stands_in_between_afterwards():
    layer = tt.GRU(I, H)
    with watching(layer) as watch:
        layer(torch.randn(T, B, I))
    layer(torch.randn(T, B, I))
    assert layer.observer is None
    assert "observer" not in vars(layer)
    assert len(watch._calls) == 1


@pytest.mark.parametrize("watched", [tt.diagnose, None])
def test_a_named_engine_that_tells_no_states_is_watched_all_the_same(watched):
    """Torch's op returns no cell states; what is looked at then comes from another engine."""
    x = torch.randn(T, B, I)
    found = []
    for engine in ("vendor", "auto"):
        torch.manual_seed(0)
        model = tt.LSTM(I, H, engine=engine)
        if watched is not None:
            layer = watched(model, x, lambda m, b: m(b)[0][-1].square().mean()).record.layers[0]
            found.append((layer.horizon_steps, layer.error_by_lag))
            continue
        monitor = tt.Monitor(model, lags=(1, 3))
        with monitor:
            model(x)[0][-1].square().mean().backward()
        found.append((monitor.readings[0].horizon_steps, monitor.readings[0].error_at_lags))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
