"""Where does a kernel's memory come from?

Fresh pages cost a quarter of a millisecond a megabyte, more than some kernels need for their work.
So buffers are kept and lent again, once nobody uses the last tensor, view or graph on them.
"""

import os
import threading
from collections import deque
from typing import Final

import torch
from torch import Tensor

from throughtime.engine.torch_internals import storage_users

__all__ = ["Pool", "borrow", "clear"]

_Kind = tuple[int, torch.dtype]

_SMALL = 16 * 1024  # bytes below which the system's allocator is fast enough
_LOOKS = 8  # how many buffers of a kind are looked at before there is a new one
_ITEM: dict[torch.dtype, int] = {torch.float32: 4, torch.float64: 8}
_LOCK = threading.Lock()  # of all pools; held for a microsecond, and never waited for to lend

# A process that is forked while another thread borrows would inherit a lock that nobody opens.
os.register_at_fork(
    before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
)


class Pool:
    """Memory that is lent again when nobody uses it any more.

    A pool knows its buffers up to a limit, those in use included; beyond it the ones that were lent
    longest ago are forgotten: freed if idle, else when their last user is done. All methods may be
    called from several threads. After a fork parent and child have a pool each.

    Args:
        limit: How many bytes the pool may know; by default 1 GiB, or an eighth of the machine's
            memory where that is less.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit: Final = _default_limit() if limit is None else limit
        self._by_kind: dict[_Kind, deque[_Buffer]] = {}
        self._known: dict[_Buffer, None] = {}
        self._bytes = 0
        self._clock = 0

    def borrow(self, numel: int, dtype: torch.dtype) -> Tensor:
        """A tensor on memory that nobody else uses; there is nothing to give back.

        It is an ordinary tensor, no view of another one. Its storage is up to a quarter larger than
        asked, which `torch.save` would write too.

        Args:
            numel: How many numbers.
            dtype: `torch.float32` or `torch.float64`.

        Returns:
            The tensor, on the CPU, aligned to 64 bytes, with any content.

        Shape:
            [numel]
        """
        size = numel * _ITEM[dtype]
        if size < _SMALL or size > self.limit:
            return torch.empty(numel, dtype=dtype, device="cpu")
        if not _LOCK.acquire(blocking=False):  # another thread, or a finalizer amid a call of ours
            return torch.empty(numel, dtype=dtype, device="cpu")
        try:
            return self._lend((numel, dtype))
        except BaseException:  # a signal's may come anywhere: start anew rather than half done
            self._drop()
            raise
        finally:
            _LOCK.release()

    @property
    def known(self) -> int:
        """How many bytes the pool knows, lent or idle."""
        return self._bytes

    def clear(self) -> None:
        """Forget every buffer: idle memory is freed, the rest when its users are done."""
        with _LOCK:
            self._drop()

    def _drop(self) -> None:
        self._by_kind.clear()
        self._known.clear()
        self._bytes = 0

    def _lend(self, kind: _Kind) -> Tensor:
        buffers = self._by_kind.get(kind)
        buffer = buffers[-1] if buffers else None
        if buffer is None or not buffer.free():
            buffer = self._idle(kind) or self._other(kind) or self._new(kind)
        self._clock = buffer.age = self._clock + 1
        return buffer.base.data

    def _idle(self, kind: _Kind) -> "_Buffer | None":
        """A buffer lent for the same before, long ago."""
        buffers = self._by_kind.get(kind)
        if buffers is None:
            return None
        for _ in range(min(_LOOKS, len(buffers))):
            buffers.rotate(-1)  # the one lent longest ago comes last
            if buffers[-1].free():
                return buffers[-1]
        return None

    def _other(self, kind: _Kind) -> "_Buffer | None":
        """A buffer of the right size that was lent for something else."""
        room = _room(kind)
        for buffer in tuple(self._known):
            if buffer.room == room and buffer.free():
                self._leave(buffer)
                buffer.become(kind)
                self._by_kind.setdefault(kind, deque()).append(buffer)
                return buffer
        return None

    def _new(self, kind: _Kind) -> "_Buffer":
        room = _room(kind)
        while self._known and self._bytes + room > self.limit:
            self._forget(min(self._known, key=lambda buffer: buffer.age))
        buffer = _Buffer(room, kind)
        self._known[buffer] = None
        self._by_kind.setdefault(kind, deque()).append(buffer)
        self._bytes += room
        return buffer

    def _forget(self, buffer: "_Buffer") -> None:
        del self._known[buffer]
        self._leave(buffer)
        self._bytes -= buffer.room

    def _leave(self, buffer: "_Buffer") -> None:
        buffers = self._by_kind[buffer.kind]
        buffers.remove(buffer)
        if not buffers:
            del self._by_kind[buffer.kind]


class _Buffer:
    """One storage, with a tensor of the kind that it was lent for last."""

    __slots__ = ("_alone", "_pointer", "_storage", "age", "base", "kind", "room")

    def __init__(self, room: int, kind: _Kind) -> None:
        self.room = room
        self.age = 0
        self._storage = torch.empty(room, dtype=torch.uint8, device="cpu").untyped_storage()
        self._pointer = self._storage.data_ptr()
        self.become(kind)
        storage = self._storage
        self._alone = storage_users(storage)

    def become(self, kind: _Kind) -> None:
        """Be a tensor of this kind. What is lent is `base.data`: only the memory is shared."""
        numel, dtype = kind
        with torch.inference_mode(mode=False):  # tensors of that mode could not be trained on
            empty = torch.empty(0, dtype=dtype, device="cpu")
            self.base = empty.set_(self._storage, 0, (numel,), (1,))
        self.kind = kind

    def free(self) -> bool:
        """Whether no tensor is in use on this memory, and it is still ours.

        A user may have resized the storage, or moved it to share it with another process.
        """
        storage = self._storage
        return (
            storage_users(storage) == self._alone
            and storage.data_ptr() == self._pointer
            and storage.nbytes() == self.room
        )


def _room(kind: _Kind) -> int:
    """The size of the buffer for a request: four sizes for each doubling, in whole pages."""
    size = kind[0] * _ITEM[kind[1]]
    step = max(1 << ((size - 1).bit_length() - 3), 4096)
    return -(-size // step) * step


def _default_limit() -> int:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        memory = 8 << 30
    return min(1 << 30, memory // 8)


_shared = Pool()
borrow, clear = _shared.borrow, _shared.clear
