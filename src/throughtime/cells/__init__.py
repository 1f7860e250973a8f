"""Which published cells and cures are there? `CATALOGUE` has cells by name. No torch here.

`FACTORIES` holds the functions that make a cell of as many layers as asked for, which all have a
default; under a name that stands in both, the catalogue has the cell of the default.
"""

from collections.abc import Callable

from throughtime.cells.deep import (
    rhn,
    rnn_deep_input,
    rnn_deep_output,
    rnn_deep_transition,
    rnn_deep_transition_shortcut,
)
from throughtime.cells.delays import dilate, remove, skip
from throughtime.cells.diagonal import indrnn, lru
from throughtime.cells.feedback import gf_gru, gf_lstm, gf_rnn
from throughtime.cells.grus import gru, gru_notes, gru_reset_before
from throughtime.cells.lstms import (
    lstm,
    lstm_coupled,
    lstm_notes,
    lstm_peephole,
    lstm_projection,
    lstm_sigmoid,
)
from throughtime.cells.masks import clip_adjoint, recurrent_dropout
from throughtime.cells.minimal import mgu, mingru, minlstm
from throughtime.cells.mixtures import NOTES_RATE, clockwork, leaky, zoneout
from throughtime.cells.normalised import gru_layer_norm, lstm_layer_norm
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
        rnn_deep_input,
        rnn_deep_transition(),
        rnn_deep_transition_shortcut(),
        rnn_deep_output,
        rhn(),
        lstm_layer_norm,
        gru_layer_norm,
    )
}

FACTORIES: dict[str, Callable[..., Cell]] = {
    "gf_rnn": gf_rnn,
    "gf_lstm": gf_lstm,
    "gf_gru": gf_gru,
    "rnn_deep_transition": rnn_deep_transition,
    "rnn_deep_transition_shortcut": rnn_deep_transition_shortcut,
    "rhn": rhn,
}

__all__ = [
    "CATALOGUE",
    "FACTORIES",
    "NOTES_RATE",
    "Cell",
    "clip_adjoint",
    "clockwork",
    "dilate",
    "gf_gru",
    "gf_lstm",
    "gf_rnn",
    "gru",
    "gru_layer_norm",
    "gru_notes",
    "gru_reset_before",
    "indrnn",
    "leaky",
    "lru",
    "lstm",
    "lstm_coupled",
    "lstm_layer_norm",
    "lstm_notes",
    "lstm_peephole",
    "lstm_projection",
    "lstm_sigmoid",
    "mgu",
    "mingru",
    "minlstm",
    "recurrent_dropout",
    "remove",
    "rhn",
    "rnn",
    "rnn_deep_input",
    "rnn_deep_output",
    "rnn_deep_transition",
    "rnn_deep_transition_shortcut",
    "rnn_notes",
    "rnn_notes_relu",
    "rnn_notes_sigmoid",
    "rnn_relu",
    "rnn_sigmoid",
    "skip",
    "zoneout",
]
