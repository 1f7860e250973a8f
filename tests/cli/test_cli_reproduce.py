"""Does `throughtime reproduce` list, refuse, run and draw?"""

import json
import shutil
from pathlib import Path

import pytest

from throughtime.cli.main import main
from throughtime.studies.reproduce.catalogue import EXPERIMENTS


def test_the_list_names_every_table(capsys):
    assert main(["reproduce", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == list(EXPERIMENTS)
    music = next(row for row in rows if row["name"] == "music")
    assert music["needs"] == ["music/JSB_Chorales.npz", "music/Nottingham.npz"]


def test_the_list_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reproduce", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("temporal-order") for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no table was named"),
        (["warp"], "Did you mean warping?"),
        (["music"], "Give --data FOLDER"),
        (["copy", "--seeds", "0"], "seeds is 0"),
        (["copy", "--budget", "soon"], "budget is 'soon'"),
        (["--page", "p.md"], "holds no result"),
    ],
)
def test_what_the_user_can_mend_is_one_line(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_quick_form_runs_draws_and_leaves_published_results_alone(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["reproduce", "copy", "--quick", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert max(map(len, told.err.splitlines())) <= 80
    assert [row["name"] for row in found["rows"]] == ["chrono", "forget bias 1"]
    assert all(row["runs"] == 1 and row["horizon_steps"] is not None for row in found["rows"])
    assert not (tmp_path / "bench").exists()

    pytest.importorskip("matplotlib")
    published = tmp_path / "bench" / "results" / "reproduce"
    published.mkdir(parents=True)
    shutil.copy(found["results"], published / "copy.json")
    assert main(["reproduce", "--page", "docs/tables.md", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert "## copy" in (tmp_path / drawn["page"]).read_text()
    assert (tmp_path / drawn["picture"]).read_text().lstrip().startswith("<?xml")


def test_the_page_in_the_docs_is_drawn_from_the_results(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    assert main(["reproduce", "--page", str(tmp_path / "reproduce.md")]) == 0
    assert (tmp_path / "reproduce.md").read_text() == (root / "docs/reproduce.md").read_text()
    assert (root / "docs/pictures/reproduce-horizons.svg").exists()
