r"""How does a run note what happens, so that a crash costs no more than the last line?

metrics.jsonl holds one record a line, in the order of the updates:

    {"schema":1,"kind":"train","update":20,"loss_nats":2.31,"gradient_norm":"inf"}

A line counts when its "\n" is there: what follows the last one was torn by a crash. A run that
resumes cuts the records beyond its checkpoint, writes them anew, and ends with the file of a
run that was never broken (times and what is read by the clock, "flow", apart), provided that it

- writes the records of an update before it saves the checkpoint of that update, and
- calls `sync` before it saves, so that losing power takes no record older than the checkpoint.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from throughtime.errors import CheckpointError, ConfigError
from throughtime.records.folder import SCHEMA
from throughtime.records.strict_json import dumps, loads

__all__ = ["Kind", "MetricsLog", "read_metrics"]

Kind = Literal["train", "valid", "test", "flow", "event"]


class MetricsLog:
    """A metrics.jsonl that is being written; `create` or `resume` opens it, `with` closes it."""

    def __init__(self, path: Path, descriptor: int, update: int) -> None:
        self._path, self._descriptor, self._update = path, descriptor, update

    @classmethod
    def create(cls, path: Path) -> "MetricsLog":
        """Open a new, empty log.

        Raises:
            ConfigError: There is one already, or the folder cannot be written to.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            return cls(path, os.open(path, flags, 0o666), 0)
        except FileExistsError as error:
            raise ConfigError(
                f"{path} exists: the folder holds a run already. Resume it, or choose another one."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot write {path}: {error.strerror}. Choose another folder."
            ) from error

    @classmethod
    def resume(cls, path: Path, update: int) -> "MetricsLog":
        """Open the log of a run that goes on after `update` updates, and cut what is beyond.

        Raises:
            CheckpointError: The log is missing, or a line before the cut is damaged.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(
                f"cannot go on writing {path}: {error.strerror}. "
                "Put it back, or create an empty file to go on without its records."
            ) from error
        try:
            end = 0
            for line_end, record in _whole_lines(path.read_bytes(), path):
                if record["update"] > update:
                    break
                end = line_end
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, update)

    def append(self, kind: Kind, update: int, values: Mapping[str, Any]) -> None:
        """Write one record; its line is complete when this returns, or is not there.

        Raises:
            ConfigError: The record is not one that `read_metrics` takes.
            CheckpointError: The disk is full or refuses.
        """
        record = {"schema": SCHEMA, "kind": kind, "update": update, **values}
        try:
            if len(record) < 3 + len(values):
                raise ValueError("schema, kind and update are not names for values")
            _check(record, self._update)
            line = dumps(record).encode() + b"\n"
        except ValueError as error:
            raise ConfigError(f"this is no record of {self._path}: {error}.") from error
        self._write(line)
        self._update = update

    def sync(self) -> None:
        """Force every record to the disk.

        Raises:
            CheckpointError: The disk refuses.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise CheckpointError(f"cannot save {self._path}: {error.strerror}.") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        start = os.fstat(self._descriptor).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            os.ftruncate(self._descriptor, start)  # else the next record would join this part
            raise CheckpointError(
                f"cannot write {self._path}: {error.strerror} ({len(line):,} bytes are needed). "
                "Make room, then resume the run."
            ) from error


def read_metrics(path: Path, kind: Kind | None = None) -> list[dict[str, Any]]:
    """The records in `path`, of one kind or of all; a torn last line is left out.

    Raises:
        CheckpointError: The file cannot be read, or a line is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}. Name a run's folder."
        ) from error
    return [record for _, record in _whole_lines(data, path) if kind in {None, record["kind"]}]


def _whole_lines(data: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each record, and the offset at which its line ends."""
    end, update = 0, 0
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        end += len(line) + 1
        try:
            record = _check(loads(line), update)
        except ValueError as error:
            raise CheckpointError(
                f"{path}, line {number} is damaged: {error}. Restore the file, or delete the line."
            ) from error
        update = record["update"]
        yield end, record


def _check(record: object, least_update: int) -> dict[str, Any]:
    """The record if it is one of this schema; the updates of a file never fall."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ValueError(f"it has not schema {SCHEMA}")
    if record.get("kind") not in get_args(Kind):
        raise ValueError(f"kind is {record.get('kind')!r}, not one of {', '.join(get_args(Kind))}")
    update = record.get("update")
    if type(update) is not int or update < least_update:
        raise ValueError(f"update is {update!r}, not a whole number of at least {least_update}")
    return record
