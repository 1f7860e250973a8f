"""What is said of a run's memory when it has ended? The top finding, and where the report is."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from throughtime.records import RunFolder

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.diagnosis.diagnosis import Diagnosis

__all__ = ["INSTALL_REPORT", "show_top_finding", "written_report"]

INSTALL_REPORT = "Install it with: pip install 'throughtime[report]'"


def show_top_finding(screen: "Screen", folder: Path) -> None:
    """Diagnose the model of a run, write its report, and print the first finding."""
    from throughtime.diagnosis.of_run import diagnose_run

    screen.line("diagnosing how far back it learns ...", "dim")
    found = diagnose_run(folder)
    first = found.findings[0]
    report = written_report(screen, found, RunFolder(folder).report)
    screen.facts([
        ("finding", f"{first.code.replace('_', ' ')}. {first.sentence}"),
        *([] if first.code == "healthy" else [("cure", first.cure)]),
        *([] if report is None else [("report", str(report))]),
        ("all of it", f"throughtime diagnose {folder}"),
    ])


def written_report(
    screen: "Screen", found: "Diagnosis", path: Path, others: Sequence["Diagnosis"] = ()
) -> Path | None:
    """Where the report was written; None where there is nothing to draw it with."""
    if find_spec("matplotlib") is None:
        screen.note(f"no {path.name}: matplotlib is not there to draw it. {INSTALL_REPORT}")
        return None
    found.to_html(path, others)
    return path
