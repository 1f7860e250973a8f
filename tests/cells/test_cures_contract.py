"""Does every cure of every cell, and every pair of cures, keep the contract?

All are run by the adjoint graph against autograd, and with lengths, resets and windows against
their pieces; a covering choice goes through every line, and behind `slow` all do.
"""

import itertools

import pytest
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cells.cures import CURES, NEED_A_MATRIX, has_recurrent_matrix
from declare.test_adjoint import BOUND, adjoint_error
from random_cells import random_cell
from throughtime.cells import CATALOGUE, FACTORIES
from throughtime.engine import reference
from throughtime.engine.dispatch import REFERENCE
from throughtime.testing import check_cell
from throughtime.testing.bench import Bench
from throughtime.testing.checks import CHECKS, ROUNDING
from throughtime.testing.outcome import differ, outcome
from throughtime.testing.pieces import windows
from throughtime.testing.sample import draw, sizes_for

BASES = ("rnn", "lstm", "gru")
PAIRS = list(itertools.product(CURES, CURES))
MASKS = [check for check in CHECKS if check.name in {"lengths", "resets"}]
ACCEPTED = [
    (cure, name)
    for cure, name in itertools.product(CURES, CATALOGUE)
    if cure not in NEED_A_MATRIX or has_recurrent_matrix(CATALOGUE[name])
]


def both(outer, inner, base):
    return CURES[outer](CURES[inner](CATALOGUE[base]))


def broken(cell):
    """What of lengths, resets and one split into windows is not as it should be."""
    sample = draw(cell, sizes_for(cell, 3, 5, None), "cpu")
    bench = Bench(REFERENCE, sample)
    worst = {check.name: max(check.measure(bench), key=lambda d: d.error) for check in MASKS}
    job, inputs = next(bench.cases(lengths=True, reset=True))
    halves = outcome(sample, job, lambda i: windows(bench.run(job), job, i, [3]), inputs)
    worst["windows"] = differ(bench.result(job, inputs), halves)
    return {name: difference for name, difference in worst.items() if difference.error > ROUNDING}


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_every_pair(outer, inner):
    for base in BASES:
        assert adjoint_error(both(outer, inner, base), steps=6) <= BOUND
    base = BASES[PAIRS.index((outer, inner)) % 3]
    assert broken(both(outer, inner, base)) == {}


@pytest.mark.parametrize(("cure", "name"), ACCEPTED)
def test_every_cure_of_every_cell(cure, name):
    assert adjoint_error(CURES[cure](CATALOGUE[name])) <= BOUND


# Each cure once outside and once inside; every base and its own neighbours.
CHOSEN = [
    ("leaky", "skip", "gru_reset_before"),
    ("skip", "clockwork", "lstm"),
    ("clockwork", "zoneout", "lstm_projection"),
    ("zoneout", "remove", "gru"),
    ("remove", "leaky learned", "lstm"),
    ("leaky learned", "dilate", "gf_rnn"),
    ("dilate", "recurrent_dropout", "gru"),
    ("recurrent_dropout", "leaky", "lstm_peephole"),
]


@pytest.mark.parametrize(("outer", "inner", "base"), CHOSEN)
def test_a_covering_choice_keeps_every_line(outer, inner, base):
    cell = CATALOGUE.get(base) or FACTORIES[base]()
    check_cell(CURES[outer](CURES[inner](cell)))


class CountProducts(TorchFunctionMode):
    """How many times two matrices are multiplied."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function is functional.linear
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("cure", CURES)
def test_x_is_multiplied_before_the_loop_and_every_delay_once_a_step(cure, name):
    cell = CURES[cure](CATALOGUE[name])
    sample = draw(cell, sizes_for(cell, 3, 5, None), "cpu")
    with CountProducts() as products:
        reference.sequence(sample.job(), sample.inputs)
    delays = {"skip": 2, "remove": 2}.get(cure, 1)
    assert products.count == 1 + delays * sample.inputs.x.shape[0]


def cured_at_random(seed):
    """A random cell with up to three cures, or fewer where it has no recurrent matrix."""
    cell, names = random_cell(seed), list(CURES)
    for place in range(1 + seed % 3):
        name = names[(seed // 3**place + 5 * place) % len(names)]
        if name not in NEED_A_MATRIX or has_recurrent_matrix(cell):
            cell = CURES[name](cell)
    return cell


@pytest.mark.parametrize("start", range(0, 150, 50))
def test_random_cells_with_cures_at_random(start):
    errors = {seed: adjoint_error(cured_at_random(seed), seed) for seed in range(start, start + 50)}
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] <= BOUND, f"cured_at_random({worst}) is off by {errors[worst]:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("base", [*BASES, "lstm_projection", "gru_reset_before"])
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_every_pair_keeps_every_line(outer, inner, base):
    check_cell(both(outer, inner, base))


@pytest.mark.slow
@pytest.mark.parametrize(("cure", "name"), ACCEPTED)
def test_every_cure_of_every_cell_keeps_every_line(cure, name):
    check_cell(CURES[cure](CATALOGUE[name]))
