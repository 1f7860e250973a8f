"""How is a run kept, so that whatever ends it, it goes on from a whole file?

last.ckpt is  MAGIC | the bytes of `seal` | SHA-256 of all before it.  model.safetensors is the
bytes of `seal` alone, so that every reader of safetensors takes it.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from torch import Tensor

from throughtime.errors import CheckpointError
from throughtime.records import RunFolder
from throughtime.records.atomic import replace_file
from throughtime.train.sealed import Sealed, seal, unseal

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "load_latest",
    "load_model",
    "save_checkpoint",
    "save_model",
]

MAGIC = b"throughtime checkpoint 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_CHUNK_BYTES = 2**20


class Checkpoint(NamedTuple):
    """What `load_latest` found, and why it is not the newest, if it is not."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    path: Path
    warning: str | None


def save_checkpoint(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`, and keep the old one beside it as previous.ckpt.

    A crash at any moment leaves the old one or the new one to `load_latest`.

    Args:
        path: last.ckpt of a run folder.
        tensors: Tensors by name, of any device and any strides.
        meta: Dicts with string keys, lists, str, int, float (nan and inf too), bool and None.

    Raises:
        CheckpointError: Something in it cannot be saved, or the disk is full or refuses; the old
            checkpoints are as they were.
    """
    sealed = seal(tensors, meta)
    # A damaged file must not push out the good one that was saved before it.
    keep_as = RunFolder(path.parent).previous if _is_whole(path) else None
    replace_file(path, [MAGIC, sealed, _digest(MAGIC, sealed)], keep_as=keep_as)


def load_checkpoint(path: Path) -> Sealed:
    """The tensors, on the CPU, and the meta of a checkpoint, every hash verified.

    Raises:
        CheckpointError: The file is missing, or is not exactly what `save_checkpoint` wrote.
    """
    magic, data, digest = _read(path, head_bytes=len(MAGIC), tail_bytes=_DIGEST_BYTES)
    if magic != MAGIC:
        raise CheckpointError(f"{path} is no checkpoint: it starts with {magic!r}, not {MAGIC!r}.")
    sealed = unseal(data, str(path))  # before the hash of it all, since it names the damaged part
    if digest != _digest(magic, data):
        raise CheckpointError(f"{path} is damaged: the hash at its end is not that of the file.")
    return sealed


def load_latest(folder: Path) -> Checkpoint:
    """The newest whole checkpoint of a run; `warning` says why it is not last.ckpt, if so.

    Raises:
        CheckpointError: There is none.
    """
    files = RunFolder(folder)
    try:
        return Checkpoint(*load_checkpoint(files.last), files.last, None)
    except CheckpointError as error:
        try:
            previous = load_checkpoint(files.previous)
        except CheckpointError as other:
            raise CheckpointError(
                f"{folder} has no checkpoint to go on from: {error} {other} Start a new run."
            ) from error
        warning = f"{error} The one saved before it, {files.previous.name}, is used instead."
        return Checkpoint(*previous, files.previous, warning)


def save_model(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Replace the safetensors file at `path` by one with `tensors`, `meta` and their hashes.

    Raises:
        CheckpointError: Something in it cannot be saved, or the disk is full or refuses.
    """
    replace_file(path, [seal(tensors, meta)])


def load_model(path: Path) -> Sealed:
    """The tensors, on the CPU, and the meta that `save_model` wrote, every hash verified.

    Raises:
        CheckpointError: The file is missing, or does not hold exactly what `save_model` wrote.
    """
    _, data, _ = _read(path, head_bytes=0, tail_bytes=0)
    return unseal(data, str(path))


def _read(path: Path, *, head_bytes: int, tail_bytes: int) -> tuple[bytes, bytes, bytes]:
    """The file in three parts, read apart so that it is in memory once."""
    try:
        with _open(path) as file:
            body_bytes = os.fstat(file.fileno()).st_size - head_bytes - tail_bytes
            return file.read(head_bytes), file.read(max(body_bytes, 0)), file.read(tail_bytes)
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the memory that is free.") from error


def _is_whole(path: Path) -> bool:
    """Whether the hash at the end of `path` is that of all before it."""
    try:
        with _open(path) as file:
            digest, rest = hashlib.sha256(), os.fstat(file.fileno()).st_size - _DIGEST_BYTES
            while rest > 0 and (chunk := file.read(min(rest, _CHUNK_BYTES))):
                digest.update(chunk)
                rest -= len(chunk)
            return file.read() == digest.digest()
    except CheckpointError:
        return False


def _open(path: Path) -> BinaryIO:
    """Open a regular file: a link could lead out of the run, a pipe would wait for ever."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise CheckpointError(f"cannot open {path}: {reason}.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(f"cannot open {path}: it is not a regular file.")
    return file


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
