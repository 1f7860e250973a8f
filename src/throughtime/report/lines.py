"""How are facts set out on a terminal, in 80 columns?"""

import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

__all__ = ["Lines", "duration", "printable", "shell_command"]

_WIDTH, _LABEL = 80, 12


class Lines:
    """Text that is set out on a console.

    Attributes:
        console: Where it is printed.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print a name and a text a row; a long text goes on below itself."""
        for name, text in rows:
            for number, line in enumerate(_wrapped(text)):
                label = Text(f"{'' if number else name:<{_LABEL}}", "bold")
                self.console.print(label.append(line, "not bold"), soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line as it is."""
        self.console.print(Text(text, style), soft_wrap=True)


def _wrapped(text: str) -> list[str]:
    """The lines of a text, each broken where it would not fit beside the labels."""
    width = _WIDTH - _LABEL
    lines = text.splitlines() or [""]
    return [part for line in lines for part in _broken(line, width)]


def _broken(line: str, width: int) -> list[str]:
    if line.endswith("\\"):  # of a command for the shell, which is broken already
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(line) or [""]


def printable(text: str) -> str:
    """The text without what would move the cursor or colour a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def duration(seconds: float) -> str:
    """A duration in words for people, such as 45s, 2m05s or 1h30m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def shell_command(words: Iterable[str], *, width: int = 68) -> str:
    r"""The words on lines of at most `width` characters, each but the last ended by " \"."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + 1 + len(word) > width - 2:
            lines.append(line + " \\")
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])
