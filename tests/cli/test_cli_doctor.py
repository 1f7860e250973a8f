"""What does `throughtime doctor` say of the fused engine, and what happens without llvmlite?"""

import json
import subprocess
import sys

import llvmlite
import pytest
import torch

from throughtime.cli import doctor_engines
from throughtime.cli.main import main
from throughtime.engine import dispatch
from throughtime.engine.llvm import team
from throughtime.engine.llvm.machine import machine
from throughtime.errors import EngineError

HIDDEN = "import sys; sys.modules['llvmlite'] = None\n"  # an import of it raises ImportError


def findings(capsys, status=0):
    assert main(["doctor", "--json"]) == status
    return json.loads(capsys.readouterr().out)


def put_in_place(monkeypatch, sequence):
    """Have another function do the fused engine's work."""
    put = dispatch.LLVM._replace(sequence=sequence, linearised=None)
    engines = tuple(put if engine is dispatch.LLVM else engine for engine in dispatch.ENGINES)
    monkeypatch.setattr(dispatch, "ENGINES", engines)
    monkeypatch.setattr(dispatch, "LLVM", put)


def without_llvmlite(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDDEN + code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_tells_with_what_kernels_are_built(capsys):
    found = findings(capsys)
    kernels = found["kernels"]
    assert found["packages"]["llvmlite"] == llvmlite.__version__
    assert kernels["llvm"].count(".") == 2
    assert (kernels["vectors"], kernels["vector_bits"]) == (machine().name, machine().bits)
    assert kernels["threads"] == torch.get_num_threads()
    assert kernels["is_right"] is True
    assert kernels["worst_error"] < 1e-5
    assert kernels["compile_s"] >= 0
    assert found["engines"]["llvm"]["worst_error"] < 1e-12


def test_doctor_shows_what_it_found(capsys):
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"vectors of {machine().bits} bits" in shown
    assert "right: " in shown.split("compiled in")[1]


def test_every_thread_that_comes_is_counted(monkeypatch):
    monkeypatch.setattr(team, "team_size", lambda: 2)
    assert doctor_engines._who_comes() == (2, "torch's OpenMP team")
    monkeypatch.setattr(team, "_team", lambda: None)
    assert doctor_engines._who_comes() == (2, "threads of Python's")
    monkeypatch.setattr(team, "_forked", True)
    assert doctor_engines._who_comes() == (1, "the caller's own")


def test_a_fused_engine_that_is_wrong_is_found(monkeypatch, capsys):
    right = dispatch.LLVM.sequence

    def wrong(job, inputs):
        output, *states = right(job, inputs)
        return (output * (1 + 1e-4), *states)

    put_in_place(monkeypatch, wrong)
    found = findings(capsys, status=1)
    assert found["kernels"]["is_right"] is False
    assert found["engines"]["llvm"]["is_right"] is False
    assert found["engines"]["reference"]["is_right"] is True
    assert not found["is_healthy"]


def test_a_fused_engine_that_cannot_compile_is_found(monkeypatch, capsys):
    def failing(job, inputs):
        raise EngineError("LLVM does not take the generated code: no such word")

    put_in_place(monkeypatch, failing)
    assert main(["doctor"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("WRONG: LLVM does not take the generated code: no such word") == 2
    assert "computes wrongly" in shown


def test_without_llvmlite_doctor_says_what_to_do():
    code = "from throughtime.cli.main import main; sys.exit(main(['doctor']))"
    shown = " ".join(without_llvmlite(code).split())
    assert shown.count("pip install llvmlite") == 1
    assert "vectors of" not in shown
    assert "all is well, without llvm" in shown


@pytest.mark.parametrize("cell", ["lstm", "mgu"])
def test_without_llvmlite_auto_takes_another_engine(cell):
    code = f"""
import torch, throughtime as tt
from throughtime.errors import EngineError
layer = tt.Recurrent(tt.cells.CATALOGUE[{cell!r}], 3, 4, dtype=torch.float64)
x = torch.randn(5, 2, 3, dtype=torch.float64)
found = layer(x)[0]
found.sum().backward()
layer.engine = "reference"
assert torch.allclose(found, layer(x)[0], rtol=0, atol=1e-12)
layer.engine = "auto"
print(layer.explain())
layer.engine = "llvm"
try:
    layer(x)
except EngineError as error:
    print("refused:", error)
"""
    shown, _, refused = without_llvmlite(code).partition("refused: ")
    engine = {"lstm": "vendor", "mgu": "reference"}[cell]
    assert shown.startswith(engine)
    assert "not llvm: it needs llvmlite" in shown
    assert refused.startswith("engine='llvm' cannot do this: it needs llvmlite, which cannot be")
    assert "pip install llvmlite" in refused
    assert f"which chose {engine!r} here" in refused
