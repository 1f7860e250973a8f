"""Does what an encoder-decoder writes on its own end, and follow its odds?"""

import torch
from translators import END, B, T, V, draw, make


def biased(symbol, **options):
    """A model that writes one symbol, whatever it reads."""
    model = make(**options)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(-50.0)[symbol] = 0.0
    return model


def test_generation_stops_at_the_end_of_every_row():
    source, _ = draw()
    written, real = biased(END).generate(source, T)
    assert torch.equal(written, torch.full((1, B), END))
    assert torch.equal(real, torch.ones(B, dtype=torch.int64))
    written, real = biased(4).generate(source, T)
    assert torch.equal(written, torch.full((T, B), 4))
    assert torch.equal(real, torch.full((B,), T))
    assert biased(4).generate(source, 0)[0].shape == (0, B)


def test_rows_that_ended_write_nothing_more():
    model, (source, _) = make(), draw()
    torch.manual_seed(0)
    written, real = model.generate(source, 40, temperature=2.0)
    past = torch.arange(len(written))[:, None] >= real
    assert past.any()
    assert (written[past] == END).all()
    assert len(written) == real.max()
    before = torch.arange(len(written))[:, None] < real - 1
    assert (written[before] != END).all()


def test_temperature_draws_as_the_model_predicts():
    model, rows = make(dtype=torch.float32), 4000
    source = draw()[0][:, :1].expand(-1, rows)
    predicted = model(source[:, :1], torch.tensor([[0]])).exp()[0, 0]
    for temperature in (1.0, 0.5):
        written, _ = model.generate(source, 1, temperature=temperature)
        share = torch.bincount(written[0], minlength=V) / rows
        law = predicted ** (1 / temperature)
        assert (share - law / law.sum()).abs().max() < 0.04, "five standard deviations"
    cold, _ = model.generate(source, 1, temperature=1e-30)
    assert (cold == predicted.argmax()).all()
