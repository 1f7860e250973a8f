"""What does a table look like while it is had again, and in the end?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from throughtime.cli.screen import Screen
from throughtime.report.lines import duration
from throughtime.report.table_words import number_text, row_texts
from throughtime.studies.reproduce.conduct import ReproduceWatch, Settings
from throughtime.studies.reproduce.experiment import Experiment
from throughtime.studies.reproduce.runs import PlannedRun, Stage

__all__ = ["Progress", "listed"]

_NAME_WIDTH = 20


class Progress(ReproduceWatch):
    """A line for every step that ends, and the table at the end.

    Attributes:
        broken: Steps that broke.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen, self.broken = screen, 0
        self._runs: Sequence[PlannedRun] = ()

    def planned(
        self, experiment: Experiment, runs: Sequence[PlannedRun], settings: Settings
    ) -> None:
        """Show the plan."""
        self._runs = runs
        done = sum(run.found("train") is not None for run in runs)
        updates = sorted({run.config.run.updates or 0 for run in runs})
        self.screen.facts([
            ("table", f"{experiment.name}: {experiment.claim}"),
            ("", experiment.source),
            ("settings", experiment.chosen),
            ("plan", f"{len(runs)} runs of {', '.join(f'{n:,}' for n in updates)} updates"),
            *([("goes on", f"{done} of them are trained")] if done else []),
            ("folder", f"{settings.out} (Ctrl-C stops; the same command goes on)"),
        ])
        self.screen.line()

    def ended(self, run: PlannedRun, stage: Stage, why_not: str | None) -> None:
        """Say which step of which run ended, and what broke."""
        if why_not is not None:
            self.broken += 1
            self.screen.line(f"{run.name}: {stage.what} broke: {why_not}", "yellow")
            return
        trained = sum(one.found("train") is not None for one in self._runs)
        loss = run.values().get("loss") if stage.name == "train" else None
        said = "" if loss is None else f", loss {number_text(loss)}"
        self.screen.line(f"{trained:>4} of {len(self._runs)}  {run.name}: {stage.what} done{said}")

    def out_of_time(self) -> None:
        """Say that some is left."""
        self.screen.line(
            "the budget is spent; the same command goes on with what is left", "yellow"
        )

    def finished(self, found: Mapping[str, Any], results: Path, elapsed_s: float) -> None:
        """Show the table, and where the result is."""
        self.screen.line()
        self.screen.console.print(_table(found["rows"]))
        self.screen.facts([("ended", f"after {duration(elapsed_s)}"), ("results", str(results))])


def listed(experiments: Sequence[Experiment]) -> Table:
    """Every table: what it claims, and what it takes."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for one in experiments:
        needs = f" Needs {', '.join(one.files)}." if one.files else ""
        runs = f"{len(one.arms)} kinds of run, {one.seeds} of each."
        table.add_row(one.name, f"{one.claim} {one.source}. {runs}{needs}")
    return table


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("row", ratio=1, min_width=_NAME_WIDTH)
    for name, width in (("paper", 9), ("ours", 9), ("95 % interval", 9), ("runs", 4)):
        table.add_column(name, justify="right", max_width=width)
    table.add_column("horizon / lag", justify="right", max_width=9)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        table.add_row(*row_texts(row))
    return table
