"""Which published cells are there? `CATALOGUE` by name, and each cell by itself. No torch here."""

from throughtime.cells.diagonal import indrnn, lru
from throughtime.cells.grus import gru, gru_notes, gru_reset_before
from throughtime.cells.lstms import (
    lstm,
    lstm_coupled,
    lstm_notes,
    lstm_peephole,
    lstm_projection,
    lstm_sigmoid,
)
from throughtime.cells.minimal import mgu, mingru, minlstm
from throughtime.cells.vanilla import (
    rnn,
    rnn_notes,
    rnn_notes_relu,
    rnn_notes_sigmoid,
    rnn_relu,
    rnn_sigmoid,
)
from throughtime.declare import Cell

CATALOGUE: dict[str, Cell] = {
    found.name: found
    for found in (
        rnn,
        rnn_relu,
        rnn_sigmoid,
        rnn_notes,
        rnn_notes_relu,
        rnn_notes_sigmoid,
        lstm,
        lstm_notes,
        lstm_sigmoid,
        lstm_peephole,
        lstm_coupled,
        lstm_projection,
        gru,
        gru_reset_before,
        gru_notes,
        mgu,
        indrnn,
        mingru,
        minlstm,
        lru,
    )
}

__all__ = [
    "CATALOGUE",
    "Cell",
    "gru",
    "gru_notes",
    "gru_reset_before",
    "indrnn",
    "lru",
    "lstm",
    "lstm_coupled",
    "lstm_notes",
    "lstm_peephole",
    "lstm_projection",
    "lstm_sigmoid",
    "mgu",
    "mingru",
    "minlstm",
    "rnn",
    "rnn_notes",
    "rnn_notes_relu",
    "rnn_notes_sigmoid",
    "rnn_relu",
    "rnn_sigmoid",
]
