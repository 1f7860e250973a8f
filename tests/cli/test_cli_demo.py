"""Does `throughtime demo vanishing` end with a page, numbers and a summary that fits a terminal?"""

import json
import os
import signal
import subprocess
import sys
import webbrowser

import pytest

from throughtime.cli import demo
from throughtime.cli.main import main
from throughtime.studies import vanishing as study

COLUMNS = 80


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Printed lines and the folder of a demo with two updates."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["demo", "vanishing", "--updates", "2", "--out", str(folder)]) == 0
    return out.getvalue(), folder


def test_help_loads_nothing_heavy_and_explains_every_flag():
    code = (
        "import sys\nfrom throughtime.cli.main import main\n"
        "status = main(['demo', '--help'])\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'rich', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(len(line) <= COLUMNS for line in done.stdout.splitlines())
    said = " ".join(done.stdout.replace("│", "").split())
    for text in (
        "vanishing: tanh, leaky",
        "--out PATH Folder",
        "--updates INT Updates",
        "--seed INT Seed",
    ):
        assert text in said


def test_the_summary_fits_a_terminal_and_names_the_page(shown):
    text, folder = shown
    lines = text.splitlines()
    assert all(len(line) <= COLUMNS for line in lines if str(folder) not in line)
    assert str(folder / "vanishing.html") in text
    for name in study.NAMES.values():
        assert any(line.startswith(name) for line in lines)
    for word in ("horizon", "share at lag 32", "solved", "cliff", "next", "throughtime compare"):
        assert word in text


def test_the_page_has_both_pictures(shown):
    page = (shown[1] / "vanishing.html").read_text()
    assert page.count("<svg") == 2
    assert sorted(p.name for p in shown[1].iterdir()) == ["vanishing.html"]


def test_json_is_one_object_with_a_row_a_cell(tmp_path, capsys):
    flags = ["--updates", "2", "--out", str(tmp_path), "--json"]
    assert main(["demo", "vanishing", *flags]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.out.count("\n") == 1
    assert [row["cell"] for row in found["rows"]] == ["rnn", "leaky:rnn", "lstm", "gru"]
    for row in found["rows"]:
        assert {"horizon_before_steps", "horizon_after_steps", "score", "is_solved"} <= row.keys()
    assert found["bound_factor"] == found["rows"][0]["bound_factor_after"] > 0
    assert found["page"] == str(tmp_path / "vanishing.html")
    assert found["elapsed_s"] > 0
    assert found["cliff"]["clip_norm"] == 1.0


def test_open_shows_the_page(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    flags = ["--updates", "1", "--out", str(tmp_path), "--open"]
    assert main(["demo", "vanishing", *flags]) == 0
    assert opened == [(tmp_path / "vanishing.html").as_uri()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--updates", "0"], "updates is 0; expected a whole number of at least 1"),
        (["--seed", "-1"], "seed is -1; expected a whole number of at least 0"),
    ],
)
def test_counts_without_a_meaning_are_refused(capsys, arguments, said):
    assert main(["demo", "vanishing", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_there_is_no_other_demo(capsys):
    assert main(["demo", "exploding"]) == 2
    assert "vanishing" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert main(["demo", "vanishing", "--out", str(tmp_path)]) == 2
    assert "pip install 'throughtime[report]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise AssertionError("it has begun")

    monkeypatch.setattr(study, "vanishing", fail)
    (tmp_path / "file").write_text("")
    assert main(["demo", "vanishing", "--out", str(tmp_path / "file" / "out")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_ctrl_c_leaves_no_part_of_a_page(tmp_path, monkeypatch, capsys):
    made = study.make_update

    def interrupted(state, *arguments):
        if state.update == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return made(state, *arguments)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(study, "make_update", interrupted)
    try:
        assert main(["demo", "vanishing", "--updates", "3", "--out", str(tmp_path)]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
