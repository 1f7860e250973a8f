"""What does a cure look like in a terminal? Before and after, side by side, in 80 columns."""

import math
import shlex
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from throughtime.records.cure import CureRecord, Side, Trial

__all__ = ["options_in_words", "rendered_cure"]

_WIDTH = 80


def rendered_cure(record: CureRecord) -> Group:
    """The table of both sides, and what it comes to."""
    table = Table(box=None, pad_edge=False, width=_WIDTH)
    table.add_column("", ratio=1, overflow="fold")
    table.add_column(record.metric, justify="right", overflow="fold", max_width=14)
    table.add_column("first finding", no_wrap=True)
    table.add_column("horizon", justify="right", no_wrap=True)
    table.add_column("context", justify="right", no_wrap=True)
    table.add_row("before", *_cells(record.before))
    for trial in record.trials:
        table.add_row(options_in_words(trial.options), *_of_trial(trial))
    return Group(table, Text(), *(Text(line) for line in _lines(record)))


def options_in_words(options: dict[str, Any]) -> str:
    """Options as flags of `throughtime train`."""
    return " ".join(_flag(name, value) for name, value in options.items())


def _flag(name: str, value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join(["--" + name.replace("_", "-"), *(shlex.quote(str(v)) for v in values)])


def _cells(side: Side) -> tuple[str, ...]:
    score = "none" if side.score is None else f"{side.score:.4g}"
    horizon = f"{'>= ' if side.is_horizon_beyond else ''}{side.horizon_steps} steps"
    context = "none" if side.uses_steps is None else f"{side.uses_steps} steps"
    return score, side.top.code, horizon, context


def _of_trial(trial: Trial) -> tuple[str, ...]:
    if trial.after is not None:
        return _cells(trial.after)
    return "", "failed" if trial.failure else "stopped", "", ""


def _lines(record: CureRecord) -> list[str]:
    """What came of it, in words."""
    best, many = record.best, len(record.trials) > 1
    failed = [f"failed: {trial.failure}" for trial in record.trials if trial.failure]
    if best is not None and best.after is not None:
        by = f" by {options_in_words(best.options)}" if many else ""
        return [f"{record.code} is cured{by}: {_compared(record.before, best.after)}.", *failed]
    if record.signal_number is not None:
        return ["stopped; the same command goes on.", *failed]
    gone = [trial.after for trial in record.trials if trial.is_gone and trial.after is not None]
    if gone:
        text = f"{record.code} is gone, but the model is no better for it"
        return [f"{text}: {_compared(record.before, gone[0])}.", *failed]
    done = [trial.after for trial in record.trials if trial.after is not None]
    rest = f": {done[0].top.sentence}" if done else "."
    return [f"{record.code} is not cured{rest}", *failed]


def _compared(before: Side, after: Side) -> str:
    if before.score is None or after.score is None or not math.isfinite(before.score):
        return f"first finding now {after.top.code}"
    return f"score {before.score:.4g} before, {after.score:.4g} after; now {after.top.code}"
