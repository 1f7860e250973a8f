"""What does a comparison look like while it runs?"""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.live import Live
from rich.table import Table
from rich.text import Text

from throughtime.cli.screen import Screen
from throughtime.records import RunFolder
from throughtime.report.lines import duration
from throughtime.studies.comparison import CompareWatch, Comparison, Planned, Study
from throughtime.studies.summary import Row, Summary, summaries

__all__ = ["Contest"]

_REFRESH_S = 1.0
_TAIL_BYTES = 4096


class Contest(CompareWatch):
    """Show a comparison: the plan, a table that fills, the result.

    On a terminal the table lives; a log gets a line for every run that ends, and the table once.
    """

    def __init__(self, *, json_only: bool) -> None:
        self.screen = Screen(json_only=json_only)
        self._rows: list[Row] = []
        self._running: Sequence[Planned] = ()
        self._shown_s = self._begun_s = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> "Contest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def timing(self, runs: int) -> None:
        """Say what takes a while before the first run."""
        self.screen.line(f"timing 20 updates of {runs} kinds of run ...", "dim")

    def planned(self, study: Study, rows: Sequence[Row]) -> None:
        """Show the plan."""
        self._study, self._rows = study, list(rows)
        task, left = study.tasks[0], len(study.runs) - len(rows)
        lengths = ", ".join(str(t.length) for t in study.tasks)
        self.screen.facts([
            ("task", f"{task.name}, length {lengths}: {task.unit}, lower is better"),
            ("", task.source),
            *([("needs", needs)] if (needs := _needs(study)) else []),
            ("baseline", _baselines(study)),
            (
                "plan",
                f"{len(study.runs)} runs of {study.updates:,} updates, {study.jobs} at a time",
            ),
            *([("goes on", f"{len(rows)} of them are done, {left} are left")] if rows else []),
            ("folder", f"{study.folder.path} (Ctrl-C stops; the same command goes on)"),
        ])
        self.screen.line()
        if self.screen.console.is_terminal:
            self._live = Live(self._table(), console=self.screen.console, auto_refresh=False)
            self._live.start()

    def running(self, runs: Sequence[Planned]) -> None:
        """Redraw the table now and then."""
        self._running = runs
        if self._live is not None and time.monotonic() - self._shown_s > _REFRESH_S:
            self._shown_s = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def ended(self, row: Row) -> None:
        """Take a run's score into the table; a log gets a line."""
        self._rows.append(row)
        if self._live is None:
            self.screen.line(_line(row, len(self._rows), len(self._study.runs)))
        elif row.error is not None:
            self._show(f"{row.cell}, seed {row.seed}: {row.error}", "yellow")

    def diagnosing(self, runs: Sequence[Planned]) -> None:
        """Say what takes a while after the last run."""
        self._show(f"diagnosing a run of each of {len(runs)} cells ...", "dim")

    def not_diagnosed(self, run: Planned, why: str) -> None:
        """Say why a cell has no horizon."""
        self._show(f"{run.variant.text}, seed {run.seed}: not diagnosed: {why}", "yellow")

    def _show(self, text: str, style: str) -> None:
        """Print a line, above the table where it lives."""
        console = self.screen.console if self._live is None else self._live.console
        console.print(Text(text, style), soft_wrap=self._live is None)

    def finished(self, found: Comparison) -> None:
        """Show the table for the last time, and where everything is."""
        self._rows, self._running = list(found.rows), ()
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            self._live = None
        else:
            self.screen.console.print(self._table())
        folder = found.study.folder
        drawn = [("report", str(folder.report)), ("picture", str(folder.picture))]
        if not folder.report.exists():
            needs = "needs matplotlib: pip install 'throughtime[report]', then the same command"
            drawn = [("report", needs)]
        if folder.memory.exists():
            drawn.append(("memory", f"{folder.memory} (horizon in steps)"))
        self.screen.facts([
            ("ended", f"after {duration(time.monotonic() - self._begun_s)}"),
            *drawn,
            ("results", str(folder.results)),
        ])

    def _table(self) -> Table:
        table = Table(
            box=None,
            pad_edge=False,
            width=min(80, self.screen.console.width),
            caption_justify="left",
        )
        table.add_column("cell", ratio=1, no_wrap=True, overflow="ellipsis")
        for name in ("length", "runs", "mean", "95 % interval", "solved"):
            table.add_column(name, justify="right", no_wrap=True)
        horizons = self._horizons()
        if horizons:
            table.add_column("horizon", justify="right", no_wrap=True)
        else:
            table.add_column("now", no_wrap=True)
        found = {(s.cell, s.length): s for s in summaries(self._rows)}
        for task in self._study.tasks:
            for variant in self._study.variants:
                summary = found.get((variant.text, task.length))
                now = [r for r in self._running if (r.variant, r.task) == (variant, task)]
                cells = self._cells(variant.text, task.length, summary)
                progress = " ".join(f"{_share(run, self._study.updates):.0%}" for run in now)
                at = (variant.text, task.length)
                table.add_row(*cells, horizons.get(at, "") if horizons else progress)
        table.caption = self._left()
        return table

    def _left(self) -> str:
        """How many runs are done, and how long the rest will take if they are like these."""
        done, runs = len(self._rows), len(self._study.runs)
        if done in {0, runs}:
            return ""
        mean_s = statistics.fmean(row.elapsed_s for row in self._rows)
        left_s = (runs - done) * mean_s / self._study.jobs
        return f"{done} of {runs} runs are done; about {duration(left_s)} left"

    def _horizons(self) -> dict[tuple[str, int], str]:
        """How far back cells learn, in steps, when nothing runs any more."""
        if self._running:
            return {}
        return {
            (r.cell, r.length): f"{'>= ' if r.is_horizon_beyond else ''}{r.horizon_steps:,}"
            for r in reversed(self._rows)  # the first seed stays
            if r.horizon_steps is not None
        }

    def _cells(self, name: str, length: int, summary: Summary | None) -> tuple[str, ...]:
        seeds = self._study.config.seeds
        if summary is None:
            return (name, str(length), f"0/{seeds}", "", "", "")
        interval = ""
        if summary.low is not None and summary.high is not None:
            interval = f"{summary.low:.3g} to {summary.high:.3g}"
        mean = "broken" if summary.mean is None else f"{summary.mean:.4g}"
        runs = f"{summary.runs}/{seeds}"
        solved = f"{summary.success_rate:.0%}"
        return (name, str(length), runs, mean, interval, solved)


def _needs(study: Study) -> str:
    """Over how many steps answers depend on the input."""
    lags = {t.length: t.needs_lag for t in study.tasks}
    if not any(lags.values()):
        return ""
    listed = ", ".join(f"{lag} at {length}" for length, lag in lags.items())
    return f"memory over so many steps: {listed}"


def _baselines(study: Study) -> str:
    values = {t.length: t.baseline() for t in study.tasks}
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):.4g} by a model without memory"
    listed = ", ".join(f"{value:.4g} at {length}" for length, value in values.items())
    return f"by a model without memory: {listed}"


def _line(row: Row, done: int, runs: int) -> str:
    said = row.error if row.score is None else f"{row.score:.4g}{', solved' if row.solved else ''}"
    at = f"{row.cell}, length {row.length}, seed {row.seed}"
    return f"{done:>4} of {runs}  {at}: {said} ({duration(row.elapsed_s)})"


def _share(run: Planned, updates: int) -> float:
    """The part of its updates that a run has made, by the last whole line of its record."""
    _, _, last = _tail(RunFolder(run.folder).metrics).rpartition(b"\n")[0].rpartition(b"\n")
    return min(1.0, json.loads(last)["update"] / updates) if last else 0.0


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
