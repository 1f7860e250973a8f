"""The false zero: exactly zero where an error does arrive, for every kind, size and seed."""

import json

import pytest

from throughtime.cli.main import main
from throughtime.studies import false_zero as study


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(study, "SIZES", (5, 9))
    monkeypatch.setattr(study, "SEEDS", (0, 1))


@pytest.mark.usefixtures("small")
def test_retain_grad_reads_zero_where_an_error_arrives(tmp_path, capsys):
    assert main(["demo", "false-zero", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(r["kind"], r["hidden"]) for r in found["rows"]] == [
        (kind, hidden) for kind in ("nn.RNN", "nn.LSTM", "nn.GRU") for hidden in (5, 9)
    ]
    for row in found["rows"]:
        assert row["retained_by_lag"] == [1.0] + [0.0] * 31
        assert row["true_by_lag"][0] == 1.0
        assert all(0 < low <= true <= high for low, true, high in zip(
            row["true_low"], row["true_by_lag"], row["true_high"], strict=True
        ))  # fmt: skip
        assert row["replay_error"] <= 1e-6
    assert (tmp_path / "false-zero.svg").read_text().count("exactly 0") == 1


@pytest.mark.usefixtures("small")
def test_the_table_fits_80_columns_and_the_picture_is_the_same_twice(tmp_path, capsys):
    pictures = []
    for name in ("a", "b"):
        assert main(["demo", "false-zero", "--out", str(tmp_path / name)]) == 0
        pictures.append((tmp_path / name / "false-zero.svg").read_bytes())
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 or str(tmp_path) in line for line in shown.splitlines())
    assert pictures[0] == pictures[1]


def test_options_that_it_would_not_read_are_refused(capsys):
    assert main(["demo", "false-zero", "--updates", "3"]) == 2
    assert "--updates" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_without_matplotlib_there_is_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("throughtime.cli.false_zero.find_spec", lambda name: None)
    assert main(["demo", "false-zero", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "arrives" in printed.out
    assert "throughtime[report]" in printed.err
    assert not list(tmp_path.iterdir())
