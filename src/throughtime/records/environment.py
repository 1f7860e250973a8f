"""With what was a run made?"""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from throughtime import __version__
from throughtime.errors import CheckpointError
from throughtime.records.atomic import replace_file
from throughtime.records.folder import SCHEMA
from throughtime.records.strict_json import dumps, loads

__all__ = ["environment", "read_environment", "write_environment"]


def environment(torch: dict[str, Any]) -> dict[str, Any]:
    """Versions and machine, with the facts about torch (version, threads, device) as given."""
    return {
        "schema": SCHEMA,
        "throughtime": __version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "safetensors": version("safetensors"),
        "torch": torch,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
    }


def write_environment(path: Path, torch: dict[str, Any]) -> None:
    """Write `environment(torch)` to `path`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    replace_file(path, [dumps(environment(torch), indent=2).encode() + b"\n"])


def read_environment(path: Path) -> dict[str, Any]:
    """What `write_environment` wrote to `path`.

    Raises:
        CheckpointError: The file is missing, damaged, or has another schema.
    """
    try:
        found = loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}. Name a run's folder."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}. Delete it.") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no record of schema {SCHEMA}. Delete it.")
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
