"""Which cures are the cell itself, which commute, and what do they refuse?"""

import copy
import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

import throughtime as tt
from cells.cures import CURES, NEED_A_MATRIX, has_recurrent_matrix
from graph_loop import draw_given, forward
from random_cells import random_cell
from throughtime import cells
from throughtime.cells import CATALOGUE
from throughtime.cells.notation import parse, parse_cell
from throughtime.declare import restore
from throughtime.declare.graph import walk
from throughtime.declare.slots import Sizes, slots
from throughtime.declare.surgery import probed
from throughtime.errors import DeclarationError
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["loop", torch.float64].bound
SIZES = Sizes(input=5, hidden=4, projection=3)
SHOWN = [cells.rnn, cells.lstm, cells.gru, cells.gru_reset_before, cells.lstm_projection]
named = pytest.mark.parametrize("cell", SHOWN, ids=lambda cell: cell.name)

NOTHING = {
    "retain 0": lambda cell: tt.leaky(cell, 0),
    "rate 1": lambda cell: tt.leaky(cell, rate=1.0),
    "zoneout 0": lambda cell: tt.zoneout(cell, 0),
    "zoneout 0 each": lambda cell: tt.zoneout(cell, {cell.states[0].name: 0.0}),
    "one period": lambda cell: tt.clockwork(cell, (1,)),
    "equal periods": lambda cell: tt.clockwork(cell, (1, 1, 1)),
    "no delays": lambda cell: tt.skip(cell, ()),
    "delay 1": lambda cell: tt.skip(cell, [1]),
    "nothing removed": lambda cell: tt.remove(cell, [1]),
    "d 1": lambda cell: tt.dilate(cell, 1),
    "dropout 0": lambda cell: tt.recurrent_dropout(cell, 0.0),
    "no bound": lambda cell: tt.clip_adjoint(cell, math.inf),
}


@named
@pytest.mark.parametrize("cure", NOTHING)
def test_a_cure_that_changes_nothing_gives_the_cell_itself(cure, cell):
    assert NOTHING[cure](cell) is cell


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("cure", CURES)
def test_every_cure_changes_every_cell_that_it_takes(cure, name):
    cell = CATALOGUE[name]
    if cure in NEED_A_MATRIX and not has_recurrent_matrix(cell):
        with pytest.raises(DeclarationError, match=f"{name} has no matrix on a past state"):
            CURES[cure](cell)
        return
    cured = CURES[cure](cell)
    assert cured != cell
    assert cured.gates == cell.gates
    assert len(slots(cured)) >= len(slots(cell))
    assert cured.source.startswith(f"{cell.source}; {cure.split()[0]}: ")
    assert parse_cell(cured.name) == cured


def same(a, b):
    """Equal but for the order in which extras were added, which numbers their draws."""
    both = [replace(c, extras=tuple(sorted(c.extras, key=lambda e: e.name))) for c in (a, b)]
    return both[0] == both[1]


def steps_of(cell):
    """The states of every step on fixed random tensors."""
    return forward(cell, SIZES, draw_given(cell, SIZES, steps=7, batch=2, seed=0)).states


COMMUTING = [
    *(("skip", other) for other in CURES if other not in {"remove", "dilate"}),
    *(("recurrent_dropout", other) for other in CURES),
    *(("clip_adjoint", other) for other in CURES),
    *(("dilate", other) for other in ("recurrent_dropout", "clip_adjoint")),
]


@named
@pytest.mark.parametrize(("one", "other"), COMMUTING)
def test_what_commutes(one, other, cell):
    assert same(CURES[one](CURES[other](cell)), CURES[other](CURES[one](cell)))


@named
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dilate", "skip"),
        ("dilate", "remove"),
        *itertools.product(("remove", "dilate"), ("leaky", "zoneout", "clockwork")),
    ],
)
def test_what_does_not_commute(one, other, cell):
    a, b = CURES[one](CURES[other](cell)), CURES[other](CURES[one](cell))
    assert not same(a, b)
    assert a.graph_key != b.graph_key


@named
def test_the_delays_of_delays(cell):
    skip, remove, dilate = tt.skip, tt.remove, tt.dilate
    assert skip(skip(cell, [3]), [5]) == skip(cell, [5, 3, 3])
    assert dilate(dilate(cell, 2), 3) == dilate(cell, 6)
    assert dilate(skip(cell, [5]), 2).lags()[cell.states[0].name] == 10
    assert skip(dilate(cell, 2), [5]).lags()[cell.states[0].name] == 5
    assert skip(dilate(cells.rnn, 5), [1]) == skip(cells.rnn, [5])
    assert remove(skip(cell, [8]), [4]) == remove(cell, [4, 8])
    assert remove(skip(cell, [2]), [4]) == remove(cell, [4])
    assert skip(remove(cell, [4]), [2]) != remove(skip(cell, [2]), [4])
    assert remove(cell, [1, 8]) == skip(cell, [8])
    for d in (2, 3):
        assert remove(cell, (d,)) == dilate(cell, d)
        leaking = tt.leaky(tt.clockwork(cell, (1, 2)), rate=0.3)
        assert remove(leaking, (d,)) == dilate(leaking, d)


def test_what_is_read_late_enough_stays_where_it_is():
    cell = tt.cell("h")(lambda x, h: tt.tanh(tt.affine("a", x, h)) + 0.3 * tt.ago(h, 3))

    def lags(cured):
        return sorted(n.data[1] for n in walk(cured.new) if n.op == "state")

    assert lags(tt.remove(cell, [2])) == [2, 3]
    assert lags(tt.remove(cell, [2, 5])) == [2, 3, 5]
    assert lags(tt.remove(cell, [4])) == [4]
    assert lags(tt.leaky(tt.remove(cell, [4]), rate=0.5)) == [1, 4]
    assert lags(tt.remove(tt.leaky(cell, rate=0.5), [4])) == [4]


def test_what_dropout_keeps_is_scaled_to_the_same_mean():
    (mask,) = tt.recurrent_dropout(cells.lstm, 0.2).extras
    assert (mask.sample, mask.eval, mask.per) == (tt.Bernoulli(0.8, 1.25), 1.0, "sequence")


@named
@pytest.mark.parametrize("pair", list(itertools.combinations(("leaky", "zoneout", "clockwork"), 2)))
def test_mixing_cures_commute_in_value_alone(pair, cell):
    one, other = (CURES[name] for name in pair)
    a, b = one(other(cell)), other(one(cell))
    assert not same(a, b)
    first, second = steps_of(a), steps_of(b)
    for state in first:
        assert error_to_largest(first[state], second[state]) <= BOUND


def test_a_learned_rate_commutes_with_skip():
    for cell in SHOWN:
        learned = tt.leaky(tt.skip(cell, [3]), "learned")
        assert learned == tt.skip(tt.leaky(cell, "learned"), [3])


def test_names_that_are_taken_get_a_number():
    twice = tt.leaky(tt.leaky(cells.rnn, rate="learned"), rate="learned")
    assert [p.name for p in twice.params] == ["rate_h", "rate_h_2"]
    thrice = tt.clockwork(tt.clockwork(tt.clockwork(cells.rnn, (1, 2)), (1, 3)), (1, 2))
    assert [s.name for s in thrice.states] == ["h", "clock", "clock_2", "clock_3"]
    dropped = tt.recurrent_dropout(tt.recurrent_dropout(cells.lstm, 0.1), 0.1)
    assert [e.name for e in dropped.extras] == ["dropout_h", "dropout_h_2"]
    assert [e.name for e in probed(probed(cells.rnn)).extras] == ["probe_h", "probe_h_2"]


def test_every_state_has_a_mask_of_its_own():
    stack = cells.gf_rnn(layers=2)
    assert [e.name for e in tt.recurrent_dropout(stack, 0.1).extras] == ["dropout_h1", "dropout_h2"]
    mixing = tt.cell(("a", tt.State("b", width=2)))(
        lambda x, a, b: (
            tt.tanh(tt.affine("p", x, a, a * tt.row_sum(b))),
            tt.tanh(tt.affine("q", b, width=2)),
        )
    )
    masks = {e.name: e.width for e in tt.recurrent_dropout(mixing, 0.1).extras}
    assert masks == {"dropout_a": "hidden", "dropout_a_b": "hidden", "dropout_b": 2}


def test_a_param_of_ones_own_keeps_its_name_and_its_init():
    own = tt.Param("alpha", tt.Uniform(0.1, 0.2), low=0.05, high=0.5)
    cell = tt.leaky(cells.lstm_projection, rate=own)
    assert cell.params == (
        replace(own, name="alpha_h", width="projection"),
        replace(own, name="alpha_c"),
    )


def test_slots_of_added_delays():
    found = {s.name: [p.gate for p in s.pieces] for s in slots(tt.skip(cells.gru, [8, 3]))}
    assert found == {
        "weight_ih": ["r", "z", "n_x"],
        "weight_hh": ["r", "z", "n_h"],
        "weight_hh_d3": ["r", "z", "n_h"],
        "weight_hh_d8": ["r", "z", "n_h"],
        "bias": ["r", "z", "n_x", "n_h"],
    }
    assert {s.name for s in slots(tt.dilate(cells.lstm, 4))} == {"weight_ih", "weight_hh", "bias"}


def test_a_new_state_that_a_matrix_reads_beside_a_past_one_gets_no_delay():
    """What was a new state when the cell was declared stays one after a cure replaced it."""

    def step(x, h, c):
        new = tt.sigmoid(tt.affine("f", x)) * c + tt.tanh(tt.affine("g", x, h))
        return tt.tanh(tt.affine("a", x, new * h)), new

    cell = tt.cell("h c")(step)
    for cured in (cell, tt.leaky(cell, rate=0.5), tt.zoneout(cell, 0.5)):
        read = tt.skip(cured, [5]).affines["a"].args[2]
        states = {(n.data[0], n.data[1]) for n in walk([read]) if n.op == "state"}
        assert ("h", 5) in states
        assert ("c", 1) in states
        assert ("c", 5) not in states
    assert same(tt.skip(tt.leaky(cell, rate=0.5), [5]), tt.leaky(tt.skip(cell, [5]), rate=0.5))


@drawn(st.integers(0, 10_000), st.lists(st.sampled_from(list(CURES)), min_size=1, max_size=3))
def test_copies_of_cured_random_cells(seed, names):
    cell = random_cell(seed)
    for name in names:
        if name in NEED_A_MATRIX and not has_recurrent_matrix(cell):
            continue
        cell = CURES[name](cell)
    for twin in (restore(cell.text), pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell)):
        assert twin == cell
        assert twin.text == cell.text
        assert slots(twin) == slots(cell)


EXPRESSIONS = [
    "leaky(skip(gru, delays=[1, 8]), rate=0.1)",
    "leaky(lstm, retain='learned', states=['c'])",
    "leaky(lstm, rate=uniform(0.02, 0.2))",
    "zoneout(lstm, p={'h': 0.05, 'c': 0.5})",
    "zoneout(lstm, p=0.5, states=['c'])",
    "clockwork(rnn, periods=[1, 2, 4], masked=False)",
    "remove(dilate(recurrent_dropout(lstm, p=0.3), d=2), delays=[3, 7])",
    "clip_adjoint(clip_adjoint(gru, bound=2.0), bound=1.0, at='states')",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_a_name_is_the_expression_that_made_it(text):
    cell = parse_cell(text)
    assert cell.name == text == parse(text).cell_text


def test_numpy_numbers_are_numbers():
    assert tt.leaky(cells.lstm, rate=np.float64(0.1)).name == "leaky(lstm, rate=0.1)"
    assert tt.zoneout(cells.lstm, {"c": np.float32(0.5)}).name == "zoneout(lstm, p={'c': 0.5})"
    assert tt.leaky(cells.lstm, rate=np.float64(0.1)) == tt.leaky(cells.lstm, rate=0.1)


gru, lstm, indrnn = cells.gru, cells.lstm, cells.indrnn
clock = tt.clockwork(gru, (1, 2))
REFUSED = {
    "leaky: retain is None and rate is None; give one": lambda: tt.leaky(gru),
    "leaky: retain is 0.5 and rate is 0.5; give one": lambda: tt.leaky(gru, 0.5, rate=0.5),
    r"leaky: retain is 1; a number in \[0, 1\)": lambda: tt.leaky(gru, 1),
    "leaky: retain is -0.1; a number": lambda: tt.leaky(gru, -0.1),
    "leaky: retain is nan; a number": lambda: tt.leaky(gru, math.nan),
    r"leaky: rate is 0.0; a number in \(0, 1\]": lambda: tt.leaky(gru, rate=0.0),
    "leaky: rate is True; a number": lambda: tt.leaky(gru, rate=True),
    "leaky: rate is \\[0.1\\]; a number": lambda: tt.leaky(gru, rate=[0.1]),
    "leaky: rate is 'fast'; the only word": lambda: tt.leaky(gru, rate="fast"),
    "leaky: rate is Uniform.* within 0 and 1": lambda: tt.leaky(gru, rate=tt.Uniform(0.5, 1.5)),
    "leaky: retain is Uniform.* hold every unit still": lambda: tt.leaky(gru, tt.Uniform(1, 1)),
    "leaky: rate is Param.* low and high": lambda: tt.leaky(gru, rate=tt.Param("a", 0.5)),
    "rate is Param.*high=2.0.* low and high within them": lambda: tt.leaky(
        gru, rate=tt.Param("a", 0.5, 0.0, 2.0)
    ),
    "leaky: states has 'c'; gru has the states h": lambda: tt.leaky(gru, 0.5, states=["c"]),
    "leaky: states is .*; names of h, each once": lambda: tt.leaky(gru, 0.5, states=["h", "h"]),
    r"leaky: states is \[\]; names of h": lambda: tt.leaky(gru, 0.5, states=[]),
    "leaky: states has 5": lambda: tt.leaky(gru, 0.5, states=5),
    "states has 'clock'; clockwork.* has the states h": lambda: tt.leaky(
        clock, 0.5, states="clock"
    ),
    r"zoneout: p is 1.0; a probability in \[0, 1\)": lambda: tt.zoneout(gru, 1.0),
    "zoneout: p is nan": lambda: tt.zoneout(gru, math.nan),
    "zoneout: p is None; a number": lambda: tt.zoneout(gru, None),
    "zoneout: states has 'c'; gru": lambda: tt.zoneout(gru, {"h": 0.1, "c": 0.5}),
    r"zoneout: states is \[\]; names of h": lambda: tt.zoneout(gru, {}),
    "zoneout: states came with a table": lambda: tt.zoneout(lstm, {"h": 0.1}, states=["h"]),
    "clockwork: periods is 2; a list": lambda: tt.clockwork(gru, 2),
    "clockwork: periods is '12'; a list": lambda: tt.clockwork(gru, "12"),
    r"clockwork: periods is \[\]; a list": lambda: tt.clockwork(gru, []),
    "clockwork: a period is 0; a whole number from 1": lambda: tt.clockwork(gru, [1, 0]),
    "clockwork: a period is 1.5; a whole number": lambda: tt.clockwork(gru, [1.5]),
    "clockwork: masked is 'no'": lambda: tt.clockwork(gru, [1, 2], masked="no"),
    "skip: delays is 8; a list of steps": lambda: tt.skip(gru, 8),
    "skip: a delay is 0; a whole number from 1": lambda: tt.skip(gru, [0]),
    "skip: a delay is True; a whole number": lambda: tt.skip(gru, [True]),
    "skip: indrnn has no matrix on a past state": lambda: tt.skip(indrnn, [2]),
    r"remove: delays is \[\]; at least one": lambda: tt.remove(gru, []),
    "remove: a delay is -1; a whole number": lambda: tt.remove(gru, [-1]),
    r"remove: delays is \[2, 3\], but indrnn has no matrix": lambda: tt.remove(indrnn, [3, 2]),
    "dilate: d is 0; a whole number from 1": lambda: tt.dilate(gru, 0),
    "dilate: d is 2.0; a whole number": lambda: tt.dilate(gru, 2.0),
    r"recurrent_dropout: p is 1; a probability in \[0, 1\)": lambda: tt.recurrent_dropout(gru, 1),
    "recurrent_dropout: indrnn has no matrix": lambda: tt.recurrent_dropout(indrnn, 0.5),
    "clip_adjoint: bound is 0; a positive number": lambda: tt.clip_adjoint(gru, 0),
    "clip_adjoint: bound is nan; a positive number": lambda: tt.clip_adjoint(gru, math.nan),
    "clip_adjoint: at is 'h'; expected 'gates' or 'states'": lambda: tt.clip_adjoint(
        gru, 1.0, at="h"
    ),
    "leaky takes a Cell, .* got 'lstm'": lambda: tt.leaky("lstm", 0.5),
    "dilate takes a Cell, .* got <function": lambda: tt.dilate(lambda x, h: h, 2),
}


@pytest.mark.parametrize("message", REFUSED)
def test_nonsense_is_refused(message):
    with pytest.raises(DeclarationError, match=message) as refusal:
        REFUSED[message]()
    assert "\n" not in str(refusal.value)


def test_what_no_matrix_reads_can_still_be_moved_and_mixed():
    assert tt.remove(indrnn, [3]) == tt.dilate(indrnn, 3)
    assert tt.remove(indrnn, [3]).lags() == {"h": 3}
    assert tt.leaky(indrnn, rate=0.5) != indrnn
