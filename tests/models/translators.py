"""Small encoder-decoders, and what they are asked."""

import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.models import EncoderDecoder
from tolerances import TOLERANCE, error_to_largest

GRU, LSTM, RNN = CATALOGUE["gru"], CATALOGUE["lstm"], CATALOGUE["rnn"]
V_SOURCE, V, E, H, S, T, B, END = 9, 7, 5, 6, 4, 8, 3, 2
SOURCE_LENGTHS, TARGET_LENGTHS = torch.tensor([3, 0, 2]), torch.tensor([3, 8, 0])
BOUND = TOLERANCE["loop", torch.float64].bound


@tt.cell(("h", tt.State("count", initial=2.0, clock=True)), params=(tt.Param("a", init=0.3),))
def counting(x, h, count, a):
    """A cell that looks three steps back, and one state of which only counts."""
    late = tt.where(count + 1.0 > 3.0, 1.0, 0.5)
    return tt.tanh(late * tt.affine("a_h", x, h) + a * tt.ago(h, 3)), count + 1.0


CELLS = CATALOGUE | {"counting": counting}


def make(encoder=GRU, decoder=None, layers=1, *, hidden=H, dtype=torch.float64, **options):
    torch.manual_seed(3)
    if encoder is CATALOGUE["lstm_projection"]:
        options["proj_size"] = 3
    model = EncoderDecoder(
        encoder,
        decoder or encoder,
        V_SOURCE,
        V,
        hidden,
        layers,
        **{"embedding_size": E, "end": END} | options,
    )
    return model.to(dtype)


def draw(steps=T):
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(V_SOURCE, (S, B), generator=generator)
    return source, torch.randint(V, (steps, B), generator=generator)


def lengths():
    return {"source_lengths": SOURCE_LENGTHS, "target_lengths": TARGET_LENGTHS}


def close(got, want, bound=BOUND):
    assert error_to_largest(got, want) <= bound
