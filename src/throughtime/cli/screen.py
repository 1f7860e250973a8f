"""How does a command show things: on a terminal, in a plain log, or as one JSON object?"""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from throughtime.report.lines import Lines

__all__ = ["Screen"]


class Screen(Lines):
    """Where a command prints. With `--json` all but the one object goes to stderr."""

    def __init__(self, *, json_only: bool) -> None:
        self._json_only = json_only
        super().__init__(Console(stderr=json_only, highlight=False, soft_wrap=False))

    def note(self, text: str) -> None:
        """Print what the user should know but did not ask for, on stderr."""
        Console(stderr=True, highlight=False).print(Text(f"note: {text}", "yellow"), soft_wrap=True)

    def result(self, values: Mapping[str, Any]) -> None:
        """With `--json`, print `values` as the one object on stdout."""
        if self._json_only:
            json.dump(_finite(values), sys.stdout, ensure_ascii=True)
            sys.stdout.write("\n")
            sys.stdout.flush()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
