"""What does `throughtime tasks` show?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from throughtime.cli.command import Command

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.tasks import Task

__all__ = ["Tasks"]

_HEAD = f"{'task':<20}{'length':>6}  {'without memory':<42}{'needs lag':>10}"


@dataclass(frozen=True, kw_only=True)
class Tasks(Command):
    """List the tasks with an answer: what is asked, and what a model without memory reaches."""

    cells: bool = False
    """List instead what can be learnt by: the names that `compare --cells` understands."""

    def __call__(self) -> int:
        """Print the tasks, two lines each, or the names of cells."""
        from throughtime.cli.screen import Screen

        screen = Screen(json_only=self.json)
        return _show_cells(screen) if self.cells else _show_tasks(screen)


def _show_cells(screen: "Screen") -> int:
    from throughtime.cells.notation import known
    from throughtime.studies.variants import OPTIONS

    found = known(OPTIONS)
    screen.facts([(group, ", ".join(names)) for group, names in found.items()])
    screen.line()
    screen.line("cure:CELL is cure(CELL, ...) as above; options stand outside all cures.", "dim")
    screen.result(found)
    return 0


def _show_tasks(screen: "Screen") -> int:
    from throughtime.tasks import TASKS

    found = [_facts(kind) for kind in TASKS.values()]
    screen.line(_HEAD, "bold")
    for facts in found:
        screen.line(_row(facts))
        screen.line(f"    {facts['what']}; {facts['source']}", "dim")
    screen.result({"tasks": found})
    return 0


def _facts(kind: "type[Task]") -> dict[str, Any]:
    """What is known of a task without its file, at the length it has by itself."""
    from throughtime.tasks.generated import GeneratedTask

    facts = {
        "name": kind.name,
        "what": kind.what,
        "length": getattr(kind, "length", None),
        "unit": kind.unit,
        "baseline": None,
        "needs_lag": None,
        "source": kind.source,
        "answer": kind.answer,
        "needs_data": not issubclass(kind, GeneratedTask),
    }
    if issubclass(kind, GeneratedTask):
        # Every generated task has a length by itself.
        task = kind()  # pyright: ignore[reportCallIssue]
        facts |= {"baseline": task.baseline(), "needs_lag": task.needs_lag}
    return facts


def _row(facts: dict[str, Any]) -> str:
    if facts["needs_data"]:
        score, lag = f"{facts['unit']}, decided by its .npz file", "-"
    else:
        score, lag = f"{facts['baseline']:.4f} {facts['unit']}", facts["needs_lag"]
    return f"{facts['name']:<20}{facts['length'] or '-':>6}  {score:<42}{lag:>10}"
