"""Are kernels right with every width of vectors, and do they compile for machines we have not?"""

import pytest
import torch

import throughtime as tt
from throughtime.cells import CATALOGUE
from throughtime.declare.slots import Sizes
from throughtime.engine import Job
from throughtime.engine.llvm.jit import assembly
from throughtime.engine.llvm.lowering import Variant
from throughtime.engine.llvm.machine import GENERIC, forced
from throughtime.engine.llvm.program import Program
from throughtime.errors import EngineError
from tolerances import TOLERANCE

CELLS = ["lstm", "gru_reset_before", "rnn", "lstm_projection", "gru_layer_norm", "indrnn"]
SIZES = [(5, 7), (3, 33), (16, 64)]


def results(layer, x):
    y, last = layer(x, lengths=[6, 0, 3])
    (
        y.square().sum() + sum(s.sum() for s in (last if isinstance(last, tuple) else (last,)))
    ).backward()
    found = [y.detach(), *(p.grad for p in layer.parameters())]
    layer.zero_grad()
    return found


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("width", ["avx512", "avx2", "v128"])
def test_every_width_equals_the_reference(name, width):
    try:
        with forced(width):
            pass
    except EngineError as error:
        pytest.skip(str(error))
    bound = TOLERANCE["loop", torch.float64].bound
    for inputs, hidden in SIZES:
        proj = 4 if name == "lstm_projection" else 0
        layer = tt.Recurrent(
            CATALOGUE[name], inputs, hidden, proj_size=proj, dtype=torch.float64, bidirectional=True
        )
        x = torch.randn(6, 3, inputs, dtype=torch.float64)
        layer.engine = "reference"
        want = results(layer, x)
        with forced(width):
            layer.engine = "llvm"
            found = results(layer, x)
        for a, b in zip(found, want, strict=True):
            assert (a - b).abs().max() <= bound * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("target", ["avx512", "neon"])
@pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
def test_kernels_for_other_machines_compile(target, real):
    machine = GENERIC[target]
    for name in CELLS:
        job = Job(CATALOGUE[name], Sizes(3, 8, 8))
        program = Program(job, Variant(lengths=True, reset=True), real, machine)
        for kind in ("infer", "save", "backward"):
            text = assembly(program.kernel(kind).text, machine)
            assert target != "avx512" or "zmm" in text
            called = {
                line.split()[-1]
                for line in text.splitlines()
                if "\tcall" in line or "\tbl\t" in line
            }
            assert not {c for c in called if "fma" in c}, (
                "a product that is not fused calls the C library"
            )
