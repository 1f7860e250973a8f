"""Where does `throughtime diagnose` leave its report, and who opens it?"""

import importlib
import webbrowser

import pytest

from report.records_for_tests import healthy
from throughtime.cli.main import main
from throughtime.diagnosis.diagnosis import Diagnosis


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """What a browser is asked to open; there is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    found = Diagnosis(healthy(12, 1), lambda model, training=None: None)
    monkeypatch.setattr("throughtime.diagnosis.of_run.diagnose_run", lambda *_, **__: found)
    monkeypatch.setattr(
        "throughtime.diagnosis.of_callable.made_by", lambda name: (None, None, None)
    )
    module = importlib.import_module(
        "throughtime.diagnosis.diagnose"
    )  # the package's is a function
    monkeypatch.setattr(module, "diagnose", lambda *_, **__: found)
    asked = []
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url))
    return asked


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["run"], "run/report.html"),
        (["run", "--html", "here.html"], "here.html"),
        (["some:model"], None),
        (["some:model", "--html", "here.html"], "here.html"),
    ],
)
@pytest.mark.parametrize("opens", [False, True])
def test_a_report_is_where_it_belongs_and_no_browser_is_no_failure(
    opened, tmp_path, capsys, words, written, opens
):
    assert main(["diagnose", *words, *(["--open"] if opens else [])]) == 0
    if written is None and opens:
        written = "throughtime-report.html"
    pages = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")]
    assert pages == ([] if written is None else [written])
    said = capsys.readouterr()
    assert ("report      " in said.out) is (written is not None)
    if opens:
        assert opened == [(tmp_path / written).as_uri()]
        assert f"no browser could be started. Open {written} in one." in said.err
    else:
        assert opened == []
