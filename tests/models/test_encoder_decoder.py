"""Does the encoder-decoder write what its equations say, told or on its own?"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax
from translators import (
    CELLS,
    END,
    GRU,
    LSTM,
    RNN,
    SOURCE_LENGTHS,
    TARGET_LENGTHS,
    B,
    E,
    H,
    S,
    T,
    V,
    close,
    counting,
    draw,
    lengths,
    make,
)

import throughtime as tt
from throughtime.declare.graph import affines
from throughtime.errors import ConfigError, DtypeError, ShapeError
from throughtime.models import inverse_sigmoid_decay
from tolerances import TOLERANCE


def torch_stack(ours, input_size, kind):
    """A torch.nn module with the weights of one of our layers."""
    theirs = kind(input_size, H, bidirectional=ours.bidirectional, dtype=torch.float64)
    named = dict(ours.named_parameters())
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "bias_hh" in name:
                weight.zero_()
            else:
                weight.copy_(named[name.replace("bias_ih", "bias")])
    return theirs


def heard(model, target):
    begin = torch.full_like(target[:1], END)
    return model.target_embedding(torch.cat([begin, target[:-1]]))


def test_sutskever_hands_over_the_last_state():
    model, (source, target) = make(LSTM), draw()
    assert model.bridge is None
    reader, writer = torch_stack(model.encoder, E, nn.LSTM), torch_stack(model.decoder, E, nn.LSTM)
    _, hx = reader(model.source_embedding(source))
    hidden, _ = writer(heard(model, target), hx)
    close(model(source, target), log_softmax(hidden @ model.head.weight.T + model.head.bias, -1))


def test_cho_shows_the_context_at_every_step_and_at_the_start():
    model, (source, target) = make(RNN, LSTM, context="both", bidirectional=True), draw()
    reader = torch_stack(model.encoder, E, nn.RNN)
    writer = torch_stack(model.decoder, E + 2 * H, nn.LSTM)
    _, h = reader(model.source_embedding(source))
    context = torch.cat([h[0], h[1]], -1)
    start = (context @ model.bridge.weight.T + model.bridge.bias)[None]
    x = torch.cat([heard(model, target), context.expand(T, -1, -1)], -1)
    hidden, _ = writer(x, (start[..., :H].contiguous(), start[..., H:].contiguous()))
    close(model(source, target), log_softmax(hidden @ model.head.weight.T + model.head.bias, -1))


def test_context_as_input_alone_starts_from_zero():
    model, (source, target) = make(LSTM, RNN, context="input"), draw()
    assert model.bridge is None
    reader = torch_stack(model.encoder, E, nn.LSTM)
    writer = torch_stack(model.decoder, E + 2 * H, nn.RNN)
    _, (h, c) = reader(model.source_embedding(source))
    context = torch.cat([h[0], c[0]], -1)
    hidden, _ = writer(torch.cat([heard(model, target), context.expand(T, -1, -1)], -1))
    close(model(source, target), log_softmax(hidden @ model.head.weight.T + model.head.bias, -1))


def names_of_emit(encoder):
    """What only the last layer's output needs; the context is made of its states."""
    inner = affines(encoder.cell.out)
    names = [n for n, _ in encoder.named_parameters() if n.endswith(f"_l{encoder.num_layers - 1}")]
    return {f"encoder.{n}" for n in names for gate in inner if n.startswith(f"weight_{gate}_")}


@pytest.mark.parametrize("context", ["initial", "input", "both"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_told_symbol_by_symbol_is_told_at_once(cell, context, monkeypatch):
    """The path that could hear itself, made to hear the truth, with all gradients."""
    model, (source, target) = make(cell, layers=2, context=context), draw()
    fast = model.nll_nats(source, target, **lengths())
    whole = torch.autograd.grad(fast.sum(), list(model.parameters()), allow_unused=True)
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.zeros(*a, **k))
    slow = model.nll_nats(source, target, **lengths(), teacher_forcing=0.5)
    steps = torch.autograd.grad(slow.sum(), list(model.parameters()), allow_unused=True)
    close(slow, fast)
    unread = names_of_emit(model.encoder)
    for name, a, b in zip(dict(model.named_parameters()), whole, steps, strict=True):
        assert (a is None) == (b is None) == (name in unread), name
        if a is not None:
            close(b, a, TOLERANCE["derivatives", torch.float64].bound)


def calls_of(module):
    seen = []
    module.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    return seen


def test_full_teacher_forcing_is_one_call_and_less_is_one_a_step():
    model, (source, target) = make(), draw()
    seen = calls_of(model.decoder)
    model.nll_nats(source, target)
    model.nll_nats(source, target, teacher_forcing=0.9)
    assert seen == [T] + [1] * T


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_left_alone_it_hears_what_it_writes(cell):
    model, (source, target) = make(cell), draw()
    log_probs = model(source, target, source_lengths=SOURCE_LENGTHS, teacher_forcing=0.0)
    written, real = model.generate(source, T, source_lengths=SOURCE_LENGTHS)
    own = log_probs.argmax(-1)
    for row in range(B):
        assert torch.equal(written[: real[row], row], own[: real[row], row])
    told = model(source, own, source_lengths=SOURCE_LENGTHS)
    close(log_probs, told)


def test_each_step_and_row_hears_the_truth_by_its_own_draw(monkeypatch):
    model, (source, target) = make(), draw()
    coins = torch.rand(T, B, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(torch, "rand", lambda *a, **k: coins)
    got = model(source, target, teacher_forcing=0.6)
    mixed, rows = target.clone(), torch.arange(B)
    for t in range(T - 1):  # what is heard at t + 1 stands at t
        own = model(source, mixed)[t].argmax(-1)
        mixed[t] = torch.where(coins[t + 1] < 0.6, target[t], own)
    assert 0 < (mixed != target).sum() < T * len(rows)
    close(got, model(source, mixed))


def test_the_draws_follow_the_seed_and_the_probability():
    model, (source, target) = make(), draw()
    torch.manual_seed(4)
    first = model(source, target, teacher_forcing=0.5)
    torch.manual_seed(4)
    assert torch.equal(first, model(source, target, teacher_forcing=0.5))
    assert not torch.equal(first, model(source, target, teacher_forcing=0.5))
    same = [part[:, :1].expand(-1, 50) for part in (source, target)]
    assert len(model(*same, teacher_forcing=0.5).unique(dim=1)[0]) > 10, "a draw for each row"


def test_no_gradient_passes_through_its_own_symbols():
    model, (source, target) = make(), draw()
    own = model(source, target, teacher_forcing=0.0).argmax(-1)
    alone = model(source, target, teacher_forcing=0.0).sum()
    told = model(source, own).sum()
    for parts in zip(
        torch.autograd.grad(alone, list(model.parameters())),
        torch.autograd.grad(told, list(model.parameters())),
        strict=True,
    ):
        close(*parts, TOLERANCE["derivatives", torch.float64].bound)


def poisoned(source, target):
    """Padding that is no symbol at all."""
    source = torch.where(torch.arange(S)[:, None] < SOURCE_LENGTHS, source, -100)
    return source, torch.where(torch.arange(T)[:, None] < TARGET_LENGTHS, target, 10**9)


@pytest.mark.parametrize("teacher_forcing", [1.0, 0.0])
@pytest.mark.parametrize("context", ["initial", "both"])
def test_padding_changes_nothing(teacher_forcing, context):
    model, (source, target) = make(LSTM, context=context, bidirectional=True), draw()
    found = []
    for pair in ((source, target), poisoned(source, target)):
        nll = model.nll_nats(*pair, **lengths(), teacher_forcing=teacher_forcing)
        found.append([nll, *torch.autograd.grad(nll.sum(), list(model.parameters()))])
    for clean, dirty in zip(*found, strict=True):
        assert torch.isfinite(dirty).all()
        assert torch.equal(clean, dirty)
    real = torch.arange(T)[:, None] < TARGET_LENGTHS
    assert (found[0][0][~real] == 0).all()
    assert (found[0][0][real] > 0).all()


def test_a_padded_row_is_the_row_alone():
    model, (source, target) = make(LSTM, GRU, 2, bidirectional=True), draw()
    nll = model.nll_nats(source, target, **lengths())
    alone = model.nll_nats(source[:3, :1], target[:3, :1])
    close(nll[:3, :1], alone)
    close(nll[:, 1:2], model.nll_nats(source[:0, 1:2], target[:, 1:2]))
    written, _ = model.generate(source, T, source_lengths=SOURCE_LENGTHS)
    by_itself, _ = model.generate(source[:2, 2:], T)
    assert torch.equal(written[: len(by_itself), 2:], by_itself)


def test_a_mask_for_the_whole_sequence_is_drawn_once(monkeypatch):
    mask = tt.Extra("m", sample=tt.Bernoulli(0.5), eval=0.5, per="sequence")

    @tt.cell("h", extras=(mask,))
    def masked(x, h, m):
        return tt.tanh(tt.affine("a", x, m * h))

    model, (source, target) = make(masked, layers=2), draw()
    seen = []
    model.decoder.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs["extras"]), with_kwargs=True
    )
    model(source, target, teacher_forcing=0.0)
    assert len(seen) == T
    assert all(torch.equal(step["m"], seen[0]["m"]) for step in seen)
    assert set(seen[0]["m"].unique().tolist()) == {0.0, 1.0}
    seen.clear()
    model.generate(source, 3)
    assert seen[0]["m"].any()
    assert all(torch.equal(step["m"], seen[0]["m"]) for step in seen)
    model.eval()(source, target, teacher_forcing=0.0)
    assert seen[-1] is None
    uneven = make(masked, layers=2, hidden=[H, H + 1])
    with pytest.raises(ConfigError, match="one draw of m for all layers"):
        uneven(source, target, teacher_forcing=0.0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_of_other_widths(bidirectional):
    options = {"hidden": [H, H + 3], "layers": 2, "bidirectional": bidirectional}
    model, (source, target) = make(LSTM, **options), draw()
    assert (model.bridge is None) is not bidirectional
    assert isinstance(model.encoder(model.source_embedding(source))[1], list)
    nll = model.nll_nats(source, target, **lengths())
    told = lengths() | {"teacher_forcing": 1 - 1e-12}
    close(model.nll_nats(source, target, **told), nll)
    close(model(source, target, **told), model(source, target, **lengths()))


def test_delays_and_clocks_start_from_the_context_as_declared():
    model, (source, target) = make(LSTM, counting), draw()
    seen = []
    model.decoder.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
    model(source, target)
    h, count = seen[0]
    assert h.shape == count.shape == (3, 1, B, H)
    assert torch.equal(h[0], h[2])
    assert (h != 0).all()
    assert (count == 2.0).all()


def test_the_context_is_the_newest_of_the_states_without_clocks():
    model, (source, target) = make(counting, LSTM), draw()
    seen = []
    model.bridge.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model(source, target)
    output, _ = model.encoder(model.source_embedding(source))
    assert torch.equal(seen[0], output[-1])


def test_dropout_falls_on_embeddings_between_layers_and_on_the_output_in_training_alone(
    monkeypatch,
):
    model, (source, target) = make(layers=2, dropout=0.5), draw()
    seen = {}
    for name in ("encoder", "decoder"):
        getattr(model, name).register_forward_pre_hook(
            lambda m, args, name=name: seen.update({name: args[0]})
        )
    log_probs = model.head.log_probs
    monkeypatch.setattr(
        model.head, "log_probs", lambda f: seen.update(head=f) or log_probs(f), raising=False
    )
    model(source, target)
    for part in seen.values():
        assert 0.3 < (part == 0).double().mean() < 0.7
    kept = seen["encoder"] != 0
    close(seen["encoder"][kept], 2 * model.source_embedding(source)[kept])
    assert model.encoder.dropout == model.decoder.dropout == 0.5
    model.eval()(source, target)
    assert all((part != 0).all() for part in seen.values())


def test_it_learns_to_reverse():
    """Four symbols, read and written backwards: 5 ** 4 sequences, greedy writing on new ones."""
    model = make(GRU, hidden=48, dtype=torch.float32, embedding_size=16)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(0)

    def batch(rows):
        source = torch.randint(3, V, (4, rows), generator=generator)
        return source, torch.cat([source.flip(0), torch.full((1, rows), END)])

    for update in range(300):
        optimiser.zero_grad()
        truth = inverse_sigmoid_decay(update, 40)
        model.nll_nats(*batch(32), teacher_forcing=truth).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    source, target = batch(200)
    written, real = model.generate(source, 9)
    assert written.shape == target.shape
    right = (written == target).all(0)
    assert right.double().mean() > 0.9
    assert (real[right] == 5).all()


def test_it_survives_copies_and_its_state_dict(tmp_path):
    model, (source, target) = make(LSTM, GRU, 2, context="both"), draw()
    want = model(source, target)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(source, target), want)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = make(LSTM, GRU, 2, context="both")
    nn.init.zeros_(fresh.head.weight)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(fresh(source, target), want)


@tt.cell("h", extras=(tt.Extra("gap"),))
def with_gaps(x, h, gap):
    return tt.tanh(tt.affine("a", x, gap * h))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "start"}, "context='start'; expected one of initial, input, both"),
        ({"end": V}, f"end={V}; expected a target symbol, 0 to {V - 1}"),
        ({"decoder": with_gaps}, "with_gaps takes the extra 'gap' as data"),
        ({"embedding_size": 0}, "embedding_size must be greater than zero, got 0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": torch.zeros(S, B)}, DtypeError, "source is torch.float32; expected a tensor"),
        ({"target": [[1]]}, DtypeError, "target is list; expected a tensor"),
        ({"target": torch.zeros(T, dtype=torch.int64)}, ShapeError, r"target has shape \[8\]"),
        ({"target": torch.full((T, B), V)}, ConfigError, f"target holds the symbol {V}; expected"),
        ({"source": torch.full((S, B), -1)}, ConfigError, "source holds the symbol -1; expected"),
        (
            {"target": torch.zeros(T, B + 1, dtype=torch.int64)},
            ShapeError,
            f"target has {B + 1} rows and source {B}",
        ),
        ({"source_lengths": [1]}, ShapeError, r"source_lengths has shape \[1\]"),
        ({"target_lengths": [T + 1, 0, 0]}, ShapeError, f"target_lengths holds {T + 1}"),
        ({"teacher_forcing": 1.5}, ConfigError, "teacher_forcing=1.5; expected"),
        ({"temperature": -1.0}, ConfigError, "temperature=-1.0; expected"),
    ],
)
def test_calls_that_do_not_fit(change, error, message):
    source, target = draw()
    with pytest.raises(error, match=message):
        make()(**{"source": source, "target": target} | change)
