"""Does a cell keep the contract? `check_cell` goes through it line by line."""

import math

import torch

from throughtime import engine as engines
from throughtime.declare import Cell
from throughtime.engine.dispatch import ENGINES, REFERENCE
from throughtime.engine.interleave import strands_of
from throughtime.errors import DtypeError
from throughtime.testing.bench import Bench
from throughtime.testing.checks import ADJOINT, CHECKS, ENGINE, FINITE, Check
from throughtime.testing.report import CellReport, Line
from throughtime.testing.sample import Sample, draw, sizes_for


def check_cell(
    cell: Cell,
    *,
    input_size: int = 3,
    hidden_size: int = 5,
    proj_size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> CellReport:
    """Hold a declared cell to the contract, on every engine that runs it.

    In float64, on random weights, inputs and histories: the adjoint graph against autograd; every
    fused engine against the reference; lengths, resets, windows, empty and strided inputs against
    plain calls; gradients against finite differences; repetition to the bit; pickling.

    Args:
        cell: The cell, one's own or one of `throughtime.cells`.
        input_size: I.
        hidden_size: H.
        proj_size: P; None takes one below H if the cell projects.
        seed: Of everything random; the caller's generator is left as it was.
        device: Where to run.

    Returns:
        A report; `print` it to see the cell's states, matrices, parameters and engine.

    Raises:
        AssertionError: a line is broken; the message names each with the error measured.
        ThroughtimeError: not a cell, or sizes that no layer of it can have.

    Example:
        >>> import throughtime as tt
        >>> report = tt.testing.check_cell(tt.cells.mgu)
        >>> report.broken
        ()
    """
    if not isinstance(cell, Cell):
        raise DtypeError(
            f"cell is a {type(cell).__name__}; expected a Cell, made with @throughtime.cell(...)."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sample = draw(cell, sizes_for(cell, input_size, hidden_size, proj_size), device)
        lines = tuple(_lines(sample))
    steps, rows = sample.inputs.x.shape[:2]
    explained = engines.explain(sample.job(all_states=False), sample.inputs, "auto")
    report = CellReport(cell, sample.sizes, steps, rows, explained, lines)
    if report.broken:
        broken = "\n  ".join(map(str, report.broken))
        raise AssertionError(
            f"{cell.name} breaks {len(report.broken)} of {len(lines)} lines:\n  {broken}"
        )
    return report


def _lines(sample: Sample) -> list[Line]:
    found = [_line(FINITE, Bench(REFERENCE, sample))]
    job = sample.job(all_states=False)
    for engine in reversed(ENGINES):
        refusal = engine.refusal(job, sample.inputs)
        if refusal is None and not found[0].broken:  # else nothing can be compared
            first = (ADJOINT,) if engine is REFERENCE else (ENGINE,)
            if engine is REFERENCE and strands_of(job) > 1:  # it takes several steps at once
                first += (ENGINE,)
            found += [_line(check, Bench(engine, sample)) for check in (*first, *CHECKS)]
    return found


def _line(check: Check, bench: Bench) -> Line:
    """Measure one line; whatever is raised breaks it."""
    try:
        worst = max(check.measure(bench), key=lambda d: d.error, default=None)
    except Exception as error:  # noqa: BLE001 (a line that cannot be measured is broken)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Line(check.name, check.what, bench.engine.name, math.inf, check.bound, text[:300])
    if worst is None:
        reason = bench.refusals[0] if bench.refusals else "nothing was asked"
        return Line(check.name, check.what, bench.engine.name, None, check.bound, reason)
    return Line(check.name, check.what, bench.engine.name, worst.error, check.bound, worst.where)
