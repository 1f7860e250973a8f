"""How are cells compared on a task? One process a run, all with the same number of updates."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from throughtime.errors import ConfigError, ThroughtimeError
from throughtime.records import (
    RunFolder,
    StudyFolder,
    environment,
    read_config,
    read_metrics,
    read_results,
    write_config,
    write_results,
)
from throughtime.records.atomic import replace_file
from throughtime.studies.compared_memory import diagnose_cells, known_memories, remembering
from throughtime.studies.comparison import CompareWatch, Comparison, Planned, Study
from throughtime.studies.config import CompareConfig
from throughtime.studies.pace import updates_for_all
from throughtime.studies.processes import Command, cores, run_all
from throughtime.studies.summary import Row, summaries
from throughtime.studies.training_run import last_words, printed, train_command
from throughtime.studies.variants import Variant, read_variants
from throughtime.tasks.task import Task
from throughtime.train.config import parse_duration
from throughtime.train.runlock import RunLock

__all__ = ["compare", "draw"]

_DEFAULT_BUDGET = "2m"


def compare(
    config: CompareConfig,
    out: Path | None = None,
    watch: CompareWatch | None = None,
    jobs: int | None = None,
    *,
    diagnose: bool = False,
) -> Comparison:
    """Run every cell at every length with every seed, and say what came of it.

    A comparison that was interrupted goes on where it was when the same is asked for again; more
    cells, lengths or seeds can be asked for, too.

    Args:
        config: What is compared.
        out: Folder; runs/compare-TASK-HASH if None, the hash being that of the options.
        watch: Told what happens.
        jobs: Processes side by side; as many as there are cores if None.
        diagnose: Whether, at the end, one run of each cell at the longest length is diagnosed.

    Raises:
        ConfigError: An option is wrong, or the folder holds another comparison.
        DataError: The data of the task cannot be used.
        RunBusyError: The same comparison is running.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected a whole number of at least 1. Give --jobs 2.")
    tasks, variants = config.tasks(), read_variants(config.cells)
    for task in tasks:  # values without a meaning are refused before there is a folder
        _ = [variant.applied(config.at(task, 1, 0), task) for variant in variants]
    folder = StudyFolder(out or _default_folder(config))
    with RunLock(folder.path):
        watch = watch or CompareWatch()
        rows, study = _run(folder, config, tasks, variants, watch, jobs or cores())
        if diagnose:
            diagnose_cells(study, rows, watch)
        found = _write(study, rows)
        draw(folder)
        return found


def _run(
    folder: StudyFolder,
    config: CompareConfig,
    tasks: Sequence[Task],
    variants: tuple[Variant, ...],
    watch: CompareWatch,
    jobs: int,
) -> tuple[dict[Planned, Row], Study]:
    updates = _settle(folder, config, tasks, variants, jobs, watch)
    runs = _planned(folder, config, tasks, variants, updates)
    study = Study(folder, config, tuple(tasks), variants, updates, jobs, runs)
    memories = known_memories(folder)
    rows = {
        run: remembering(row, memories.get((row.cell, row.length, row.seed)))
        for run in runs
        if (row := _finished(run)) is not None
    }
    watch.planned(study, list(rows.values()))
    for run, row in _run_missing([run for run in runs if run not in rows], jobs, watch):
        rows[run] = row
        watch.ended(row)
        _write(study, rows)
    return rows, study


def _default_folder(config: CompareConfig) -> Path:
    text = json.dumps(config.decisive(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Path("runs") / f"compare-{config.task}-{digest}"


def _settle(
    folder: StudyFolder,
    config: CompareConfig,
    tasks: Sequence[Task],
    variants: Sequence[Variant],
    jobs: int,
    watch: CompareWatch,
) -> int:
    """The number of updates of every run: decided once, and written down with the options."""
    decisive = config.decisive()
    if folder.settings.exists():
        found = read_config(folder.settings)
        updates = found.pop("settled_updates")
        if found != decisive:
            names = sorted(k for k in found.keys() | decisive if found.get(k) != decisive.get(k))
            raise ConfigError(
                f"{folder.path} holds a comparison with another {', '.join(names)}. "
                "Give --out with another folder, or the same options."
            )
        return updates
    updates = config.updates or _from_budget(config, tasks, variants, jobs, watch)
    write_config(folder.settings, {"settled_updates": updates} | decisive)
    return updates


def _from_budget(
    config: CompareConfig,
    tasks: Sequence[Task],
    variants: Sequence[Variant],
    jobs: int,
    watch: CompareWatch,
) -> int:
    """As many updates as the slowest run makes in the budget."""
    configs = [v.applied(config.at(t, 1, 0), t) for t in tasks for v in variants]
    watch.timing(len(configs))
    budget_s = parse_duration(config.budget or _DEFAULT_BUDGET)
    found = updates_for_all(configs, budget_s, jobs)
    counts = [n for n in found if isinstance(n, int)]
    if not counts:
        raise ConfigError(f"no run can be started. The first says: {found[0]}")
    return min(counts)


def _planned(
    folder: StudyFolder,
    config: CompareConfig,
    tasks: Sequence[Task],
    variants: Sequence[Variant],
    updates: int,
) -> tuple[Planned, ...]:
    """Every run, the seeds outermost: after a third of the time there is a third of each."""
    return tuple(
        Planned(
            v, t, seed, v.applied(config.at(t, updates, seed), t), folder.run(_slug(v, t, seed))
        )
        for seed in range(config.seeds)
        for t in tasks
        for v in variants
    )


def _slug(variant: Variant, task: Task, seed: int) -> str:
    text = str(variant.parsed)
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    short = re.sub(r"[^A-Za-z0-9]+", "-", variant.text).strip("-")[:40]
    return f"{short}-{digest}-{task.length}-seed{seed}"


def _run_missing(
    runs: Sequence[Planned], jobs: int, watch: CompareWatch
) -> Iterator[tuple[Planned, Row]]:
    commands = [_command(run) for run in runs]
    for ended in run_all(commands, jobs, lambda at: watch.running([runs[i] for i in at])):
        run = runs[ended.place]
        yield run, _row(run, ended.status)


def _command(run: Planned) -> Command:
    return train_command(run.name, run.config, run.folder)


def _finished(run: Planned) -> Row | None:
    """The row of a run that came to its end earlier."""
    found = printed(run.folder.with_suffix(".json"))
    return None if found is None or found["ending"] == "interrupted" else _scored(run, found)


def _row(run: Planned, status: int) -> Row:
    """What came of a process."""
    found = printed(run.folder.with_suffix(".json"))
    if found is not None:
        return _scored(run, found)
    reason = last_words(_command(run), status)
    return Row(
        run.variant.text,
        run.task.length,
        run.seed,
        score=None,
        solved=False,
        updates=0,
        elapsed_s=0.0,
        error=reason,
    )


def _scored(run: Planned, found: dict[str, Any]) -> Row:
    test = found.get("test") or {}
    score = next((v for name, v in test.items() if name.startswith("loss_")), None)
    error = None if score is not None else found["ending"]
    return Row(
        run.variant.text,
        run.task.length,
        run.seed,
        score=score,
        solved=bool(test.get("is_solved")) and score is not None,
        updates=found["updates"],
        elapsed_s=found["elapsed_s"],
        error=error,
    )


def _write(study: Study, rows: dict[Planned, Row]) -> Comparison:
    """Write what there is so far, in the order of the options."""
    order = {text.text: i for i, text in enumerate(study.variants)}
    kept = sorted(rows.values(), key=lambda r: (r.length, order[r.cell], r.seed))
    baseline = {task.length: task.baseline() for task in study.tasks}
    found = Comparison(study, tuple(kept), tuple(summaries(kept)), baseline)
    curves = {run.name: _curve(run) for run in rows}
    values = found.as_json() | {
        "curves": curves,
        "environment": environment({"version": version("torch")}),
    }
    write_results(study.folder.results, values)
    return found


def draw(folder: StudyFolder) -> Path | None:
    """Draw a comparison from its results, as a picture and as a page.

    Returns:
        Where the page is; None where matplotlib is not installed.
    """
    results = read_results(folder.results)
    try:
        from throughtime.report.comparison import comparison_svg
        from throughtime.report.comparison_page import comparison_page

        picture, page = comparison_svg(results), comparison_page(results)
    except ModuleNotFoundError:
        return None
    replace_file(folder.picture, [picture])
    replace_file(folder.report, [page.encode()])
    return folder.report


def _curve(run: Planned) -> list[list[float | None]]:
    """(update, score) of each validation; a damaged record costs the curve alone."""
    try:
        records = read_metrics(RunFolder(run.folder).metrics, "valid")
    except ThroughtimeError:
        return []
    return [[r["update"], _plain(r["score"])] for r in records]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
