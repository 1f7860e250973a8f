"""Is there always a whole checkpoint, wherever a save is cut off?"""

import errno
import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from throughtime.errors import CheckpointError
from throughtime.records import atomic
from throughtime.train.checkpoint import load_latest, save_checkpoint

REAL = atomic.DISK


class Killed(BaseException):
    """The process is dead: nothing that it had yet to do happens, cleaning up included."""


def save(folder, update):
    save_checkpoint(folder / "last.ckpt", {"w": torch.full((50,), float(update))}, {"u": update})


def latest(folder):
    """The update of the newest whole checkpoint, whose tensors must be of the same one."""
    found = load_latest(folder)
    assert torch.equal(found.tensors["w"], torch.full((50,), float(found.meta["u"])))
    return found.meta["u"]


def damage(path):
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def make_first(folder):
    save(folder, 1)


def make_two(folder):
    save(folder, 0)
    save(folder, 1)


def make_damaged_last(folder):
    save(folder, 1)
    save(folder, 7)
    damage(folder / "last.ckpt")


def make_missing_last(folder):
    """What a kill between the two renames leaves."""
    save(folder, 1)
    (folder / "last.ckpt").rename(folder / "previous.ckpt")


BEFORE = [make_first, make_two, make_damaged_last, make_missing_last]


def disk_that(act):
    """A disk on which `act(step, call, arguments)` takes the place of each system call.

    It writes 100 bytes at most at a time, so that a save is cut off between two writes too.
    """
    steps = itertools.count()

    def step(name, call):
        def replaced(*arguments):
            if name == "write":
                arguments = (arguments[0], arguments[1][:100])
            return act(next(steps), call, arguments)

        return replaced

    names = [field.name for field in fields(atomic.Disk)]
    return atomic.Disk(**{name: step(name, getattr(REAL, name)) for name in names})


@pytest.mark.parametrize("make", BEFORE)
def test_a_kill_at_any_step_leaves_the_old_one_or_the_new_one(tmp_path, monkeypatch, make):
    found = []
    for at in itertools.count():

        def act(step, call, arguments, at=at):
            if step >= at:
                raise Killed
            return call(*arguments)

        folder = tmp_path / str(at)
        folder.mkdir()
        monkeypatch.setattr(atomic, "DISK", REAL)
        make(folder)
        monkeypatch.setattr(atomic, "DISK", disk_that(act))
        try:
            save(folder, 2)
        except Killed:
            found.append(latest(folder))
            monkeypatch.setattr(atomic, "DISK", REAL)
            save(folder, 3)  # the next process cleans up what this one left
            assert latest(folder) == 3
            assert {path.name for path in folder.iterdir()} <= {"last.ckpt", "previous.ckpt"}
        else:
            assert latest(folder) == 2
            break
    assert found == sorted(found)
    assert set(found) == {1, 2}
    assert len(found) > 12


@pytest.mark.parametrize("make", BEFORE)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_refusal_at_any_step_leaves_a_whole_one_and_no_scratch(
    tmp_path, monkeypatch, make, number
):
    for at in itertools.count():

        def act(step, call, arguments, at=at):
            if step == at:
                raise OSError(number, os.strerror(number))
            return call(*arguments)

        folder = tmp_path / str(at)
        folder.mkdir()
        monkeypatch.setattr(atomic, "DISK", REAL)
        make(folder)
        monkeypatch.setattr(atomic, "DISK", disk_that(act))
        try:
            save(folder, 2)
        except CheckpointError as error:
            is_told = str(folder / "last.ckpt") in str(error) and " bytes" in str(error)
            assert is_told
        else:
            break
        assert latest(folder) in {1, 2}
        assert {path.name for path in folder.iterdir()} <= {"last.ckpt", "previous.ckpt"}
    assert at > 12
    assert latest(folder) == 2


# ----------------------------------------------------------------------- loss of power


def recorded(trace):
    """A disk that notes what is done to which name, and does it."""

    def act(step, call, arguments):
        names = [
            Path(a).name if isinstance(a, Path) else Path(f"/proc/self/fd/{a}").readlink().name
            for a in arguments
            if not isinstance(a, memoryview)
        ]
        data = [bytes(a) for a in arguments if isinstance(a, memoryview)]
        trace.append((call.__name__, *names, *data))
        return call(*arguments)

    return disk_that(act)


def after_power_loss(trace, folder_name, before):
    """Every content of the folder that a loss of power may leave after the last step of `trace`.

    A file holds what was forced to the disk and any part of the rest; the names are those that
    were forced to the disk with the folder, and any further steps of it in their order.
    """
    synced = [i for i, step in enumerate(trace) if step == ("fsync", folder_name)]
    for kept_steps in range(synced[-1] + 1 if synced else 0, len(trace) + 1):
        for kept_part in (0.0, 0.5, 1.0):
            yield _replayed(trace, before, kept_steps, kept_part)


def _replayed(trace, before, kept_steps, kept_part):
    files = {name: [data, len(data)] for name, data in before.items()}  # content, bytes forced
    seen, kept = dict(files), dict(files)  # names before and after the loss
    for index, (call, name, *rest) in enumerate(trace):
        if call == "write":
            seen[name][0] += rest[0]
        elif call == "fsync" and name in seen:
            seen[name][1] = len(seen[name][0])
        elif call == "_create":
            seen[name] = [b"", 0]
        for names in (seen, kept) if index < kept_steps else (seen,):
            if call == "_create":
                names[name] = seen[name]
            elif call == "replace" and name in names:
                names[rest[0]] = names.pop(name)
            elif call == "_remove":
                names.pop(name, None)
    return {
        name: data[: forced + int((len(data) - forced) * kept_part)]
        for name, (data, forced) in kept.items()
    }


@pytest.mark.parametrize("make", BEFORE)
def test_a_loss_of_power_at_any_step_leaves_a_whole_one(tmp_path, monkeypatch, make):
    folder, lost = tmp_path / "run", tmp_path / "lost"
    folder.mkdir()
    make(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    trace = []
    monkeypatch.setattr(atomic, "DISK", recorded(trace))
    save(folder, 2)
    states = 0
    for length in range(len(trace) + 1):
        for content in after_power_loss(trace[:length], folder.name, before):
            shutil.rmtree(lost, ignore_errors=True)
            lost.mkdir()
            for name, data in content.items():
                (lost / name).write_bytes(data)
            # Once the save has returned, the new one must be there.
            assert latest(lost) in ({2} if length == len(trace) else {1, 2})
            states += 1
    assert states > 100


# ----------------------------------------------------------------------- a real full disk

FULL = """
import sys
from pathlib import Path
import torch
from throughtime.errors import CheckpointError
from throughtime.train.checkpoint import load_latest, save_checkpoint

folder = Path(sys.argv[1])
save_checkpoint(folder / "last.ckpt", {"w": torch.ones(4000)}, {"update": 1})
try:
    save_checkpoint(folder / "last.ckpt", {"w": torch.ones(40_000)}, {"update": 2})
except CheckpointError as error:
    print(error)
print(load_latest(folder).meta, sorted(path.name for path in folder.iterdir()))
save_checkpoint(folder / "last.ckpt", {"w": torch.ones(4000)}, {"update": 3})
print(load_latest(folder).meta)
"""


def test_a_full_disk_leaves_the_old_one(tmp_path):
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "sh", "-c", mount], check=False).returncode
    ):
        pytest.skip("this system lets a test mount no small disk of its own")
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}'
    ended = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, sys.executable, FULL],
        capture_output=True,
        text=True,
        check=True,
    )
    error, after, later = ended.stdout.splitlines()
    assert error.startswith(f"no room to save {tmp_path / 'last.ckpt'}: 160,")
    assert "bytes are needed" in error
    assert after == "{'update': 1} ['last.ckpt']"
    assert later == "{'update': 3}"
