"""`throughtime diagnose package.module:function`: what goes to which stream, what is refused?"""

import json
import sys

import pytest

from throughtime.cli.main import main

MODULE = """
import sys
import torch
from torch import nn
import throughtime as tt

print("importing")

def last(model, x):
    print("computing")
    return model(x)[0][-1].square().mean()

def patient():
    print("making")
    torch.manual_seed(0)
    return nn.LSTM(3, 6), torch.randn(20, 4, 3), last

def trained():
    return *patient(), tt.Training(window_steps=5, state_carried=False)

def fails():
    raise KeyError("weights.pt")

def ends():
    sys.exit(3)

def pair():
    return 1, 2

class Lesson:
    make = staticmethod(patient)

number = 5

def plain():
    return nn.Linear(3, 2), torch.randn(4, 3), lambda model, x: model(x).sum()

def unfit():
    return nn.LSTM(5, 6), torch.randn(20, 4, 3), last

def many():
    return nn.LSTM(3, 6), torch.randn(20, 4, 3), lambda model, x: model(x)[0]

def broken():
    model, x, _ = patient()
    model.weight_hh_l0.data[0, 0] = float("nan")
    return model, x, last

def fickle():
    count = iter(range(1, 1000))
    return nn.LSTM(3, 6), torch.randn(20, 4, 3), lambda model, x: last(model, x) * next(count)
"""


@pytest.fixture
def diagnosed(tmp_path, monkeypatch, capsys):
    """Run the command on a name in a module `clinic.ward` of the working folder."""
    (tmp_path / "clinic").mkdir()
    for name, text in {
        "ward": MODULE,
        "lacking": "import nowhere_to_be_found",
        "wrong": "def f(:",
        "script": "raise SystemExit(2)",
    }.items():
        (tmp_path / "clinic" / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [n for n in sys.modules if n.split(".")[0] == "clinic"]:
        monkeypatch.delitem(sys.modules, name)

    def run(target, *options):
        status = main(["diagnose", target, *options])
        return status, capsys.readouterr()

    yield run
    for name in [n for n in sys.modules if n.split(".")[0] == "clinic"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["patient", "trained", "Lesson.make"])
def test_json_is_alone_on_stdout_whatever_the_users_code_prints(diagnosed, name):
    status, streams = diagnosed(f"clinic.ward:{name}", "--json", "--needs-lag", "15")
    assert status == 0
    found = json.loads(streams.out)
    assert found["layers"][0]["kind"] == "nn.LSTM"
    assert found["findings"][0]["code"] == (
        "state_not_carried" if name == "trained" else "forgetting"
    )
    for word in ("importing", "making", "computing"):
        assert word in streams.err


def test_without_json_the_users_code_prints_where_it_does(diagnosed):
    status, streams = diagnosed("clinic.ward:patient")
    assert status == 0
    assert "making" in streams.out


def test_the_report_is_written_where_it_was_asked_for(diagnosed, tmp_path):
    status, _ = diagnosed("clinic.ward:patient", "--html", "here.html")
    assert status == 0
    assert "<html" in (tmp_path / "here.html").read_text()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("clinic.ward:plain", "no recurrent layer"),
        ("clinic.ward:unfit", "batch must fit"),
        ("clinic.ward:many", "scalar"),
        ("clinic.ward:broken", "infinite or NaN"),
        ("clinic.ward:fickle", "not deterministic"),
        ("clinic.ward:fails", "clinic.ward:fails() failed: KeyError: 'weights.pt'"),
        ("clinic.ward:ends", "ended the process with 3"),
        ("clinic.ward:pair", "returned a tuple of 2; expected package.module:function"),
        ("clinic.ward:number", "has no function 'number'"),
        ("clinic.ward:nobody", "has no function 'nobody'"),
        ("clinic.ward:", "names no function"),
        (":patient", "names no function"),
        ("clinic/ward.py:patient", "such as clinic.ward:patient"),
        ("clinic.nowhere:f", "there is no module 'clinic.nowhere'. Expected"),
        ("clinic.lacking:f", "importing clinic.lacking failed: ModuleNotFoundError"),
        ("clinic.wrong:f", "importing clinic.wrong failed: SyntaxError"),
        ("clinic.script:f", "put what a script does under if __name__"),
        ("clinic.ward", "there is no run folder"),
    ],
)
def test_the_users_mistakes_are_one_line(diagnosed, target, words):
    status, streams = diagnosed(target, "--json")
    assert status == 2
    assert streams.out == ""
    last = streams.err.splitlines()[-1]
    assert last.startswith("throughtime: ")
    assert words in last
    assert "Traceback" not in streams.err
