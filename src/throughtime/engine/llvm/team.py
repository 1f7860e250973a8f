"""How do several threads work on one kernel?

A kernel is `void (ptr arguments, i64 thread, i64 threads)` where `arguments` points at an array of
int64. It must be right for any number of threads, for a team may be smaller than asked.

The team is torch's own: threads of ours would fight those of torch, which spin for a while after
each of its operations. Where torch has no OpenMP that speaks GNU's protocol, a few threads of
Python's do the work.

In a process that was forked the team of the parent is gone, but OpenMP does not know and would wait
for it: there every kernel runs on one thread. Processes that are started afresh ("spawn",
"forkserver") have the whole team.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import torch

from throughtime.engine.llvm.jit import compiled
from throughtime.engine.llvm.machine import Machine, machine

__all__ = ["barrier_text", "launch", "team_size"]

Kernel = Callable[[int, int, int], None]

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_TEAM = """
define void @team(ptr %closure) nounwind {
  %kernel = load ptr, ptr %closure
  %place = getelementptr i64, ptr %closure, i64 1
  %arguments = load ptr, ptr %place
  %number = call i32 @omp_get_thread_num()
  %size = call i32 @omp_get_num_threads()
  %thread = zext i32 %number to i64
  %threads = zext i32 %size to i64
  call void %kernel(ptr %arguments, i64 %thread, i64 %threads)
  ret void
}
"""
_SPINS = 200  # looks at a flag before the core is offered to others: a few microseconds
_Closure = ctypes.c_int64 * 2  # a kernel and its arguments
_kernels: dict[int, Kernel] = {}


def launch(address: int, arguments: int, threads: int) -> None:
    """Run a kernel and wait for its end. Python's lock is released meanwhile.

    Args:
        address: Where the kernel starts.
        arguments: The address of its array of int64, which must live until the return.
        threads: How many threads are wanted, usually `team_size()` or 1.
    """
    kernel = _kernels.get(address)
    if kernel is None:
        kernel = _kernels[address] = _PROTOTYPE(address)
    if threads <= 1 or _forked:
        kernel(arguments, 0, 1)
        return
    team = _team()
    if team is None:
        _crew.run(kernel, arguments, threads)
    else:
        team(_Closure(address, arguments), threads)


def team_size() -> int:
    """How many threads torch may use.

    Returns:
        The number that `torch.set_num_threads` sets.
    """
    return torch.get_num_threads()


def barrier_text(machine: Machine) -> str:
    """The function `@barrier`, at which the threads of a kernel wait for each other.

    `void (ptr flags, i64 thread, i64 threads, i64 value)`: returns when every thread has come with
    this value or a greater one. `flags` holds an int64 for each thread, 128 bytes apart, below
    every value at the start; values rise from barrier to barrier. A thread that waits long offers
    its core to others.

    Args:
        machine: What the kernel is compiled for.

    Returns:
        The text of the function.
    """
    rest = "llvm.aarch64.hint(i32 1)" if machine.arm else "llvm.x86.sse2.pause()"
    head = "@barrier(ptr %flags, i64 %thread, i64 %threads, i64 %value)"
    return f"""define internal void {head} nounwind {{
entry:
  %offset = shl i64 %thread, 7
  %own = getelementptr i8, ptr %flags, i64 %offset
  store atomic i64 %value, ptr %own release, align 8
  br label %each
each:
  %other = phi i64 [ 0, %entry ], [ %next, %came ]
  %left = icmp slt i64 %other, %threads
  br i1 %left, label %start, label %done
start:
  %place = shl i64 %other, 7
  %flag = getelementptr i8, ptr %flags, i64 %place
  br label %look
look:
  %turn = phi i64 [ 0, %start ], [ %count, %wait ], [ %count, %yield ]
  %count = add i64 %turn, 1
  %seen = load atomic i64, ptr %flag acquire, align 8
  %there = icmp sge i64 %seen, %value
  br i1 %there, label %came, label %wait_how
wait_how:
  %long = icmp sgt i64 %turn, {_SPINS}
  br i1 %long, label %yield, label %wait
wait:
  call void @{rest}
  br label %look
yield:
  %ignored = call i32 @sched_yield()
  br label %look
came:
  %next = add i64 %other, 1
  br label %each
done:
  ret void
}}
"""


@cache
def _team() -> Callable[[ctypes.Array[ctypes.c_int64], int], None] | None:
    """What runs a closure on every thread of torch's OpenMP team, if there is one."""
    library = _openmp()
    if library is None:
        return None
    names = ("omp_get_thread_num", "omp_get_num_threads")
    symbols = {name: _address(library, name) for name in names}
    member = compiled(_TEAM, machine(), symbols).address("team")
    start = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _Closure, ctypes.c_uint, ctypes.c_uint)
    parallel = start(_address(library, "GOMP_parallel"))
    return lambda closure, threads: parallel(member, closure, threads, 0)


def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch works with: the one beside it, else the process's."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.parent / "torch.libs"):
        for path in sorted(folder.glob("lib*omp*")):
            library = _loaded(str(path))
            if library is not None:
                return library
    return _loaded(None)


def _loaded(path: str | None) -> ctypes.CDLL | None:
    """A library, if the process has it already and it speaks GNU's protocol."""
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD if path else os.RTLD_NOW)
    except OSError:
        return None
    needed = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    return library if all(hasattr(library, name) for name in needed) else None


def _address(library: ctypes.CDLL, name: str) -> int:
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address is not None
    return address


class _Crew:
    """A few threads of Python's own, for one kernel at a time."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._inboxes: list[SimpleQueue[_Job]] = []

    def run(self, kernel: Kernel, arguments: int, threads: int) -> None:
        """Run a kernel on up to a number of threads; on the caller's while others are served.

        Never on some of the threads that a kernel counts on: its barriers would wait for ever.
        """
        if not self._free.acquire(blocking=False):
            kernel(arguments, 0, 1)
            return
        try:
            self._hire(threads)
            if self._inboxes:
                _Job(kernel, arguments, self._inboxes[:threads]).run()
            else:
                kernel(arguments, 0, 1)
        finally:
            self._free.release()

    def _hire(self, threads: int) -> None:
        """Have this many threads, or as many as the system gives."""
        while len(self._inboxes) < threads:
            inbox = SimpleQueue[_Job]()
            given = (inbox, len(self._inboxes))
            try:
                threading.Thread(target=_work, args=given, daemon=True).start()
            except RuntimeError:
                return
            self._inboxes.append(inbox)


class _Job:
    """One kernel, for the first threads of a crew."""

    def __init__(self, kernel: Kernel, arguments: int, inboxes: list["SimpleQueue[_Job]"]) -> None:
        self._kernel = kernel
        self._arguments = arguments
        self._inboxes = inboxes
        self._done: list[int] = []
        self._bell = threading.Event()

    def run(self) -> None:
        """Hand the job out, and return when all of it is done, whatever signals come meanwhile."""
        interrupted = None
        try:
            self._inboxes[0].put(self)
        except BaseException as error:  # noqa: BLE001 (a signal's, after the put)
            interrupted = error
        while len(self._done) < len(self._inboxes):
            try:
                self._bell.wait(0.01)
            except BaseException as error:  # noqa: BLE001 (a signal's; the threads still run)
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def part(self, thread: int) -> None:
        """Do the part of one thread; the first one tells the others, as no signal stops it."""
        if thread == 0:
            for inbox in self._inboxes[1:]:
                inbox.put(self)
        self._kernel(self._arguments, thread, len(self._inboxes))
        self._done.append(thread)
        if len(self._done) == len(self._inboxes):
            self._bell.set()


def _work(inbox: "SimpleQueue[_Job]", thread: int) -> None:
    while True:
        inbox.get().part(thread)


def _note_fork() -> None:
    global _forked
    _forked = True


_forked = False
_crew = _Crew()
os.register_at_fork(after_in_child=_note_fork)
