"""Do files and names keep the rules of the house?"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import throughtime

SOURCE = Path(throughtime.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 400, 60


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n for n in ast.walk(tree) if isinstance(n, kinds)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_are_short_and_say_what_they_answer(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(tree), "the first line says which question the file answers"
    long = [f.name for f in functions(tree) if f.end_lineno - f.lineno >= MOST_FUNCTION_LINES]
    exempt = {"__init__", "forward"}  # torch's arguments and their documentation
    assert not set(long) - exempt


def test_test_files_are_short_too():
    here = Path(__file__).parent
    lines = {path.relative_to(here): path.read_text().count("\n") for path in here.rglob("*.py")}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


def test_public_names_exist_and_are_listed():
    assert throughtime.__all__ == sorted(
        throughtime.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)
    )
    for name in throughtime.__all__:
        assert getattr(throughtime, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lstm'"):
        throughtime.lstm  # noqa: B018 (the access is the test)


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "numpy", "matplotlib", "llvmlite", "tokenizers", "rich")
    code = f"import sys, throughtime; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cells_say_where_they_come_from():
    from throughtime.cells import CATALOGUE

    assert all(cell.source for cell in CATALOGUE.values())
