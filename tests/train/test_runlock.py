"""Does a folder have one writer at a time, and none that is dead?"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from throughtime.errors import ConfigError, RunBusyError
from throughtime.train.runlock import RunLock

# Tries to lock each folder it is told, says how it went, and lets go when told so.
WRITER = """
import sys
from pathlib import Path
from throughtime.errors import RunBusyError
from throughtime.train.runlock import RunLock

print("ready", flush=True)
for folder in sys.stdin:
    try:
        lock = RunLock(Path(folder.strip()))
    except RunBusyError as error:
        print(error, flush=True)
        sys.stdin.readline()
    else:
        print("locked", flush=True)
        sys.stdin.readline()
        lock.release()
"""

# Locks a folder, forks a child that lives on, and dies.
PARENT = """
import os, signal, sys, time
from pathlib import Path
from throughtime.train.runlock import RunLock

lock = RunLock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

# Says how a user without any rights over the folder is told so.
UNPRIVILEGED = """
import os, sys
from pathlib import Path
from throughtime.errors import ThroughtimeError
from throughtime.train.runlock import RunLock

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    RunLock(Path(sys.argv[1]))
except ThroughtimeError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def writers():
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for writer in started:
        assert ask(writer) == "ready"
    yield started
    for writer in started:
        writer.kill()
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()


def tell(writer, line):
    writer.stdin.write(f"{line}\n")
    writer.stdin.flush()


def ask(writer):
    return writer.stdout.readline().strip()


def test_a_second_writer_is_told_who_is_the_first(tmp_path):
    folder = tmp_path / "deep" / "run"
    with RunLock(folder):
        with pytest.raises(RunBusyError) as caught:
            RunLock(folder)
        assert str(folder) in str(caught.value)
        assert f"process {os.getpid()} on {os.uname().nodename}" in str(caught.value)
    RunLock(folder).release()


def test_two_folders_have_two_writers(tmp_path):
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        pass


def test_releasing_twice_is_once(tmp_path):
    lock = RunLock(tmp_path)
    lock.release()
    with RunLock(tmp_path):
        lock.release()
        with pytest.raises(RunBusyError):
            RunLock(tmp_path)


def test_of_two_processes_that_race_one_wins(tmp_path, writers):
    for number in range(30):
        for writer in writers:
            tell(writer, tmp_path / str(number))
        answers = [ask(writer) for writer in writers]
        assert answers.count("locked") == 1, answers
        winner = writers[answers.index("locked")]
        assert f"process {winner.pid} on" in answers[1 - answers.index("locked")]
        for writer in writers:
            tell(writer, "done")


def test_the_lock_of_a_killed_process_is_free(tmp_path, writers):
    tell(writers[0], tmp_path)
    assert ask(writers[0]) == "locked"
    with pytest.raises(RunBusyError, match=f"process {writers[0].pid} on"):
        RunLock(tmp_path)
    writers[0].kill()
    writers[0].wait()
    RunLock(tmp_path).release()


def test_a_child_of_a_dead_writer_keeps_no_lock(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", PARENT, tmp_path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    child = int(ended.stdout)
    try:
        os.kill(child, 0)  # it lives
        RunLock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_holder_without_a_name_is_still_a_holder(tmp_path):
    for content in (b"", b"\0\xff", b"[]", json.dumps({"pid": "x", "host": 1}).encode()):
        with RunLock(tmp_path):
            (tmp_path / ".lock").write_bytes(content)
            begun_s = time.monotonic()
            with pytest.raises(RunBusyError, match="another process"):
                RunLock(tmp_path)
            assert time.monotonic() - begun_s < 5.0


def test_the_name_of_an_earlier_holder_is_gone(tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "x" * 200}))
    with (
        RunLock(tmp_path),
        pytest.raises(RunBusyError, match=f"process {os.getpid()} on {os.uname().nodename}"),
    ):
        RunLock(tmp_path)


def test_a_holder_that_has_just_come_is_waited_for(tmp_path):
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_bytes(b"")
        name = json.dumps({"pid": 5, "host": "far"})
        writer = threading.Timer(0.05, (tmp_path / ".lock").write_text, [name])
        writer.start()
        with pytest.raises(RunBusyError, match="process 5 on far"):
            RunLock(tmp_path)
        writer.join()


def test_a_refused_lock_leaves_no_descriptor(tmp_path):
    with RunLock(tmp_path):
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(RunBusyError):
            RunLock(tmp_path)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_the_lock_file_is_left(tmp_path):
    RunLock(tmp_path).release()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("made", ["file", "link", "folder"])
def test_a_place_that_is_no_folder_is_refused(tmp_path, made):
    folder = tmp_path / "run"
    if made == "file":
        folder.touch()
    else:
        folder.mkdir()
        lock = folder / ".lock"
        lock.mkdir() if made == "folder" else lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot write into the folder") as caught:
        RunLock(folder)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("has_lock", [False, True])
def test_a_read_only_folder_is_refused_before_anything_is_done(has_lock):
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "run"
        folder.mkdir()
        Path(outer).chmod(0o755)
        if has_lock:  # a lock file that may be written proves nothing about the folder
            (folder / ".lock").touch()
            (folder / ".lock").chmod(0o666)
        folder.chmod(0o555)
        ended = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, folder], capture_output=True, text=True, check=True
        )
        folder.chmod(0o755)
    assert ended.stdout.startswith(f"ConfigError cannot write into the folder {folder}: Permission")


def test_a_folder_on_a_read_only_disk_is_refused(tmp_path):
    mount = f"mount -t tmpfs -o ro none {tmp_path}"
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "sh", "-c", mount], check=False).returncode
    ):
        pytest.skip("this system lets a test mount no disk of its own")
    # Already without rights over others: no change of user in this one.
    script = UNPRIVILEGED.replace("os.geteuid() == 0", "False")
    ended = subprocess.run(
        [
            unshare,
            "-rm",
            "sh",
            "-c",
            f'{mount} && exec "$0" -c "$1" {tmp_path}',
            sys.executable,
            script,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("ConfigError cannot write into the folder")
    assert "Read-only file system" in ended.stdout
