"""How are the numbers of a table written for people?"""

from collections.abc import Mapping
from typing import Any

__all__ = ["number_text", "row_texts"]

_WHOLE_FROM = 1_000.0
_POWER_FROM = 1e7  # a loss that broke loose, in as little room as others


def row_texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row: name, paper, ours, interval, runs, horizon over lag, verdict."""
    return (
        row["name"],
        _paper_text(row["paper"]),
        number_text(row["ours"]),
        _interval_text(row),
        str(row["runs"]),
        _horizon_text(row),
        row["verdict"] or "",
    )


def _horizon_text(row: Mapping[str, Any]) -> str:
    """The memory horizon in steps, with a sign where it is as far as there are steps.

    And the lag that the task needs, where that is known.
    """
    if row.get("horizon_steps") is None:
        return ""
    needed = f" / {row['needs_lag']:,}" if row["needs_lag"] else ""
    return f"{'≥ ' if row['is_horizon_beyond'] else ''}{row['horizon_steps']:,}{needed}"


def number_text(value: float | None) -> str:
    """A number with four figures, or whole where it can be read so; nothing for none."""
    if value is None:
        return ""
    is_whole = _WHOLE_FROM <= abs(value) < _POWER_FROM
    return f"{value:,.0f}" if is_whole else f"{value:.4g}"


def _interval_text(row: Mapping[str, Any]) -> str:
    """The 95 % interval of a row's mean; nothing where there is none."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{row['low']:.3g} to {row['high']:.3g}"


def _paper_text(value: float | str | None) -> str:
    """What the paper has, as it has it."""
    return "" if value is None else str(value)
