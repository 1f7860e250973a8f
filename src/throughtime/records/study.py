"""Which file of a comparison lies where, and what is in its result?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from throughtime.errors import DataError
from throughtime.records.atomic import replace_file
from throughtime.records.folder import SCHEMA

__all__ = ["StudyFolder", "read_results", "write_results"]


@dataclass(frozen=True)
class StudyFolder:
    """The names of the files in the folder of one comparison."""

    path: Path

    @property
    def settings(self) -> Path:
        """What decides every run."""
        return self.path / "study.toml"

    @property
    def results(self) -> Path:
        """Every run's score, their summaries, the baseline and the settings."""
        return self.path / "results.json"

    @property
    def picture(self) -> Path:
        """The results drawn."""
        return self.path / "picture.svg"

    @property
    def report(self) -> Path:
        """The results as a page, the picture in it."""
        return self.path / "report.html"

    @property
    def memory(self) -> Path:
        """How far back each cell learns, as a page."""
        return self.path / "memory.html"

    def run(self, name: str) -> Path:
        """The folder of one run."""
        return self.path / "runs" / name


def write_results(path: Path, values: Mapping[str, Any]) -> None:
    """Write results whole; NaN and infinities become null.

    Raises:
        CheckpointError: The file cannot be written.
    """
    text = json.dumps({"schema": SCHEMA, **values}, indent=1, allow_nan=False)
    replace_file(path, [text.encode(), b"\n"])


def read_results(path: Path) -> dict[str, Any]:
    """The results that `write_results` wrote.

    Raises:
        DataError: The file is missing, damaged or of another version.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Name a comparison.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}. Run the comparison again.") from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise DataError(f"{path} is no result of schema {SCHEMA}. Run the comparison again.")
    return values
