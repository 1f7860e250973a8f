"""How are many real processes of the command started, without seconds of imports each?

Run as a program, this loads everything once and then answers requests, a JSON list a line: for
the command's arguments and two files for its output it forks a process and prints its number; for
such a number it waits and prints the exit status. `CommandServer` is the other end.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

_LOADED = (
    "torch._dynamo", "tyro.extras", "throughtime.cli.main", "throughtime.cli.progress",
    "throughtime.train.run",
)  # fmt: skip

_PATIENCE_S = 60.0
_LET_THROUGH = 99  # what `main` should have caught came through

__all__ = ["Command", "CommandServer"]


class CommandServer:
    """Starts processes of `throughtime`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, *arguments: object) -> "Command":
        """Start a process."""
        self._count += 1
        files = [self._folder / f"{name}-{self._count}" for name in ("stdout", "stderr")]
        pid = self.ask([[str(a) for a in arguments], *map(str, files)])
        return Command(self, pid, *files)

    def ask(self, request: list) -> int:
        """Send a request and return the answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


class Command:
    """A process of `throughtime` that was started."""

    def __init__(self, server: CommandServer, pid: int, stdout: Path, stderr: Path) -> None:
        self._server, self.pid, self._stdout, self._stderr = server, pid, stdout, stderr

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there: it is not reaped before `wait`."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit status, negative for a signal; one that does not end is killed in the end."""
        killer = threading.Timer(_PATIENCE_S, self.send, [signal.SIGKILL])
        killer.start()
        try:
            return self._server.ask([self.pid])
        finally:
            killer.cancel()

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._stdout.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it complained of so far."""
        return self._stderr.read_text(encoding="utf-8")


def _work(arguments: list[str], stdout: str, stderr: str) -> None:
    from throughtime.cli.main import main

    for path, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    # What a shell ran in the background would ignore Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = _LET_THROUGH
    try:
        status = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve() -> None:
    # All that a command would load: torch's optimisers load its compiler when one is made.
    for module in _LOADED:
        import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if len(request) == 1:
            _, status = os.waitpid(request[0], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _work(*request)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
