"""Is the language model the equations it states?"""

import pytest
import torch
from torch import nn

from throughtime.cells import CATALOGUE
from throughtime.errors import ConfigError
from throughtime.models import LanguageModel

LSTM = CATALOGUE["lstm"]
V, E, H, W, B = 11, 5, 17, 6, 3


def make(cell=LSTM, layers=1, *, dtype=torch.float64, embedding_size=E, **options):
    torch.manual_seed(3)
    return LanguageModel(cell, V, H, layers, embedding_size=embedding_size, **options).to(dtype)


def draw(steps=W):
    generator = torch.Generator().manual_seed(1)
    return (torch.randint(V, (steps, B), generator=generator) for _ in range(2))


def plain(model, tokens, targets, layers=1):
    """The same from torch's own modules alone."""
    stack = nn.LSTM(E, H, layers, dtype=torch.float64)
    ours = dict(model.recurrent.named_parameters())
    with torch.no_grad():
        for name, theirs in stack.named_parameters():
            kind, _, layer = name.rpartition("_")
            if kind == "bias_hh":
                theirs.zero_()
            else:
                theirs.copy_(ours[f"bias_{layer}" if kind == "bias_ih" else name])
    hidden, _ = stack(model.embedding.weight[tokens])
    logits = hidden @ model.head.weight.T + model.head.bias
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


@pytest.mark.parametrize("layers", [1, 2])
def test_it_is_an_embedding_a_stack_and_a_softmax(layers):
    model, (tokens, targets) = make(layers=layers), draw()
    nll, _ = model.nll_nats(tokens, targets)
    torch.testing.assert_close(nll.flatten(), plain(model, tokens, targets, layers))


@pytest.mark.parametrize("cutoffs", [(), (4, 8)])
def test_the_log_probabilities_sum_to_one_and_hold_the_loss(cutoffs):
    model, (tokens, targets) = make(cutoffs=cutoffs), draw()
    log_probs, hx = model(tokens)
    nll, hx_too = model.nll_nats(tokens, targets)
    assert log_probs.shape == (W, B, V)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(W, B, dtype=torch.float64))
    torch.testing.assert_close(-log_probs.gather(-1, targets[..., None])[..., 0], nll)
    torch.testing.assert_close(hx, hx_too)


@pytest.mark.parametrize("cell", CATALOGUE.values(), ids=CATALOGUE)
def test_a_text_read_in_two_windows_is_the_text(cell):
    options = {"proj_size": 3} if cell.name == "lstm_projection" else {}
    model, (tokens, targets) = make(cell, 2, **options), draw()
    whole, _ = model.nll_nats(tokens, targets)
    first, hx = model.nll_nats(tokens[:4], targets[:4])
    second, _ = model.nll_nats(tokens[4:], targets[4:], hx)
    torch.testing.assert_close(torch.cat([first, second]), whole)


@pytest.mark.parametrize("cell", CATALOGUE.values(), ids=CATALOGUE)
def test_every_weight_of_every_cell_learns(cell):
    options = {"proj_size": 3} if cell.name == "lstm_projection" else {}
    model, (tokens, targets) = make(cell, 2, **options), draw()
    model.nll_nats(tokens, targets)[0].mean().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_a_reset_forgets_all_before_it():
    model, (tokens, targets) = make(), draw()
    reset = torch.zeros(W, B, dtype=torch.bool)
    reset[2, 1] = True
    nll, _ = model.nll_nats(tokens, targets, reset=reset)
    plain_nll, _ = model.nll_nats(tokens, targets)
    anew, _ = model.nll_nats(tokens[2:, 1:2], targets[2:, 1:2])
    torch.testing.assert_close(nll[2:, 1:2], anew)
    others = [0, 2]
    torch.testing.assert_close(nll[:, others], plain_nll[:, others])
    assert (nll[2:, 1] - plain_nll[2:, 1]).abs().min() > 1e-6


def test_tied_weights_are_one_matrix_with_both_gradients():
    tied, apart = make(embedding_size=H, tied=True), make(embedding_size=H)
    with torch.no_grad():
        for name, parameter in apart.named_parameters():
            parameter.copy_(tied.state_dict()[name])
    tokens, targets = draw()
    for model in (tied, apart):
        model.nll_nats(tokens, targets)[0].sum().backward()
    assert tied.head.weight is tied.embedding.weight
    assert len(list(tied.parameters())) == len(list(apart.parameters())) - 1
    both = apart.embedding.weight.grad + apart.head.weight.grad
    torch.testing.assert_close(tied.embedding.weight.grad, both)


def embedded(**options):
    torch.manual_seed(0)
    return LanguageModel(LSTM, 500, 64, embedding_size=64, **options).embedding.weight


def test_vectors_start_with_the_variance_that_layers_are_scaled_for():
    assert embedded().var().item() == pytest.approx(1.0, rel=0.05)
    assert embedded(tied=True).var().item() == pytest.approx(1 / 64**0.5, rel=0.05)


@pytest.mark.parametrize("tied", [False, True])
def test_vectors_start_in_the_range_that_is_named(tied):
    drawn = embedded(embedding_range=0.25, tied=tied)
    assert drawn.abs().max().item() == pytest.approx(0.25, rel=0.01)
    assert drawn.var().item() == pytest.approx(0.25**2 / 3, rel=0.05)


def test_what_cannot_be_tied_is_refused():
    with pytest.raises(ConfigError, match=f"embedding has size {E} and the last layer {H}"):
        make(tied=True)
    with pytest.raises(ConfigError, match="tied"):
        make(embedding_size=H, tied=True, cutoffs=(4,))


def test_cutoffs_beyond_the_vocabulary_are_refused():
    with pytest.raises(ConfigError, match=f"cut-off {V}, but the vocabulary has {V}"):
        make(cutoffs=(4, V))


def test_more_cutoffs_than_the_features_allow_are_refused():
    with pytest.raises(ConfigError, match=f"3 cut-offs, but the last layer has {H} features"):
        make(cutoffs=(2, 4, 8))


def test_dropout_falls_on_the_embedding_and_on_the_output_in_training_alone():
    model, (tokens, targets) = make(dropout=0.5), draw()
    seen = {}
    model.recurrent.register_forward_hook(lambda m, args, out: seen.update(x=args[0]))
    model.head.register_forward_hook(lambda m, args, out: seen.update(features=args[0]))
    model.nll_nats(tokens, targets)
    embedded = model.embedding(tokens)
    kept = seen["x"] != 0
    torch.testing.assert_close(seen["x"][kept], 2 * embedded[kept])
    assert 0.2 < kept.double().mean() < 0.8
    assert 0.2 < (seen["features"] != 0).double().mean() < 0.8
    model.eval()
    model.nll_nats(tokens, targets)
    assert torch.equal(seen["x"], embedded)
    assert (seen["features"] != 0).all()


def test_dropout_falls_between_layers():
    model = make(layers=2, dropout=0.25)
    assert model.recurrent.dropout == 0.25


def test_projected_features_reach_the_head():
    model = make(CATALOGUE["lstm_projection"], proj_size=3)
    assert model.head.weight.shape == (V, 3)
