"""Whatever the README and the docstrings tell users to type works."""

import doctest
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import throughtime

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(throughtime.__path__, "throughtime.")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    marked = README.split("<!-- commands -->")[1:]
    blocks = [part.split("```bash\n")[1].split("```")[0] for part in marked]
    return [line.removeprefix(".venv/bin/") for block in blocks for line in block.splitlines()]


def test_python_examples_run_in_order(capsys):
    namespace = {}
    assert len(blocks("python")) == 5
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "decaying" in printed, "check_cell's report was to be shown"
    assert "vendor" in printed, "explain() was to be shown"


def test_the_declared_cell_takes_at_most_ten_lines():
    lines = blocks("python")[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@tt.cell"))
    assert sum(bool(line.strip()) for line in lines[start:]) <= 10


def test_commands_run_as_printed(tmp_path):
    (tmp_path / "my.txt").write_text("The cat sat on the mat, and then it sat again.\n" * 400)
    assert len(commands()) == 13
    for command in commands():
        program, *arguments = shlex.split(command)
        assert program == "throughtime"
        done = subprocess.run(
            [sys.executable, "-m", "throughtime", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip()


def test_there_are_docstring_examples():
    found = [
        e for m in MODULES for e in doctest.DocTestFinder().find(import_module(m)) if e.examples
    ]
    assert len(found) >= 3


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    assert doctest.testmod(import_module(module)).failed == 0
