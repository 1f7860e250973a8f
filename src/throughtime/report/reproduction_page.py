"""How are all tables told as one page of Markdown, from their results alone?"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from throughtime.report.reproduction import reaches
from throughtime.report.table_words import row_texts

__all__ = ["reproduction_page"]


def reproduction_page(
    results: Sequence[Mapping[str, Any]], missing: Sequence[str], picture: str
) -> str:
    """The page.

    Args:
        results: Of the tables that were run, in the order of the page.
        missing: Names of the tables that were not.
        picture: Where the picture of horizons lies, beside the page.
    """
    templates = Environment(
        loader=PackageLoader("throughtime.report"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    found = reaches(results)
    far = [r for r in found if r.is_far_enough]
    short = [r for r in found if not r.is_far_enough]
    return templates.get_template("reproduction.md").render(
        results=[_told(result) for result in results],
        missing=missing,
        picture=picture,
        reaches=found,
        far_solved=sum(r.is_solved for r in far),
        far_unsolved=sum(not r.is_solved for r in far),
        short_solved=[r for r in short if r.is_solved],
        short_unsolved=sum(not r.is_solved for r in short),
    )


def _told(result: Mapping[str, Any]) -> dict[str, Any]:
    rows = result["rows"]
    conditions = dict.fromkeys(row["paper_at"] for row in rows if row["paper_at"])
    return {
        **{name: result[name] for name in ("name", "claim", "source", "chosen")},
        "units": ", ".join(dict.fromkeys(row["unit"] for row in rows)),
        "conditions": "; ".join(conditions),
        "rows": [row_texts(row) for row in rows],
        "done": _done(result),
    }


def _done(result: Mapping[str, Any]) -> str:
    """How much of it was run, and where."""
    machine, runs = result["environment"], result["runs"]
    seeds = len({run["seed"] for run in runs})
    left = result["planned_runs"] - len(runs)
    parts = [
        f"{len(runs)} runs, {'one seed' if seeds == 1 else f'up to {seeds} seeds'}",
        *([f"{left} of {result['planned_runs']} are left"] if left else []),
        *([f"{n} diverged"] if (n := sum(r["ending"] == "diverged" for r in runs)) else []),
    ]
    return (
        f"{'; '.join(parts)}. {machine['cpu']}, {machine['cpu_count']} cores, "
        f"torch {machine['torch']['version']}."
    )
