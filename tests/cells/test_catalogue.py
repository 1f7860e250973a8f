"""Is the catalogue complete, sourced and fit for every engine?"""

import math

import pytest
import test_deep
import test_equations
import test_normalised

from throughtime import cells
from throughtime.cells import CATALOGUE, FACTORIES
from throughtime.declare import Cell
from throughtime.declare.graph import terms, walk

NAMES = (
    "rnn rnn_relu rnn_sigmoid rnn_notes rnn_notes_relu rnn_notes_sigmoid lstm lstm_notes "
    "lstm_sigmoid lstm_peephole lstm_coupled lstm_projection gru gru_reset_before gru_notes mgu "
    "indrnn mingru minlstm lru rnn_deep_input rnn_deep_transition rnn_deep_transition_shortcut "
    "rnn_deep_output rhn lstm_layer_norm gru_layer_norm"
)
# What every step of a cell reads back: torch's state tuple, in torch's order.
STATES = {
    "lstm": ["h", "c"],
    "lstm_projection": ["h", "c"],
    "gru": ["h"],
    "rnn": ["h"],
    "lru": ["h_re", "h_im"],
}
LINEAR = {"indrnn", "mingru", "minlstm", "lru"}  # no matrix on a past state
NORMALISED = {"lstm_layer_norm", "gru_layer_norm"}  # sums over the units


def test_the_names():
    assert " ".join(CATALOGUE) == NAMES


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_cell_goes_by_its_name_and_has_a_source(name):
    cell = CATALOGUE[name]
    assert isinstance(cell, Cell)
    assert cell.name == name
    assert name in FACTORIES or getattr(cells, name) is cell
    assert name in cells.__all__
    assert any(year in cell.source for year in map(str, range(1990, 2025)))


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_goes_by_its_cells_name_and_has_a_default(name):
    assert getattr(cells, name) is FACTORIES[name]
    assert name in cells.__all__
    assert FACTORIES[name]().name == name
    assert FACTORIES[name]() == CATALOGUE.get(name, FACTORIES[name]())


@pytest.mark.parametrize("name", STATES)
def test_states_stand_in_torchs_order(name):
    assert [s.name for s in CATALOGUE[name].states] == STATES[name]


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_cell_needs_delays_nor_row_operations_but_for_a_norm(name):
    cell = CATALOGUE[name]
    back = cell.adjoint()
    graphs = [*cell.new, *cell.out, *back.step.states.values(), *back.step.gates.values()]
    assert ("row_sum" in {n.op for n in walk(graphs)}) == (name in NORMALISED)
    assert cell.depth == 1


@pytest.mark.parametrize("name", CATALOGUE)
def test_recurrent_matrices(name):
    kinds = {t.kind for n in CATALOGUE[name].affines.values() for t in terms(n)}
    assert ("recurrent" in kinds) == (name not in LINEAR)


@pytest.mark.parametrize("name", ["gru_reset_before", "mgu"])
def test_a_reset_before_the_product_is_still_a_recurrent_matrix(name):
    (term,) = [t for t in terms(CATALOGUE[name].affines["n"]) if t.kind != "input"]
    assert (term.kind, term.lag) == ("recurrent", 1)


@pytest.mark.parametrize(
    ("name", "biased"),
    [
        ("rnn", "a"),
        ("rnn_notes", ""),
        ("lstm", "i f g o"),
        ("lstm_notes", "i f o"),
        ("lstm_projection", "i f g o"),
        ("gru", "r z n_x n_h"),
        ("gru_notes", "r z"),
        ("lru", ""),
        ("rhn", "t1 a1 t2 a2"),
        ("lstm_layer_norm", ""),
        ("gru_layer_norm", ""),
    ],
)
def test_biases_are_where_the_source_has_them(name, biased):
    gates = CATALOGUE[name].affines.items()
    assert " ".join(gate for gate, n in gates if n.data[1]) == biased


def test_an_lru_starts_stable_with_time_constants_up_to_a_thousand_steps():
    nu, phase = (p.init for p in CATALOGUE["lru"].params)
    assert (math.exp(-nu.high), math.exp(-nu.low)) == pytest.approx((1.0, 1000.0))
    assert (math.exp(phase.low), math.exp(phase.high)) == pytest.approx((math.pi / 1000.0, math.pi))


def test_every_cell_is_compared_with_a_loop_by_hand():
    """In these files; a cell that is added to the catalogue needs a loop in one of them."""
    loops = [test_deep.LOOPS, test_equations.LOOPS, test_normalised.LOOPS]
    assert {name for found in loops for name in found} == set(CATALOGUE)
