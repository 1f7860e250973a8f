"""Are steps linearised exactly? Against autograd's Jacobian of the reference, for every cell."""

import pytest
import torch
from passages import CELLS, Drawn, step_jacobian

from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["flow", torch.float64].bound


@pytest.mark.parametrize("name", CELLS)
def test_steps_pull_as_the_jacobian_of_the_reference_does(name):
    drawn = Drawn(CELLS[name], T=3, B=2, reverse=True, lengths=torch.tensor([3, 2]))
    steps = drawn.passage().steps
    for t in range(2):
        want = step_jacobian(drawn, t)
        for new, width in enumerate(steps.widths):
            unit = torch.eye(width, dtype=torch.float64)[:, None].expand(width, 2, width)
            zeros = [unit.new_zeros(width, 2, w) for w in steps.widths]
            found = steps.pulled(t, [unit if i == new else z for i, z in enumerate(zeros)]).past
            for (a, past, lag), jacobian in want.items():
                if a == new:
                    got = found.get((past, lag), unit.new_zeros(width, 2, steps.widths[past]))
                    assert error_to_largest(got.transpose(0, 1), jacobian) < BOUND


@pytest.mark.parametrize("name", ["lstm", "skip", "clockwork", "leaky"])
def test_steps_of_some_rows_are_those_rows(name):
    steps = Drawn(CELLS[name], T=3, B=4).passage().steps
    vectors = [torch.randn(2, 4, w, dtype=torch.float64) for w in steps.widths]
    rows = [3, 1]
    got = steps.of_rows(rows).pulled(2, [v[:, rows] for v in vectors])
    want = steps.pulled(2, vectors)
    assert got.past.keys() == want.past.keys()
    for key, value in want.past.items():
        assert error_to_largest(got.past[key], value[:, rows]) < BOUND
    for gate, value in want.gates.items():
        assert error_to_largest(got.gates[gate], value[:, rows]) < BOUND
