"""Is a file always the old one or the new one, whatever happens while it is replaced?"""

import errno
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from throughtime.errors import CheckpointError
from throughtime.records import atomic
from throughtime.records.atomic import DISK, replace_file

OLD, NEW = b"old" * 100, [b"new" * 100, b"", b"er" * 50]

# A real kill: the process dies by SIGKILL in place of the system call number sys.argv[2].
KILLED_AT = """
import itertools, os, signal, sys
from dataclasses import fields
from pathlib import Path
from throughtime.records import atomic

steps = itertools.count()

def deadly(call):
    def step(*arguments):
        if next(steps) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return step

atomic.DISK = atomic.Disk(*(deadly(getattr(atomic.DISK, f.name)) for f in fields(atomic.Disk)))
path = Path(sys.argv[1])
keep_as = path.with_name("kept") if sys.argv[3] == "kept" else None
atomic.replace_file(path, [b"new" * 100, b"er" * 50], keep_as=keep_as)
"""


@pytest.fixture
def path(tmp_path):
    """A file with the old content, alone in its folder."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


def folder(path):
    return {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}


def count_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_new_content_replaces_the_old(path):
    replace_file(path, NEW)
    assert folder(path) == {"file": b"".join(NEW)}


def test_the_old_file_is_kept_where_asked(path):
    replace_file(path, NEW, keep_as=path.with_name("kept"))
    assert folder(path) == {"file": b"".join(NEW), "kept": OLD}


def test_short_writes_are_continued(path, monkeypatch):
    monkeypatch.setattr(atomic, "DISK", replace(DISK, write=lambda f, data: os.write(f, data[:7])))
    replace_file(path, NEW)
    assert path.read_bytes() == b"".join(NEW)


def test_the_file_gets_the_rights_of_any_new_file(path):
    before = os.umask(0o027)
    try:
        replace_file(path, NEW)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("left", ["file", "link"])
def test_what_a_killed_process_left_is_replaced_and_never_followed(path, left):
    scratch, elsewhere = path.with_name(".file.tmp"), path.with_name("elsewhere")
    elsewhere.write_bytes(b"precious")
    if left == "link":
        scratch.symlink_to(elsewhere)
    else:
        scratch.write_bytes(b"half")
    replace_file(path, NEW)
    assert folder(path) == {"file": b"".join(NEW), "elsewhere": b"precious"}


def test_a_link_that_appears_in_the_way_is_not_followed(path, monkeypatch):
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_bytes(b"precious")
    path.with_name(".file.tmp").symlink_to(elsewhere)
    monkeypatch.setattr(atomic, "DISK", replace(DISK, remove=lambda path: None))
    with pytest.raises(CheckpointError, match="File exists"):
        replace_file(path, NEW)
    assert elsewhere.read_bytes() == b"precious"
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("step", ["create", "write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_refusal_leaves_the_old_file_alone(path, monkeypatch, step, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic, "DISK", replace(DISK, **{step: refuse}))
    with pytest.raises(CheckpointError) as caught:
        replace_file(path, NEW)
    assert folder(path) == {"file": OLD}
    assert str(path) in str(caught.value)
    assert "400 bytes" in str(caught.value)
    is_full = number in {errno.ENOSPC, errno.EDQUOT}
    assert ("no room" if is_full else os.strerror(number)) in str(caught.value)


def test_a_file_size_limit_of_the_kernel_leaves_the_old_file_alone(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (310, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            replace_file(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder(path) == {"file": OLD}


def test_ctrl_c_in_the_middle_leaves_the_old_file_alone(path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "DISK", replace(DISK, fsync=interrupt))
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, NEW)
    assert folder(path) == {"file": OLD}


def test_no_descriptor_is_left_open(path, monkeypatch):
    before = count_open()
    replace_file(path, NEW)

    def refuse(*arguments):
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(atomic, "DISK", replace(DISK, fsync=refuse))
    with pytest.raises(CheckpointError):
        replace_file(path, NEW)
    assert count_open() == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="No such file or directory"):
        replace_file(tmp_path / "none" / "file", NEW)


# remove, create, write, write, fsync, the renames; then the new file is there: fsync of the folder
@pytest.mark.parametrize(("keep", "old_steps"), [("kept", 7), ("alone", 6)])
def test_a_kill_at_every_step_leaves_the_old_file_or_the_new_one(tmp_path, keep, old_steps):
    new = b"".join([b"new" * 100, b"er" * 50])
    found = []
    for step in range(20):
        path = tmp_path / str(step) / "file"
        path.parent.mkdir()
        path.write_bytes(OLD)
        command = [sys.executable, "-c", KILLED_AT, path, str(step), keep]
        ended = subprocess.run(command, check=False)
        files = folder(path)
        if ended.returncode == 0:
            assert files == {"file": new} | ({"kept": OLD} if keep == "kept" else {})
            break
        assert ended.returncode == -signal.SIGKILL
        found.append(files.get("file", files.get("kept")))
    assert found == [OLD] * old_steps + [new]
