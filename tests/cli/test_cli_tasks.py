"""Does `throughtime tasks` list every task, with what to compare a score with?"""

import json
import subprocess
import sys

import pytest

from throughtime.cells.notation import parse
from throughtime.cli.main import main
from throughtime.studies.variants import OPTIONS
from throughtime.tasks import TASKS, find_task

KEYS = {"name", "what", "length", "unit", "baseline", "needs_lag", "source", "answer", "needs_data"}


def test_the_table_has_every_task_in_eighty_columns(capsys):
    assert main(["tasks"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["task", "length", "without", "memory", "needs", "lag"]
    assert [line.split()[0] for line in lines[1::2]] == list(TASKS)
    for kind, line in zip(TASKS.values(), lines[2::2], strict=True):
        assert line == f"    {kind.what}; {kind.source}"
    assert lines[1 + 2 * list(TASKS).index("copy")].split() == [
        *("copy", "100", "0.1733", "nats", "a", "step", "110")
    ]


def test_json_is_one_object_with_what_each_task_knows_of_itself(capsys):
    assert main(["tasks", "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    found = json.loads(printed)["tasks"]
    assert [facts["name"] for facts in found] == list(TASKS)
    for facts in found:
        assert set(facts) == KEYS
        if facts["needs_data"]:
            assert facts["baseline"] is facts["needs_lag"] is None
            continue
        task = find_task(facts["name"])
        assert facts["length"] == task.length
        assert facts["baseline"] == pytest.approx(task.baseline(), rel=1e-12)
        assert facts["needs_lag"] == task.needs_lag
        assert (facts["unit"], facts["answer"]) == (task.unit, task.answer)
    assert [f["length"] for f in found if f["needs_data"]] == [None] * 6 + [200]


def test_it_needs_no_torch():
    code = (
        "import sys\nfrom throughtime.cli.main import main\n"
        "main(['tasks', '--json'])\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_names_that_compare_understands_are_listed(capsys):
    assert main(["tasks", "--cells"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:12].strip() for line in lines if line[:12].strip()][:4] == [
        *("cells", "factories", "cures", "options")
    ]
    assert main(["tasks", "--cells", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "lstm" in found["cells"]
    assert "gf_gru(layers=2, gates='all')" in found["factories"]
    for named in (*found["cures"], *found["options"]):
        parse(named.replace("CELL", "lstm"), OPTIONS)
