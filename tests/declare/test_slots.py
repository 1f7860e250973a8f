"""Which tensors does a layer of a cell have? Names, shapes and the order of their rows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from random_cells import random_cell
from throughtime import declare as tt
from throughtime.cells import CATALOGUE
from throughtime.declare import affine, ago, tanh
from throughtime.declare.graph import terms
from throughtime.declare.slots import Sizes, slots

I, H, P = 5, 4, 3
SIZES = Sizes(input=I, hidden=H, projection=P)


def table(cell, biases="one"):
    """Every parameter tensor with its shape, in order."""
    return {s.name: s.shape(SIZES) for s in slots(cell, biases)}


def rows(cell, name, biases="one"):
    """The gates whose rows stand in a tensor."""
    return " ".join(p.gate for s in slots(cell, biases) if s.name == name for p in s.pieces)


VANILLA = {"weight_ih": (H, I), "weight_hh": (H, H)}
GATED = {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H)}
TABLES = {
    "rnn": VANILLA | {"bias": (H,)},
    "rnn_relu": VANILLA | {"bias": (H,)},
    "rnn_sigmoid": VANILLA | {"bias": (H,)},
    "rnn_notes": VANILLA,
    "rnn_notes_relu": VANILLA,
    "rnn_notes_sigmoid": VANILLA,
    "lstm": GATED | {"bias": (4 * H,)},
    "lstm_notes": GATED | {"bias": (3 * H,)},
    "lstm_sigmoid": GATED | {"bias": (4 * H,)},
    "lstm_peephole": GATED | {"bias": (4 * H,)},
    "lstm_coupled": {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H), "bias": (3 * H,)},
    "lstm_projection": {
        "weight_ih": (4 * H, I),
        "weight_hh": (4 * H, P),
        "bias": (4 * H,),
        "weight_hr": (P, H),
    },
    "gru": {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H), "bias": (4 * H,)},
    "gru_reset_before": {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H), "bias": (3 * H,)},
    "gru_notes": {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H), "bias": (2 * H,)},
    "mgu": {"weight_ih": (2 * H, I), "weight_hh": (2 * H, H), "bias": (2 * H,)},
    "indrnn": {"weight_ih": (H, I), "bias": (H,)},
    "mingru": {"weight_ih": (2 * H, I), "bias": (2 * H,)},
    "minlstm": {"weight_ih": (3 * H, I), "bias": (3 * H,)},
    "lru": {
        "weight_ih": (2 * H, I),
        "weight_y": (H, H),
        "weight_y_2": (H, H),
        "weight_y_3": (H, I),
    },
    "rnn_deep_input": VANILLA | {"bias": (2 * H,), "weight_a": (H, H)},
    "rnn_deep_transition": VANILLA | {"bias": (2 * H,), "weight_a2": (H, H)},
    "rnn_deep_transition_shortcut": {"weight_ih": (H, I), "weight_hh": (2 * H, H)}
    | {"bias": (2 * H,), "weight_a2": (H, H)},
    "rnn_deep_output": VANILLA | {"bias": (2 * H,), "weight_o": (H, H)},
    "rhn": {"weight_ih": (2 * H, I), "weight_hh": (2 * H, H), "bias": (4 * H,)}
    | {"weight_t2": (H, H), "weight_a2": (H, H)},
    "lstm_layer_norm": GATED,
    "gru_layer_norm": {"weight_ih": (3 * H, I), "weight_hh": (3 * H, H)},
}


def test_every_cell_has_a_table():
    assert set(TABLES) == set(CATALOGUE)


@pytest.mark.parametrize("name", TABLES)
def test_names_shapes_and_order(name):
    assert list(table(CATALOGUE[name]).items()) == list(TABLES[name].items())


TORCHS = {
    "rnn": nn.RNN(I, H),
    "rnn_relu": nn.RNN(I, H, nonlinearity="relu"),
    "lstm": nn.LSTM(I, H),
    "lstm_projection": nn.LSTM(I, H, proj_size=P),
    "gru": nn.GRU(I, H),
}


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("bias", [True, False])
def test_torchs_names_shapes_and_order(name, bias):
    layer = TORCHS[name]
    wanted = {k.removesuffix("_l0"): tuple(v.shape) for k, v in layer.named_parameters()}
    wanted = {k: v for k, v in wanted.items() if bias or "bias" not in k}
    found = table(CATALOGUE[name], "two" if bias else "none")
    assert list(found.items()) == list(wanted.items())


@pytest.mark.parametrize(
    ("name", "tensor", "order"),
    [
        ("lstm", "weight_ih", "i f g o"),
        ("lstm", "weight_hh", "i f g o"),
        ("lstm", "bias_hh", "i f g o"),
        ("gru", "weight_ih", "r z n_x"),
        ("gru", "weight_hh", "r z n_h"),
        ("gru", "bias_ih", "r z n_x"),
        ("gru", "bias_hh", "r z n_h"),
        ("gru_reset_before", "weight_hh", "r z n"),
        ("lstm_layer_norm", "weight_ih", "i_x f_x g_x o_x"),
        ("lstm_layer_norm", "weight_hh", "i_h f_h g_h o_h"),
        ("gru_layer_norm", "weight_ih", "r_x z_x n_x"),
        ("gru_layer_norm", "weight_hh", "r_h z_h n_h"),
    ],
)
def test_rows_stand_in_torchs_order(name, tensor, order):
    assert rows(CATALOGUE[name], tensor, "two") == order


def test_the_one_bias_holds_every_gate_that_has_one():
    assert rows(CATALOGUE["gru"], "bias") == "r z n_x n_h"
    assert rows(CATALOGUE["lstm_notes"], "bias") == "i f o"
    assert rows(CATALOGUE["lstm_projection"], "bias") == "i f g o"


def test_delays_keep_the_plain_name_for_the_shortest():
    cell = tt.cell("h")(lambda x, h: affine("a", x, h) + affine("b", ago(h, 3), ago(h, 5)))
    assert table(cell) == {
        "weight_ih": (H, I),
        "weight_hh": (H, H),
        "weight_hh_d3": (H, H),
        "weight_hh_2": (H, H),
        "bias": (2 * H,),
    }
    dilated = tt.cell("h")(lambda x, h: affine("a", x, ago(h, 4)))
    assert table(dilated) == table(CATALOGUE["rnn"])


def test_several_reads_are_counted():
    def step(x, h, c):
        a = affine("a", x, h, tanh(c))
        return a + affine("b", tanh(a), a, bias=False), affine("d", c)

    assert table(tt.cell("h c")(step)) == {
        "weight_ih": (H, I),
        "weight_hh": (2 * H, H),
        "weight_hh_2": (H, H),
        "bias": (2 * H,),
        "weight_b": (H, H),
        "weight_b_2": (H, H),
    }


def test_reads_of_unequal_width_are_told_apart():
    states = ("h", tt.State("q", width="projection"))
    cell = tt.cell(states)(
        lambda x, h, q: (affine("a", x, h) + affine("b", q), affine("c", h, width="projection"))
    )
    assert table(cell) == {
        "weight_ih": (H, I),
        "weight_hh_hidden": (H + P, H),
        "weight_hh_projection": (H, P),
        "bias": (2 * H + P,),
    }


def test_gates_of_different_widths_are_stacked():
    cell = tt.cell("h")(lambda x, h: affine("a", x, h) * affine("g", x, h, width=1))
    assert table(cell) == {"weight_ih": (H + 1, I), "weight_hh": (H + 1, H), "bias": (H + 1,)}


def test_without_biases_there_is_none():
    assert "bias" not in table(CATALOGUE["lstm"], "none")


def test_an_unknown_kind_of_biases_is_no_silent_none():
    with pytest.raises(KeyError, match="three"):
        slots(CATALOGUE["lstm"], "three")


@given(st.integers(0, 10_000))
def test_every_matrix_and_bias_has_its_rows_in_one_tensor(seed):
    cell = random_cell(seed)
    found = slots(cell)
    names = [s.name for s in found] + [p.name for p in cell.params]
    assert len(set(names)) == len(names)
    pieces = [(p.gate, p.place, p.width, s.columns) for s in found for p in s.pieces]
    wanted = [
        (gate, place, n.width, read.width)
        for gate, n in cell.affines.items()
        for place, read in enumerate(n.args)
    ]
    wanted += [(gate, None, n.width, None) for gate, n in cell.affines.items() if n.data[1]]
    assert sorted(pieces, key=str) == sorted(wanted, key=str)
    sizes = Sizes(input=7, hidden=6, projection=2)
    size = sum(math.prod(s.shape(sizes)) for s in found)
    assert size == sum(sizes.of(w) * (sizes.of(c) if c else 1) for _, _, w, c in wanted)


@given(st.integers(0, 10_000))
def test_rows_of_a_tensor_stand_in_declared_order(seed):
    cell = random_cell(seed)
    order = {gate: i for i, gate in enumerate(cell.gates)}
    for slot in slots(cell):
        places = [order[p.gate] for p in slot.pieces]
        assert places == sorted(places)


@given(st.integers(0, 10_000))
def test_a_tensor_holds_one_kind_of_matrix(seed):
    cell = random_cell(seed)
    for slot in slots(cell):
        matrices = [(p.gate, p.place) for p in slot.pieces if p.place is not None]
        found = {terms(cell.affines[gate])[place] for gate, place in matrices}
        assert len(found) <= 1
