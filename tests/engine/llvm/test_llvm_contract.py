"""Does the fused engine give what the reference gives, for every cell and every cure?"""

from functools import cache, partial

import pytest
import torch

import throughtime as tt
from cells.cures import CURES, NEED_A_MATRIX, has_recurrent_matrix
from contract.own_cells import CELLS
from engine.llvm.on_trial import ENGINE, drawn, engine_on_trial, layer_of, needs_engine
from throughtime.cells import CATALOGUE, FACTORIES
from throughtime.engine import reference
from throughtime.errors import EngineError
from throughtime.testing import checks
from throughtime.testing.bench import Bench
from tolerances import TOLERANCE

pytestmark = needs_engine

ROUNDING = TOLERANCE["loop", torch.float64].bound
ALL = CELLS | {name: make() for name, make in FACTORIES.items() if name not in CELLS}
CURED = {
    f"{cure}:{name}": CURES[cure](cell)
    for name, cell in CATALOGUE.items()
    for cure in CURES
    if cure not in NEED_A_MATRIX or has_recurrent_matrix(cell)
}
# One base of every kind: one state, two, phases, a projection, no matrix on the past.
BASES = ("lstm", "gru_reset_before", "lstm_projection", "lru")
SHOWN = [text for text in CURED if text.split(":")[1] in BASES]

# What the engine does not run, by "cell" or "cure:cell", and why.
REFUSED: dict[str, str] = {}


@cache
def bench(name: str) -> Bench:
    return Bench(engine_on_trial(), drawn(ALL[name] if name in ALL else CURED[name]))


def largest(name: str, check: checks.Check) -> checks.Difference:
    """The worst difference; at least one case must have been run."""
    return max(check.measure(bench(name)), key=lambda difference: difference.error)


@pytest.mark.parametrize("name", [*ALL, *SHOWN])
def test_outputs_states_and_gradients_equal_the_references(name):
    tried = bench(name)
    for job, inputs in tried.cases(lengths=True, reset=True):  # in both directions
        found = tried.same(job, inputs, partial(reference.sequence, job))
        assert found.error <= ROUNDING, (found, job.reverse)
    assert tried.refusals == []


# Laws that need no reference, and the edges: T = 0, B = 0, T = 1, NaN past the end of a row.
LAWS = {c.name: c for c in checks.CHECKS if c.name not in {"windows", "strides", "pickle"}}
WITH_LAWS = ("lstm", "lstm_projection", "delayed_lstm")


@pytest.mark.parametrize("name", WITH_LAWS)
@pytest.mark.parametrize("law", LAWS)
def test_the_contract_line_by_line(law, name):
    found = largest(name, LAWS[law])
    assert found.error <= LAWS[law].bound, found


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALL, *CURED])
def test_every_line_of_every_cell(name):
    for check in (checks.ENGINE, *checks.CHECKS):
        found = list(check.measure(bench(name)))
        clipped = check.name == "gradcheck" and "clip_adjoint" in name
        assert bool(found) != clipped, check.name
        assert max((d.error for d in found), default=0.0) <= check.bound, check.name


def test_what_is_refused_is_listed_with_its_reason():
    refusal, found = engine_on_trial().refusal, {}
    for name in [*ALL, *CURED]:
        sample = bench(name).sample
        for reverse in (False, True):
            masked = bench(name).inputs(lengths=True, reset=True)
            reason = refusal(sample.job(reverse=reverse), masked)
            if reason is not None:
                found[name] = reason
    assert found == REFUSED


# --- what is refused whatever the cell

OTHER_DTYPES = [torch.bfloat16, torch.float16]


def refused(match: str, **options: object):
    """Hold that a call is refused by this engine and not by "auto"."""
    layer = layer_of(CELLS["mgu"], 3, 5, **({"dtype": torch.float32} | options))
    weight = layer.weight_ih_l0
    x = torch.zeros(4, 2, 3, dtype=weight.dtype, device=weight.device)
    with pytest.raises(EngineError, match=rf"engine='{ENGINE}' cannot do this: .*{match}"):
        layer(x)
    layer.engine = "auto"
    assert layer(x)[0].shape == (4, 2, 5)
    return layer.explain(x)


@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
def test_other_dtypes_are_refused(dtype):
    kind = str(dtype).removeprefix("torch.")
    assert f"not {ENGINE}" in refused(kind, dtype=dtype)


def test_autocast_is_refused():
    with torch.autocast("cpu", torch.bfloat16):
        assert f"not {ENGINE}" in refused("autocast")


def test_other_devices_are_refused():
    assert f"not {ENGINE}" in refused("meta", device="meta")


# --- finite differences, on the generated code in float64

CHECKED = {
    "gru_reset_before": {},
    "lstm_peephole": {},
    "lstm_projection": {"proj_size": 2},
    "delayed_lstm": {},
    "emitting": {},
    "three_widths": {},
}


@pytest.mark.parametrize("name", CHECKED)
def test_gradcheck_of_the_whole_jacobian(name):
    layer = layer_of(ALL[name], 2, 3, learn_initial_state=True, **CHECKED[name])
    names = [n for n, _ in layer.named_parameters()]
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    reset = torch.tensor([[False, False], [True, False], [False, False]])

    def run(x, *parameters):
        named = dict(zip(names, parameters, strict=True))
        call = {"lengths": [3, 2], "reset": reset}
        output, hx = torch.func.functional_call(layer, named, (x,), call)
        return (output, *(hx if isinstance(hx, tuple) else (hx,)))

    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *parameters))


def test_gradgradcheck_goes_through_the_reference():
    layer = layer_of(tt.cells.gru_reset_before, 2, 3)
    x = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))
