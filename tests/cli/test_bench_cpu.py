"""Does `throughtime bench cpu` measure every row, and say it in 80 columns and in JSON?"""

import json

import pytest

from throughtime.cli.main import main
from throughtime.studies import cpu_bench, cpu_calls, diagnosis_bench
from throughtime.studies.cpu_timing import Effort, Timed

CELLS = ["rnn", "lstm", "gru", "lstm_packed", "lstm_peephole", "gru_reset_before", "user"]
PEERS = {"torch.nn", "loop", "jax"}
ROW = {"cell", "T", "B", "I", "H", "mode", "ours_ms", "peers", "share_of_mm", "mm_ms", "runs",
       "refused"}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(cpu_bench, "QUICK", Effort(0.0, 1, 1, 1, mm_size=16))
    monkeypatch.setattr(cpu_bench, "QUICK_GRID", ((3, 2, 4, 70),))
    monkeypatch.setattr(cpu_calls, "SAME_SIZES", ((3, 2, 4, 5),))
    monkeypatch.setattr(cpu_calls, "DECAY", (20, 2, 3, 4))
    monkeypatch.setattr(cpu_calls, "_IN_A_ROW", 3)
    monkeypatch.setattr(cpu_calls, "_in_new_process", lambda engine, mode: 0.25)


@pytest.mark.usefixtures("tiny")
def test_json_has_every_cell_size_and_mode(capsys):
    assert main(["bench", "cpu", "--quick", "--json", "--engine", "reference"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    found = json.loads(printed.out)
    assert set(found) == {
        "machine", "versions", "threads", "openmp", "engine", "rows", "bands", "calls",
        "first_result",
    }  # fmt: skip
    assert found["engine"] == "reference"
    assert found["machine"]["cpu"]
    assert [(r["cell"], r["H"], r["mode"]) for r in found["rows"]] == [
        (cell, 70, mode) for cell in CELLS for mode in ("train", "infer")
    ]
    for row in found["rows"]:
        assert set(row) == ROW
        assert row["refused"] == {}
        assert row["ours_ms"] > 0
        assert row["share_of_mm"] > 0
        assert set(row["peers"]) == PEERS
        assert row["peers"]["loop"] > 0
        is_torchs = row["cell"] in CELLS[:4]
        assert (row["peers"]["torch.nn"] is not None) == is_torchs
    assert len(found["bands"]) == len(CELLS) * 2 * 2
    assert [(c["name"], c["mode"]) for c in found["calls"]] == [
        (name, mode)
        for name in ("call, T=1, H=4", "user's LSTM, 3x2x4x5", "denormal, 20 steps")
        for mode in ("train", "infer")
    ]
    assert all(call["ratio"] > 0 for call in found["calls"])
    assert found["first_result"]["seconds"] == {"train": 0.25, "infer": 0.25}
    assert "gru_reset_before/3x2x4x70/train" in printed.err


@pytest.mark.usefixtures("tiny")
def test_the_tables_fit_80_columns(capsys, monkeypatch):
    def side_by_side(contestants, effort):
        seconds = {"ours": 0.02, "mm": 1e-5}
        named = {one.name: seconds.get(one.name, 1.0) for one in contestants}
        return Timed(named, dict.fromkeys(named, 1))

    monkeypatch.setattr(cpu_bench, "side_by_side", side_by_side)
    assert main(["bench", "cpu", "--quick", "--engine", "reference"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    for text in ("gru_reset_before, train, 128", "user, infer, all", "user's LSTM, 3x2x4x5, train",
                 "50 (50)",
                 "first result of a new cell", "2048-cubed torch.mm", "threads"):  # fmt: skip
        assert text in shown.out


@pytest.mark.usefixtures("tiny")
def test_only_some_rows_and_another_engine(capsys):
    arguments = ["bench", "cpu", "--quick", "--json", "--engine", "vendor"]
    assert main([*arguments, "--only", "user/3x2"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [(r["cell"], r["mode"]) for r in found["rows"]] == [("user", "train"), ("user", "infer")]
    assert found["calls"] == []
    assert found["first_result"] is None
    assert found["rows"][0]["ours_ms"] is None
    assert "cannot do this" in found["rows"][0]["refused"]["ours"]
    assert "ours: " in printed.err
    assert found["engine"] == "vendor"


@pytest.mark.usefixtures("tiny")
def test_who_computes_something_else_is_named_and_the_status_is_1(capsys, monkeypatch):
    monkeypatch.setattr(cpu_bench, "disagreement", lambda right, theirs: "y differs by 1e-2")
    assert main(["bench", "cpu", "--quick", "--only", "lstm/3x2x4x70/infer"]) == 1
    assert "torch.nn: y differs by 1e-2" in capsys.readouterr().out


def test_a_name_that_no_row_has_is_refused(capsys):
    assert main(["bench", "cpu", "--only", "nobody"]) == 2
    assert "'nobody'" in capsys.readouterr().err
    assert main(["bench", "cpu", "--seed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err


def test_bench_alone_is_that_of_the_diagnosis(capsys, monkeypatch):
    asked = []

    def run_bench(*arguments):
        asked.append(arguments[:3])
        return diagnosis_bench.DiagnosisBench([])

    monkeypatch.setattr(diagnosis_bench, "run_bench", run_bench)
    assert main(["bench"]) == 0
    assert main(["bench", "diagnosis", "--jobs", "1", "--only", "torch"]) == 0
    seed = diagnosis_bench.DRAWN_SEED
    assert asked == [(seed, None, None), (seed, 1, "torch")]
    assert "patients" in capsys.readouterr().out


@pytest.mark.parametrize("which", [[], ["cpu"]])
def test_help_fits_80_columns(which, capsys):
    assert main(["bench", *which, "--help"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
