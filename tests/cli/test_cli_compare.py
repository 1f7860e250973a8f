"""Does `throughtime compare` show what is compared in eighty columns, and end in its status?"""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from report.records_for_tests import healthy
from throughtime.cli.contest import Contest
from throughtime.cli.main import main
from throughtime.errors import ConfigError
from throughtime.records import RunFolder
from throughtime.studies import compare as module
from throughtime.studies.summary import Row

CELLS = "rnn, clip(leaky(skip(gru, delays=[1, 8]), rate=0.25), norm=3)"
LONG = "clip(leaky(skip(gru,delays=[1,8]),rate=0.25),norm=3)"
FLAGS = [
    "compare",
    "recall",
    "--lengths",
    "5,16",
    "--cells",
    CELLS,
    "--updates",
    "40",
    "--seeds",
    "2",
]


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """Runs that end at once with scores of their own; one of them breaks."""
    monkeypatch.chdir(tmp_path)

    def run_missing(runs, jobs, watch):
        for place, run in enumerate(runs):
            RunFolder(run.folder).path.mkdir(parents=True)
            RunFolder(run.folder).metrics.write_text('{"update":10}\n{"update":30}\n{"upd')
            watch.running([run])
            broken = place == 3
            yield (
                run,
                Row(
                    run.variant.text,
                    run.task.length,
                    run.seed,
                    score=None if broken else 0.5 * (1 + place),
                    solved=place == 0,
                    updates=40,
                    elapsed_s=60.0,
                    error="it broke" if broken else None,
                ),
            )
            RunFolder(run.folder).metrics.unlink()

    monkeypatch.setattr(module, "_run_missing", run_missing)


def test_a_log_gets_a_line_a_run_and_the_table_once(scripted, capsys):
    assert main(FLAGS) == 1
    shown = capsys.readouterr().out
    assert "1 of 8  rnn, length 5, seed 0: 0.5, solved (1m00s)" in shown
    assert "it broke" in shown
    lines = shown.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("cell"))
    table = lines[head : head + 5]
    assert max(map(len, table)) <= 80
    assert table[1].split()[:4] == ["rnn", "5", "2/2", "1.5"]
    assert table[1].split()[-1] == "50%"
    assert "baseline    1.946 by a model without memory" in shown
    assert "picture.svg" in shown


def test_memories_stand_beside_scores(scripted, capsys, monkeypatch):
    def found(folder):
        if folder.name.startswith("clip"):
            raise ConfigError("no gates")
        return SimpleNamespace(record=healthy(60, 2))

    monkeypatch.setattr("throughtime.diagnosis.of_run.diagnose_run", found)
    assert main([*FLAGS, "--diagnose"]) == 1
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("cell"))
    table = lines[head : head + 5]
    assert max(map(len, table)) <= 80
    assert table[0].split()[-2:] == ["solved", "horizon"]
    assert [row.split()[-1] for row in table[1:]] == ["50%", "0%", "59", "0%"]
    assert table[3].split()[-2] == ">="
    assert "diagnosing a run of each of 2 cells" in shown
    assert f"{LONG}, seed 1: not diagnosed: no gates" in shown
    assert "needs       memory over so many steps: 4 at 5, 15 at 16" in shown
    assert "memory.html (horizon in steps)" in shown


def test_json_is_one_object_with_what_programs_read(scripted, capsys):
    assert main([*FLAGS, "--json"]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.out.count("\n") == 1
    assert found.keys() >= {"task", "rows", "summary", "baseline"}
    assert [r["cell"] for r in found["rows"]] == ["rnn", "rnn", LONG, LONG] * 2
    assert [r.get("error") for r in found["rows"]].count("it broke") == 1
    assert found["baseline"] == {"5": pytest.approx(1.9459, abs=1e-4), "16": found["baseline"]["5"]}


def test_a_terminal_shows_the_table_while_it_fills(scripted, monkeypatch, tmp_path):
    screen, stream = [], io.StringIO()

    def contest(*, json_only):
        made = Contest(json_only=json_only)
        made.screen.console = Console(file=stream, force_terminal=True, width=80, height=40)
        monkeypatch.setattr("throughtime.cli.contest._REFRESH_S", -1.0)
        right = made.running

        def running(runs):
            right(runs)
            plain = Console(file=io.StringIO(), width=80)
            plain.print(made._table())
            screen.append(plain.file.getvalue())

        made.running = running
        return made

    monkeypatch.setattr("throughtime.cli.contest.Contest", contest)
    assert main(FLAGS) == 1
    assert len(screen) == 8
    assert all(len(line.rstrip()) <= 80 for text in screen for line in text.splitlines())
    assert "75%" in screen[0]  # update 30 of 40, by the last whole line
    assert "0/2" in screen[0]
    assert "1 of 8 runs are done; about " in screen[1]
    assert "broken" in screen[4]
    assert "it broke" in stream.getvalue()


def test_a_users_mistake_is_one_line(capsys):
    assert main(["compare", "recall", "--cells", "leaky:clip:rnn"]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "outside all cures" in printed.err
