"""What does a cure look like while it is tried?"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from throughtime.cli.progress import Progress
from throughtime.cli.screen import Screen
from throughtime.diagnosis.cure_of_run import CureWatch
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.flow.remedies import Options
from throughtime.records.cure import CURE_FILE, CureRecord, Side, Trial
from throughtime.report.cure import options_in_words, rendered_cure
from throughtime.train.watch import Watch

__all__ = ["Treatment"]


class Treatment(CureWatch):
    """Show a cure: what is wrong, each training, and both sides.

    Attributes:
        screen: Where it is shown.
        patient: Its diagnosis, once it is there.
        diagnoses: Of the cured models, by run folder.
    """

    def __init__(self, *, json_only: bool) -> None:
        self.screen = Screen(json_only=json_only)
        self.patient: Diagnosis | None = None
        self.diagnoses: dict[str, Diagnosis] = {}
        self._json_only = json_only
        self._progress: Progress | None = None

    def __enter__(self) -> "Treatment":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, trace)

    def diagnosed(self, before: Side, planned: Sequence[Options], found: Diagnosis) -> None:
        """Say what is wrong and what will be tried."""
        self.patient = found
        self.screen.facts([
            ("patient", before.name),
            ("finding", f"{before.top.code}. {before.top.sentence}"),
            *(("cure" if not i else "", options_in_words(o)) for i, o in enumerate(planned)),
        ])

    def trying(self, options: Options) -> Watch:
        """Show the training as that of a run."""
        self.screen.line()
        self.screen.line(f"trying {options_in_words(options)}", "bold")
        self._progress = Progress(json_only=self._json_only).__enter__()
        return self._progress

    def tried(self, trial: Trial, diagnosis: Diagnosis | None) -> None:
        """Keep the diagnosis of the cured model."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None
        if diagnosis is not None and trial.after is not None:
            self.diagnoses[trial.after.name] = diagnosis

    def finished(self, record: CureRecord) -> None:
        """Show both sides, and where everything is."""
        self.screen.line()
        self.screen.console.print(rendered_cure(record))
        folders = [trial.after.name for trial in record.trials if trial.after is not None]
        self.screen.facts([("cured run" if not i else "", name) for i, name in enumerate(folders)])
        self.screen.facts([("record", str(Path(record.before.name) / CURE_FILE))])
