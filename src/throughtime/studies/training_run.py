"""How does a study train one model? By the public command, and by the file that it prints into."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from throughtime.records import RunFolder
from throughtime.studies.processes import Command
from throughtime.train.config import TrainConfig
from throughtime.train.explicit import explicit_command

__all__ = ["last_words", "printed", "throughtime", "train_command"]


def throughtime(name: str, words: list[str], output: Path) -> Command:
    """A verb of ours as a process, its JSON in `output` and its complaints beside that."""
    arguments = (sys.executable, "-m", "throughtime", *words, "--json")
    return Command(name, arguments, output, output.with_suffix(".log"))


def train_command(name: str, config: TrainConfig, folder: Path) -> Command:
    """The public command that trains a run, or goes on with it."""
    if RunFolder(folder).config.exists():
        words = ["train", "--resume", str(folder)]
    else:
        flags = shlex.split(" ".join(explicit_command(config)))[2:]
        words = ["train", *flags, "--out", str(folder)]
    return throughtime(name, words, folder.with_suffix(".json"))


def printed(output: Path) -> dict[str, Any] | None:
    """The object that a process printed, if it did."""
    try:
        found = json.loads(output.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def last_words(command: Command, status: int) -> str:
    """Why a process printed nothing: the last line of its complaints."""
    lines = command.errors.read_text(errors="replace").splitlines()
    said = [line for line in lines if line.strip()]
    return said[-1] if said else f"exit status {status}"
