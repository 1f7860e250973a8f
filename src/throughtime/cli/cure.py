"""What does `throughtime cure` show, and what does it return?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from throughtime.cli.command import Command
from throughtime.errors import ConfigError

if TYPE_CHECKING:
    from throughtime.cli.treatment import Treatment
    from throughtime.records.cure import CureRecord

__all__ = ["Cure"]


@dataclass(frozen=True, kw_only=True)
class Cure(Command):
    """Cure a run's first finding: train again with one thing changed, and compare."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run folder; the cured run stands beside it, in RUN-cured-N."""
    all_cures: Annotated[bool, arg(name="all")] = False
    """Try every cure that applies, each alone, instead of the first."""
    needs_lag: int | None = None
    """Steps over which the answer depends on the input; the task's own, or as used, if absent."""
    html: Path | None = None
    """Where to write the report of both sides; report.html in the cured run's folder if absent."""

    def __call__(self) -> int:
        """Cure it; 0 when that worked, 1 if not, 128 + n if signal n stopped it."""
        if not self.run.is_dir():
            raise ConfigError(
                f"there is no run folder {self.run}. Name one, such as runs/topics-lstm-1."
            )
        from throughtime.cli.treatment import Treatment
        from throughtime.diagnosis.cure_of_run import cure_run

        with Treatment(json_only=self.json) as treatment:
            record = cure_run(
                self.run, all_cures=self.all_cures, needs_lag=self.needs_lag, watch=treatment
            )
        treatment.finished(record)
        self._report(record, treatment)
        treatment.screen.result(record.as_json())
        if record.signal_number is not None:
            return 128 + record.signal_number
        return 0 if record.best is not None else 1

    def _report(self, record: "CureRecord", treatment: "Treatment") -> None:
        """Write the report of the model that was cured, or else of the first that was tried.

        The patient is drawn beside it.
        """
        from throughtime.cli.verdict import written_report
        from throughtime.records import RunFolder

        tried = [t.after for t in (record.best, *record.trials) if t is not None]
        name = next((side.name for side in tried if side is not None), None)
        if name is None:
            treatment.screen.note("no report: no cured model came to its end")
            return
        path = self.html or RunFolder(Path(name)).report
        patient = [] if treatment.patient is None else [treatment.patient]
        written = written_report(treatment.screen, treatment.diagnoses[name], path, patient)
        if written is not None:
            treatment.screen.facts([("report", str(written))])
