"""How does a line of arguments become a command that runs, and an error one line?

Exit status: 0 done, 1 a fault of throughtime, 2 something the user can mend, 128 + n stopped by
signal n (130 Ctrl-C, 143 SIGTERM).
"""

import contextlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import tyro

from throughtime.cli.bench import bench
from throughtime.cli.command import Command
from throughtime.cli.compare import Compare
from throughtime.cli.cure import Cure
from throughtime.cli.demo import Demo
from throughtime.cli.diagnose import Diagnose
from throughtime.cli.doctor import Doctor
from throughtime.cli.evaluate import Evaluate
from throughtime.cli.generate import Generate
from throughtime.cli.reproduce import Reproduce
from throughtime.cli.tasks import Tasks
from throughtime.cli.train import Train
from throughtime.errors import ThroughtimeError

__all__ = ["main"]

_VERBS: dict[str, Callable[..., Command]] = {
    "train": Train,
    "evaluate": Evaluate,
    "generate": Generate,
    "diagnose": Diagnose,
    "cure": Cure,
    "compare": Compare,
    "reproduce": Reproduce,
    "tasks": Tasks,
    "demo": Demo,
    "bench": bench,
    "doctor": Doctor,
}
_DESCRIPTION = (
    "Recurrent networks for PyTorch in which you can see how far back they learn.\n"
    "`throughtime train` alone trains a character model in about two minutes."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of the process) ask for.

    Returns:
        The exit status.
    """
    # GNU OpenMP's threads spin for milliseconds while they wait, so one other busy process makes
    # training 10 to 25 times slower. With this many turns it costs 2 times, and 2 % with none.
    # Read when torch is loaded, which happens later, in the command.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    command = None
    try:
        command = _parse(arguments)
        with _leaving_on_sigterm():
            return command()
    except SystemExit as leave:
        return int(leave.code or 0)
    except KeyboardInterrupt:
        _complain("stopped at once; what was saved before is intact.")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if command is not None and command.debug:
            raise
        return _report(error)


@contextlib.contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind, as Ctrl-C does, so that what is open is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets no other thread set handlers, or have them run
        return
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parse(arguments: Sequence[str] | None) -> Command:
    complaint = io.StringIO()
    # With the encoding of what it stands for: tyro draws its boxes by it.
    explained = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8")
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(explained):
            return tyro.extras.subcommand_cli_from_dict(
                _VERBS,
                prog="throughtime",
                description=_DESCRIPTION,
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as leave:
        if leave.code:
            _complain(_one_line(complaint.getvalue()))
        explained.seek(0)
        print(_plainer(explained.read()), end="")
        raise


def _plainer(help_text: str) -> str:
    """The help without what tyro says of types, its boxes as wide as before."""
    # All verbs in a row are wider than a terminal; they are listed below.
    text = help_text.replace("{" + ",".join(_VERBS) + "}", "COMMAND")
    return re.sub(r"\{None\}\|([^\s\]]+\]?)", lambda found: found[1].ljust(len(found[0])), text)


def _report(error: Exception) -> int:
    # A full disk or a folder that cannot be written is not our fault, and can be mended.
    if isinstance(error, ThroughtimeError | OSError):
        _complain(str(error))
        return 2
    kind = type(error).__name__
    _complain(f"internal error, {kind}: {error}. Add --debug for the traceback, and report it.")
    return 1


def _complain(message: str) -> None:
    print("throughtime: " + " ".join(message.split()), file=sys.stderr)


def _one_line(box: str) -> str:
    """The text in tyro's error box, without its frame, its title and its excerpt of the help."""
    inside = [line.strip("│| ") for line in box.splitlines() if line[:1] not in "╭╰+"]
    blocks = re.split(r"[─-]{3,}", "\n".join(inside))
    said = [" ".join(b.split()).rstrip(".") for b in blocks]
    shown = [b for b in said if b and not b.startswith("Argument helptext")]
    return re.sub(r"Error parsing __tyro-dummy-inner__\S*: ", "", ". ".join(shown) + ".")
