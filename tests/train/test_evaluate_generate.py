"""Is every symbol scored once, and drawn as the model predicts?"""

import math

import numpy as np
import pytest
import torch

from throughtime.cells import CATALOGUE
from throughtime.errors import ConfigError
from throughtime.models import LanguageModel
from throughtime.tasks import build_vocabulary
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.generate import generate

TEXT = "to be, or not to be: that is the question\n" * 3
VOCABULARY = build_vocabulary(TEXT, "char")
ONE_START = np.zeros(1, np.int64)


def make(dropout=0.0):
    torch.manual_seed(5)
    model = LanguageModel(
        CATALOGUE["lstm"], VOCABULARY.size, 8, 2, embedding_size=6, dropout=dropout
    )
    return model.double()


# --- Scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("window_steps", [1, 7, 42, 1000])
def test_every_symbol_but_the_first_is_scored_with_the_state_carried(window_steps):
    model, ids = make().eval(), VOCABULARY.encode(TEXT)
    tokens = torch.from_numpy(ids).long()[:, None]
    whole, _ = model.nll_nats(tokens[:-1], tokens[1:])
    assert whole.numel() == len(TEXT) - 1
    found = mean_nll_nats(model, ids, ONE_START, window_steps=window_steps)
    assert found == pytest.approx(whole.mean().item(), rel=1e-12)


def test_documents_are_scored_as_if_alone():
    """But for the first symbol of each, which is predicted from the end of the one before."""
    model, ids = make().eval(), VOCABULARY.encode(TEXT)
    cut = 50
    tokens = torch.from_numpy(ids).long()[:, None]
    first, _ = model.nll_nats(tokens[:cut], tokens[1 : cut + 1])
    second, _ = model.nll_nats(tokens[cut:-1], tokens[cut + 1 :])
    wanted = torch.cat([first, second]).mean().item()
    found = mean_nll_nats(model, ids, np.array([0, cut]), window_steps=16)
    assert found == pytest.approx(wanted, rel=1e-12)
    assert found != pytest.approx(mean_nll_nats(model, ids, ONE_START), rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_and_writing_use_no_dropout_and_leave_the_mode_and_the_generator(training):
    model, ids = make(dropout=0.5).train(training), VOCABULARY.encode(TEXT)
    generator = torch.get_rng_state()
    first = mean_nll_nats(model, ids, ONE_START)
    assert mean_nll_nats(model, ids, ONE_START) == first
    generate(model, VOCABULARY, "to", 5)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_text_of_one_symbol_has_no_score():
    assert math.isnan(mean_nll_nats(make(), VOCABULARY.encode("t"), ONE_START))


# --- Writing ------------------------------------------------------------------------------------


def test_writing_repeats_with_the_seed_and_differs_without():
    model = make()
    texts = [generate(model, VOCABULARY, "to be", 40, seed=s) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 40


def test_temperature_zero_takes_the_most_probable_symbol():
    model, written = make().eval(), "to be"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)  # so that what is carried decides
    for _ in range(10):
        ids = torch.from_numpy(VOCABULARY.encode(written)).long()[:, None]
        written += VOCABULARY.decode([int(model(ids)[0][-1, 0].argmax())])
    assert generate(model, VOCABULARY, "to be", 10, temperature=0.0, seed=3) == written[5:]
    assert generate(model, VOCABULARY, "to be", 10, temperature=1e-9, seed=4) == written[5:]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_come_as_often_as_the_model_predicts(temperature):
    model, draws = make().eval(), 500
    with torch.no_grad():
        model.head.bias.copy_(torch.linspace(-1, 1, VOCABULARY.size))
        ids = torch.from_numpy(VOCABULARY.encode("to")).long()[:, None]
        p = (model(ids)[0][-1, 0] / temperature).softmax(0).numpy()
    drawn = [
        generate(model, VOCABULARY, "to", 1, seed=s, temperature=temperature) for s in range(draws)
    ]
    counts = np.bincount([VOCABULARY.encode(c)[0] for c in drawn], minlength=VOCABULARY.size)
    deviation = np.abs(counts / draws - p) / np.sqrt(p * (1 - p) / draws)
    assert deviation.max() < 4.5  # chance of a false alarm: 20 symbols x 7e-6, three temperatures


def test_an_empty_prompt_is_a_new_line():
    model = make()
    assert generate(model, VOCABULARY, "", 9) == generate(model, VOCABULARY, "\n", 9)
    assert generate(model, VOCABULARY, "t", 0) == ""


@pytest.mark.parametrize(
    ("length", "temperature"), [(-1, 1.0), (1, -0.1), (1, math.nan), (1, math.inf)]
)
def test_negative_lengths_and_temperatures_are_refused(length, temperature):
    with pytest.raises(ConfigError, match=f"length is {length} and temperature {temperature}"):
        generate(make(), VOCABULARY, "to", length, temperature=temperature)
