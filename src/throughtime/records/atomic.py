"""How is a file replaced so that a crash leaves the old one or the new one, never a part?

The new content goes to a scratch file in the same folder and is forced to the disk; only then
does it take the name, in one step, and the folder is forced to the disk in its turn.
"""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from throughtime.errors import CheckpointError

__all__ = ["DISK", "Disk", "replace_file"]


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Disk:
    """The system calls of a save, in one place where a test can make any of them fail."""

    create: Callable[[Path], int] = _create
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    rename: Callable[[Path, Path], None] = os.replace
    remove: Callable[[Path], None] = _remove


DISK = Disk()


def replace_file(path: Path, parts: Sequence[bytes], *, keep_as: Path | None = None) -> None:
    """Make `parts`, joined, the content of `path`, and keep its old file as `keep_as` if given.

    There must be one writer at a time. A crash between two renames leaves the old file under
    `keep_as` alone.

    Raises:
        CheckpointError: The disk is full or refuses; the old file is as it was.
    """
    # One fixed name: what a killed process left behind is removed by the next save.
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        DISK.remove(scratch)
        try:
            _write(scratch, parts)
            if keep_as is not None:
                DISK.rename(path, keep_as)
            DISK.rename(scratch, path)
        except BaseException:
            DISK.remove(scratch)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(_explain(error, path, sum(map(len, parts)))) from error


def _write(path: Path, parts: Sequence[bytes]) -> None:
    descriptor = DISK.create(path)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[DISK.write(descriptor, rest) :]
        DISK.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        DISK.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path, needed: int) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(path.parent).free
        return (
            f"no room to save {path}: {needed:,} bytes are needed, {free:,} are free. "
            "Make room, or choose another folder; what was saved before is intact."
        )
    return (
        f"cannot save {path} ({needed:,} bytes): {error.strerror}. "
        "Make the folder writable, or choose another one; what was saved before is intact."
    )
