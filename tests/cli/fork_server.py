"""How are many real processes of the command started, without seconds of imports each?

Run as a program, this loads everything once and then forks a process for each request, a JSON
list of the command's arguments and two files for its output. `CommandServer` is the other end.
"""

import json
import os
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path

_LOADED = (
    "torch._dynamo", "tyro.extras", "throughtime.cli.main", "throughtime.cli.progress",
    "throughtime.train.run",
)  # fmt: skip

__all__ = ["Command", "CommandServer"]


class CommandServer:
    """Starts processes of `throughtime`, one after the other."""

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
        """Start a process; it must end before the next one starts."""
        self._count += 1
        files = [self._folder / f"{name}-{self._count}" for name in ("stdout", "stderr")]
        self._write([[str(a) for a in arguments], *map(str, files)])
        return Command(self, int(self.read_line()), *files)

    def _write(self, request: list) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def read_line(self) -> str:
        """What the server says next."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

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
        """Its exit status, negative for a signal."""
        self._server._write([])
        return int(self._server.read_line())

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
    try:
        status = main(arguments)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    # All that a command would load: torch's optimisers load its compiler when one is made.
    for module in _LOADED:
        import_module(module)
    pid = 0
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _work(*request)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
