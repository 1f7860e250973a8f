"""What does `throughtime evaluate` show?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from throughtime.cli.command import Command
from throughtime.train.config import Device

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score the model of a run: on its validation text or another text, or on its task."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run folder."""
    data: Annotated[Positional[Path | None], arg(metavar="[DATA]")] = None
    """Text file or folder; the run's own text if absent. Of that, only the validation part."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if torch sees one."""

    def __call__(self) -> int:
        """Print the score."""
        from throughtime.cli.screen import Screen
        from throughtime.train.saved import evaluate_run
        from throughtime.train.score import in_words

        screen = Screen(json_only=self.json)
        found = evaluate_run(self.run, self.data, device=self.device)
        scored = "" if found.symbols is None else f": {found.symbols:,} symbols scored"
        screen.facts([
            ("run", str(self.run)),
            ("data", found.data + scored),
            ("score", in_words(found.score, found.metric)),
            *[("", f"{name}: {value:.4f}") for name, value in found.valid.items()],
        ])
        screen.result({
            "run": str(self.run),
            "text": found.data,
            "symbols": found.symbols,
            "valid": found.valid,
        })
        return 0
