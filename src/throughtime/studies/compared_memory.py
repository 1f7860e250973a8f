"""How far back does each cell of a comparison learn? One run of each, diagnosed side by side."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from throughtime.errors import DataError, ThroughtimeError
from throughtime.records import StudyFolder, read_results
from throughtime.records.atomic import replace_file
from throughtime.records.diagnosis import DiagnosisRecord
from throughtime.studies.comparison import CompareWatch, Planned, Study
from throughtime.studies.summary import Row

__all__ = ["Memory", "diagnose_cells", "known_memories", "remembering"]


class Memory(NamedTuple):
    """How far back the layer of a model learns that reaches farthest.

    Attributes:
        horizon_steps: The largest horizon of its layers.
        is_horizon_beyond: Whether it is as far as there are steps.
    """

    horizon_steps: int
    is_horizon_beyond: bool


def diagnose_cells(study: Study, rows: dict[Planned, Row], watch: CompareWatch) -> None:
    """Say how far back each cell learns: by its first seed, at the longest length.

    The first record is drawn as a page, those of the other cells over it.

    Args:
        study: All of whose runs have ended.
        rows: Their rows; those of the runs that are diagnosed are replaced.
        watch: Told which are diagnosed, and which cannot be.
    """
    from throughtime.report.page import diagnosis_page

    runs = _first_runs(study, rows)
    watch.diagnosing(runs)
    records = []
    for run in runs:
        record = _record(run, watch)
        if record is not None:
            records.append(record)
            rows[run] = remembering(rows[run], _memory_of(record))
    if records:
        page = diagnosis_page(records[0], records[1:])
        replace_file(study.folder.memory, [page.encode()])


def _first_runs(study: Study, rows: Mapping[Planned, Row]) -> list[Planned]:
    """The first run of each cell that came to its end at the longest length, in their order."""
    longest = max(task.length for task in study.tasks)
    found: dict[str, Planned] = {}
    for run in study.runs:
        if run.task.length == longest and rows[run].error is None:
            found.setdefault(run.variant.text, run)
    return [found[variant.text] for variant in study.variants if variant.text in found]


def _record(run: Planned, watch: CompareWatch) -> DiagnosisRecord | None:
    """The diagnosis of a run, named as its cell; one that fails does not sink the rest."""
    from throughtime.diagnosis.of_run import diagnose_run

    try:
        return replace(diagnose_run(run.folder).record, title=run.variant.text)
    except ThroughtimeError as error:
        watch.not_diagnosed(run, str(error))
        return None


def _memory_of(record: DiagnosisRecord) -> Memory | None:
    """The horizon of the layer that reaches farthest; None where nothing was measured."""
    return max((Memory(v.horizon_steps, v.is_horizon_beyond) for v in record.layers), default=None)


def remembering(row: Row, memory: Memory | None) -> Row:
    """The row with how far back its run learns, where that is known."""
    return row if memory is None else replace(row, **memory._asdict())


def known_memories(folder: StudyFolder) -> dict[tuple[str, int, int], Memory]:
    """What the results of an earlier call tell, by cell, length and seed."""
    try:
        rows: list[dict[str, Any]] = read_results(folder.results)["rows"]
    except DataError:  # there was none
        return {}
    return {
        (row["cell"], row["length"], row["seed"]): Memory(
            row["horizon_steps"], row["is_horizon_beyond"]
        )
        for row in rows
        if "horizon_steps" in row
    }
