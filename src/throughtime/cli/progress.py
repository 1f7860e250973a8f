"""What does a run look like while it trains?"""

import statistics
import time
from types import TracebackType

from rich import progress as bars

from throughtime.cli import words
from throughtime.cli.screen import Screen
from throughtime.flow.monitor import Reading
from throughtime.report.lines import duration, printable
from throughtime.train.loop import UpdateRecord, is_due
from throughtime.train.watch import Plan, Result, Validation, Watch

__all__ = ["Progress"]

_ROWS = 20
_SAMPLE_WIDTH = 66


class Progress(Watch):
    """Show a run: the plan, a table that grows by a row now and then, the result.

    On a terminal a bar moves below the table; a log gets the plain lines alone.
    """

    def __init__(self, *, json_only: bool) -> None:
        self.screen = Screen(json_only=json_only)
        self._horizon: Reading | None = None
        self._bar = bars.Progress(
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("updates, train {task.fields[score]}"),
            bars.TimeRemainingColumn(),
            console=self.screen.console,
            transient=True,
            disable=not self.screen.console.is_terminal,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def planned(self, plan: Plan) -> None:
        """Show the plan and the head of the table."""
        self._plan, self._options = plan, plan.config.run
        self._updates = words.updates_of(plan)
        self._begun_s = self._mark_s = time.monotonic()
        self._new_row()
        self.screen.facts(words.plan_rows(plan))
        self.screen.line()
        self.screen.line(words.units(plan), "dim")
        self.screen.line(words.head(plan), "bold")
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=self._updates, completed=plan.updates_done, score=""
        )

    def updated(self, record: UpdateRecord) -> None:
        """Move the bar; add a row now and then."""
        self._row_s += time.monotonic() - self._mark_s
        self._losses.append(record.loss)
        score = words.number(self._plan.lesson.metric_of(record.loss))
        self._bar.update(self._task, completed=record.update, score=score)
        if not record.is_finite:
            rule = self._plan.config.optimiser.nonfinite
            self.noted(f"update {record.update:,}: the gradient is not finite; rule: {rule}")
        is_validated = is_due(record.update, self._updates, self._options.validations)
        if is_due(record.update, self._updates, _ROWS) and not is_validated:
            self._row(record.update, "")
        self._mark_s = time.monotonic()

    def gauged(self, readings: list[Reading]) -> None:
        """Keep the longest horizon of a layer for the next row."""
        self._horizon = max(readings, key=lambda r: (r.horizon_steps, r.is_horizon_beyond))

    def validated(self, validation: Validation) -> None:
        """Add a row, and the start of the sample."""
        self._row(validation.update, words.number(validation.score.score))
        if validation.score.sample is not None:
            sample = " ".join(printable(validation.score.sample).split())
            self.screen.line(f"           {sample[:_SAMPLE_WIDTH]}", "dim")
        self._mark_s = time.monotonic()

    def noted(self, text: str) -> None:
        """Show a note."""
        self.screen.line(f"note: {text}", "yellow")

    def finished(self, result: Result) -> None:
        """Take the bar away and show the result."""
        self._bar.stop()
        self.screen.line()
        self.screen.facts(words.result_rows(result))

    def _row(self, update: int, valid: str) -> None:
        plan = self._plan
        made = max(update - plan.updates_done, 1)
        left_s = (self._updates - update) * (time.monotonic() - self._begun_s) / made
        train, rate = "", ""
        if self._losses:
            train = words.number(plan.lesson.metric_of(statistics.fmean(self._losses)))
            rate = f"{plan.lesson.steps_per_update * len(self._losses) / self._row_s:,.0f}"
        passes = words.passes(plan, update)
        self.screen.line(
            f"{update:>8,} {passes:>8} {train:>8} {valid:>8} {rate:>10} {duration(left_s):>8}"
            f" {words.horizon(self._horizon):>9}"
        )
        self._new_row()

    def _new_row(self) -> None:
        self._row_s, self._losses = 0.0, list[float]()
