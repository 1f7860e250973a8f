"""Is the state of a stack the vector, and the vector the state?"""

import pytest
import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.models.state_vector import StateVector

I, H, T, B = 3, 5, 4, 2


@tt.cell("h")
def delayed(x, h):
    return tt.tanh(tt.affine("a", x, h, tt.ago(h, 3)))


CELLS = CATALOGUE | {"delayed": delayed}


def make(cell, **options):
    if cell is CATALOGUE["lstm_projection"]:
        options["proj_size"] = 3
    return tt.Recurrent(cell, I, **{"hidden_size": H, "num_layers": 2} | options).double()


@pytest.mark.parametrize("widths", [H, [H, H + 2]], ids=["equal", "unequal"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_there_and_back(cell, bidirectional, widths):
    layer = make(cell, hidden_size=widths, bidirectional=bidirectional)
    vector, x = StateVector(layer), torch.randn(T, B, I, dtype=torch.float64)
    _, hx = layer(x)
    flat = vector.flatten(hx, B, x)
    assert flat.shape == (B, vector.width)
    back = vector.unflatten(flat)
    layer(x, back)
    assert torch.equal(vector.flatten(back, B, x), flat)
    if cell.depth == 1:
        torch.testing.assert_close(back, hx, rtol=0, atol=0)


def test_a_state_fits_where_cell_widths_and_directions_agree():
    lstm = CATALOGUE["lstm"]
    one = StateVector(make(lstm))
    assert one.fits(StateVector(make(lstm)))
    for other in (
        make(CATALOGUE["lstm_peephole"]),
        make(lstm, hidden_size=H + 1),
        make(lstm, num_layers=3),
        make(lstm, bidirectional=True),
    ):
        assert not one.fits(StateVector(other))
