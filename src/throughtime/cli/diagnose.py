"""What does `throughtime diagnose` show, and what does it return?"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from throughtime.cli.command import Command
from throughtime.errors import ConfigError

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.diagnosis.diagnosis import Diagnosis

__all__ = ["Diagnose"]


@dataclass(frozen=True, kw_only=True)
class Diagnose(Command):
    """See how far back a model learns, what is wrong with it, and what cures it."""

    target: Annotated[Positional[str], arg(metavar="RUN|CALLABLE")]
    """Run folder, or package.module:function that returns (model, batch, loss[, training])."""
    needs_lag: int | None = None
    """Steps over which the answer depends on the input; the task's own, or as used, if absent."""
    rows: int = 8
    """Sequences on which gradients are followed."""
    seed: int = 0
    """Which ones."""
    html: Path | None = None
    """Where to write the report; report.html in a run's folder if absent."""
    open: bool = False
    """Open the report in a browser."""

    def __call__(self) -> int:
        """Print the findings and write the report."""
        from throughtime.cli.screen import Screen
        from throughtime.report.terminal import show

        screen = Screen(json_only=self.json)
        with contextlib.redirect_stdout(sys.stderr if self.json else sys.stdout):
            found = self._diagnosis()  # the user's own code may print
        path = self._written(found, screen)
        show(found.record, screen)
        if path is not None:
            screen.facts([("report", str(path))])
        if self.open and path is not None:
            import webbrowser

            if not webbrowser.open(path.resolve().as_uri()):
                screen.note(f"no browser could be started. Open {path} in one.")
        screen.result(found.record.as_json())
        return 0

    def _diagnosis(self) -> "Diagnosis":
        from throughtime.diagnosis.of_callable import looks_like_callable, made_by

        options = {"needs_lag": self.needs_lag, "rows": self.rows, "seed": self.seed}
        if looks_like_callable(self.target):
            from throughtime.diagnosis.diagnose import diagnose

            model, batch, loss, *training = made_by(self.target)
            given = {"training": training[0]} if training else {}
            return diagnose(model, batch, loss, title=self.target, **given, **options)
        folder = Path(self.target)
        if not folder.is_dir():
            raise ConfigError(
                f"there is no run folder {self.target}. Name one, such as runs/topics-lstm-1, or "
                "package.module:function that returns (model, batch, loss)."
            )
        from throughtime.diagnosis.of_run import diagnose_run

        return diagnose_run(folder, **options)

    def _written(self, found: "Diagnosis", screen: "Screen") -> Path | None:
        """Where the report was written; None where nobody asked for one, or nothing can draw."""
        path = self.html
        if path is None and Path(self.target).is_dir():
            from throughtime.cli.verdict import written_report

            return written_report(screen, found, Path(self.target) / "report.html")
        if path is None and self.open:
            path = Path("throughtime-report.html")
        if path is not None:
            found.to_html(path)
        return path
