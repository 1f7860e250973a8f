"""How are many commands run side by side, so that one that breaks does not sink the rest?"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Ended", "cores", "run_all"]

_POLL_S = 0.2

# A run that is told to stop saves first; what has not gone by then is killed.
_LEAVE_S = 60.0


@dataclass(frozen=True)
class Command:
    """What one process runs.

    Attributes:
        name: What it is, for people.
        arguments: The program and its arguments.
        output: File that gets its standard output.
        errors: File that gets its standard error.
    """

    name: str
    arguments: tuple[str, ...]
    output: Path
    errors: Path


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its place among the commands, and its exit status."""

    place: int
    status: int


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    commands: Sequence[Command], jobs: int, watch: Callable[[Sequence[int]], None]
) -> Iterator[Ended]:
    """Run commands, at most `jobs` at a time, and yield each as it ends.

    However the caller leaves, the processes still running are told to stop (SIGTERM) and awaited.

    Args:
        commands: What to run.
        jobs: Processes side by side; each gets an even share of the cores.
        watch: Called now and then with the places of the commands that are running.
    """
    waiting = list(enumerate(commands))[::-1]
    running: dict[int, subprocess.Popen[bytes]] = {}
    with _stopping(running):
        while waiting or running:
            while waiting and len(running) < jobs:
                place, command = waiting.pop()
                running[place] = _started(command, max(1, cores() // jobs))
            for place, process in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    yield Ended(place, process.returncode)
            watch(list(running))
            time.sleep(_POLL_S if running else 0.0)


def _started(command: Command, threads: int) -> subprocess.Popen[bytes]:
    shares = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command.output.parent.mkdir(parents=True, exist_ok=True)
    with command.output.open("wb") as output, command.errors.open("wb") as errors:
        # In a session of its own, so that Ctrl-C reaches the parent alone, which passes it on once.
        return subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=os.environ | shares,
            start_new_session=True,
        )


@contextmanager
def _stopping(running: dict[int, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + _LEAVE_S
        for process in running.values():
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
