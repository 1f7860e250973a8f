"""Does every cell keep the contract, on every engine that runs it?"""

import pytest

from contract.own_cells import CELLS
from random_cells import random_cell
from throughtime.declare.quotient import common_lag
from throughtime.testing import check_cell
from throughtime.testing.checks import CHECKS

# only_distant is two interleaved rnns.
ON_VENDOR = {"rnn", "rnn_relu", "lstm", "lstm_notes", "lstm_projection", "gru", "only_distant"}
EVERY_CHECK = {check.name for check in CHECKS}
UNKNOWN_TO_VENDOR = {"no steps"}


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_keeps_every_line_on_every_engine(name):
    report = check_cell(CELLS[name])
    engines = ("reference", "llvm", "vendor")
    lines = {e: {n.check for n in report.lines if n.engine == e} for e in engines}
    # Delays with a common divisor run interleaved, on the reference engine too: compared as well.
    compared = {"engine"} if common_lag(CELLS[name]) > 1 else set()
    assert lines["reference"] == {"finite", "adjoint"} | compared | EVERY_CHECK
    assert lines["llvm"] == {"engine"} | EVERY_CHECK
    assert lines["vendor"] == ({"engine"} | EVERY_CHECK if name in ON_VENDOR else set())
    refused = {(n.engine, n.check) for n in report.lines if n.error is None}
    assert refused == {("vendor", check) for check in UNKNOWN_TO_VENDOR if name in ON_VENDOR}
    fast = ("vendor", "llvm") if name in ON_VENDOR else "llvm"  # by the number of steps
    assert report.engine.startswith(fast)


@pytest.mark.parametrize("name", ["lstm", "gru", "delayed_lstm", "clockwork", "emitting"])
def test_other_numbers(name):
    check_cell(CELLS[name], seed=1)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (4, 33)])
@pytest.mark.parametrize("name", ["lstm", "gru", "delayed"])
def test_other_sizes(name, sizes):
    check_cell(CELLS[name], input_size=sizes[0], hidden_size=sizes[1])


@pytest.mark.parametrize(("hidden_size", "proj_size"), [(2, 1), (8, 7), (33, 4)])
def test_other_projections(hidden_size, proj_size):
    report = check_cell(CELLS["lstm_projection"], hidden_size=hidden_size, proj_size=proj_size)
    assert f"P={proj_size}" in str(report)


# 115: its emit reads an extra that the step reads too; 2: a state that nothing differentiable moves
@pytest.mark.parametrize("seed", [2, 15, 100, 115])
def test_random_cells(seed):
    check_cell(random_cell(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_many_random_cells(seed):
    check_cell(random_cell(seed))


@pytest.mark.gpu
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_keeps_every_line_on_a_gpu(name):
    check_cell(CELLS[name], device="cuda")
