"""Do the small records say what they should, and does reading them need no torch?"""

import subprocess
import sys

import pytest

from throughtime import __version__
from throughtime.errors import CheckpointError
from throughtime.records import (
    RunFolder,
    Sample,
    environment,
    read_environment,
    write_environment,
    write_samples,
)

TORCH = {"version": "2.13.0", "threads": 2}


def test_the_environment_comes_back(tmp_path):
    path = RunFolder(tmp_path).environment
    write_environment(path, TORCH)
    found = read_environment(path)
    assert found == environment(TORCH)
    assert found["throughtime"] == __version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"] == TORCH
    assert found["cpu"]
    assert found["cpu_count"] >= 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"schema":2}', b'{"schema":1,"schema":1}'])
def test_a_damaged_environment_is_refused(tmp_path, data):
    path = RunFolder(tmp_path).environment
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"env\.json"):
        read_environment(path)


def test_a_missing_environment_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_environment(tmp_path / "env.json")


def test_samples_are_readable(tmp_path):
    path = RunFolder(tmp_path).samples
    write_samples(path, [Sample(10, "The\n", "cat", 0.8, 1), Sample(20, "", "ä\ud800", 1.0, 2)])
    assert path.read_text(encoding="utf-8") == (
        "--- update 10, temperature 0.8, seed 1, prompt 'The\\n'\ncat\n\n"
        "--- update 20, temperature 1, seed 2, prompt ''\nä\\ud800\n"
    )


def test_records_need_neither_torch_nor_numpy():
    script = "import sys, throughtime.records; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert "throughtime.records" in ended.stdout.split()
    assert {"torch", "numpy"}.isdisjoint(ended.stdout.split())
