"""What does `throughtime compare` show, and what does it return?"""

from dataclasses import dataclass
from pathlib import Path

from throughtime.cli.command import Command
from throughtime.studies.config import CompareConfig

__all__ = ["Compare"]


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Compare cells and cures on a task: side by side, with as many updates each."""

    config: CompareConfig
    out: Path | None = None
    """Folder; runs/compare-TASK-HASH if absent. The same command goes on where it was."""
    jobs: int | None = None
    """Processes side by side; as many as there are cores if absent."""

    diagnose: bool = False
    """When all have ended, see how far back one run of each cell learns, at the longest length."""

    def __call__(self) -> int:
        """Run them; 0 when every run came to its end, 1 if one broke."""
        from throughtime.cli.contest import Contest
        from throughtime.studies.compare import compare

        with Contest(json_only=self.json) as contest:
            found = compare(self.config, self.out, contest, self.jobs, diagnose=self.diagnose)
            contest.finished(found)
        contest.screen.result({"folder": str(found.study.folder.path), **found.as_json()})
        return 1 if any(row.error for row in found.rows) else 0
