"""Are the gates that keep and write a state found, whatever they are called?"""

import pytest

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.declare.roles import Roles, roles

F, I = ("f", 1), ("i", 1)
LSTM = Roles(keep=(F,), write=(I,))
NOTHING = Roles()

KEPT = {
    "rnn": {"h": NOTHING},
    "indrnn": {"h": NOTHING},
    "rnn_notes_sigmoid": {"h": NOTHING},
    "lstm": {"h": NOTHING, "c": LSTM},
    "lstm_notes": {"h": NOTHING, "c": LSTM},
    "lstm_sigmoid": {"h": NOTHING, "c": LSTM},  # its candidate is a sigmoid, too
    "lstm_peephole": {"h": NOTHING, "c": LSTM},
    "lstm_projection": {"h": NOTHING, "c": LSTM},
    "lstm_coupled": {"h": NOTHING, "c": Roles((F,), (("f", -1),))},
    "lstm_layer_norm": {"h": NOTHING, "c": Roles((("shift_f", 1),), (("shift_i", 1),))},
    "gru": {"h": Roles((("z", 1),), (("z", -1),))},
    "gru_reset_before": {"h": Roles((("z", 1),), (("z", -1),))},
    "gru_notes": {"h": Roles((("z", -1),), (("z", 1),))},
    "mgu": {"h": Roles((("f", -1),), (F,))},
    "mingru": {"h": Roles((("z", -1),), (("z", 1),))},
    "minlstm": {"h": LSTM},
}


@pytest.mark.parametrize("name", KEPT)
def test_published_cells(name):
    assert roles(CATALOGUE[name]) == KEPT[name]


def test_a_stack_in_one_cell_has_roles_for_each_of_its_states():
    found = roles(tt.cells.gf_lstm(layers=2))
    assert found["c1"] == Roles((("f1", 1),), (("i1", 1),))
    assert found["c2"] == Roles((("f2", 1),), (("i2", 1),))
    assert found["h1"] == found["h2"] == NOTHING


def test_what_a_highway_wrote_before_is_kept_by_the_gates_behind_it():
    found = roles(tt.cells.rhn(2))
    assert set(found["h"].keep) == {("t1", -1), ("t2", -1)}
    assert set(found["h"].write) == {("t1", 1), ("t2", 1)}


CURES = {
    "leaky": lambda cell: tt.leaky(cell, rate=0.1),
    "leaky, learned": lambda cell: tt.leaky(cell, retain="learned"),
    "skip": lambda cell: tt.skip(cell, [1, 3]),
    "remove": lambda cell: tt.remove(cell, [2]),
    "zoneout": lambda cell: tt.zoneout(cell, 0.2),
    "recurrent dropout": lambda cell: tt.recurrent_dropout(cell, 0.2),
    "dilate": lambda cell: tt.dilate(cell, 2),
    "clockwork": lambda cell: tt.clockwork(cell, [1, 2]),
    "leaky zoneout": lambda cell: tt.leaky(tt.zoneout(cell, 0.2), rate=0.1),
}


@pytest.mark.parametrize("cure", CURES)
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_notes", "lstm_coupled", "minlstm"])
def test_cures_are_looked_through(cure, name):
    if name == "minlstm" and cure in {"skip", "recurrent dropout"}:
        pytest.skip("minlstm has no recurrent matrix")
    assert roles(CURES[cure](CATALOGUE[name])) == KEPT[name]


def states_of(step, states="h"):
    return roles(tt.cell(states)(step))


def test_other_spellings():
    def step(x, h):
        a, b = tt.affine("a b", x, h)
        return h * (-tt.sigmoid(-a) + 1.0) + tt.tanh(b)

    assert states_of(step)["h"].keep == (("a", 1),)


def test_a_difference_of_products_is_a_sum():
    def step(x, h):
        a, b, c = tt.affine("a b c", x, h)
        return tt.now(tt.sigmoid(a) * h) - tt.sigmoid(b) * tt.tanh(c)

    assert states_of(step) == {"h": Roles((("a", 1),), (("b", 1),))}


def test_a_gate_in_two_affines_is_called_by_the_one_with_a_bias():
    def step(x, h):
        z = tt.sigmoid(tt.affine("z_x", x, bias=False) - tt.affine("z_h", h))
        return z * h + (1.0 - z) * tt.tanh(tt.affine("n", x, h))

    assert states_of(step) == {"h": Roles((("z_h", -1),), (("z_h", 1),))}


def test_a_gate_with_both_signs_keeps_nothing():
    def step(x, h):
        z = tt.sigmoid(tt.affine("z", x, h))
        return (1.0 - z) * h + z * (h + tt.tanh(tt.affine("n", x, h)))

    assert states_of(step) == {"h": NOTHING}


def test_another_states_past_is_not_kept_and_clocks_have_no_roles():
    def step(x, h, c, k):
        a, b = tt.affine("a b", x, h)
        return tt.sigmoid(a) * c, tt.sigmoid(b) * c + tt.tanh(tt.affine("n", x)), k + 1.0

    found = states_of(step, ("h", "c", tt.State("k", clock=True)))
    assert found == {"h": NOTHING, "c": Roles((("b", 1),), ())}


def test_a_large_product_of_sums_is_left_as_it_is():
    def step(x, h):
        z = tt.sigmoid(tt.affine("z", x, h))
        many = z
        for _ in range(40):
            many = many * (h + tt.tanh(many))
        return z * h + many

    assert states_of(step)["h"].keep == (("z", 1),)


def test_a_gate_that_keeps_old_and_new_alike_does_not_write():
    def step(x, c):
        f, i, g = tt.affine("f i g", x, c)
        return tt.sigmoid(f) * (c + tt.sigmoid(i) * tt.tanh(g))

    assert states_of(step, "c") == {"c": LSTM}
