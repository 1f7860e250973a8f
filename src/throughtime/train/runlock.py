"""How does one folder get one writer at a time?"""

import fcntl
import json
import os
import tempfile
import time
import weakref
from pathlib import Path

from throughtime.errors import ConfigError, RunBusyError
from throughtime.records import RunFolder

__all__ = ["RunLock"]

_HELD: "weakref.WeakSet[RunLock]" = weakref.WeakSet()
_PATIENCE_S = 0.5


class RunLock:
    """Hold the folder of a run, made if it is not there, until `release` or the process's death.

    The kernel frees the lock of a dead process, so nothing is ever left to clean up by hand.

        with RunLock(folder):
            ...

    Raises:
        RunBusyError: Another process holds the folder; the message names it.
        ConfigError: The folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass  # saves make new files, so a lock file that can be opened proves too little
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(RunFolder(folder).lock, flags, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _HELD.add(self)
            _write_holder(self._descriptor)
        except BlockingIOError as error:
            holder = _holder(self._descriptor)
            self.release()
            raise RunBusyError(
                f"{folder} is being written by {holder}. Wait for it, end it, or choose another "
                "folder."
            ) from error
        except OSError as error:
            self.release()
            raise ConfigError(
                f"cannot write into the folder {folder}: {error.strerror}. Make it writable, or "
                "choose another one."
            ) from error

    def release(self) -> None:
        """Let the next process have the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def _write_holder(descriptor: int) -> None:
    line = json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, line, 0)


def _holder(descriptor: int) -> str:
    """The process that the lock file names; it writes its name just after it got the lock."""
    give_up_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up_s:
        try:
            found = json.loads(os.pread(descriptor, 4096, 0))
            return f"process {int(found['pid'])} on {found['host']!s}"
        except (ValueError, KeyError, TypeError):
            time.sleep(0.01)
    return "another process"


def _drop_in_child() -> None:
    """A child of fork shares the lock; it must not keep it when the parent dies."""
    for lock in _HELD:
        lock.release()


os.register_at_fork(after_in_child=_drop_in_child)
