"""How is a run cured? By its first finding, with its seed, data and updates, and a second look."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from throughtime.diagnosis.cures import applied, cures
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.of_run import diagnose_run
from throughtime.errors import CheckpointError, ConfigError, ThroughtimeError
from throughtime.flow.remedies import Options
from throughtime.records import RunFolder, read_config, read_metrics
from throughtime.records.cure import (
    CURE_FILE,
    CureRecord,
    Side,
    Trial,
    side_of,
    trial_of,
    write_cure,
)
from throughtime.train.config import TrainConfig, config_from
from throughtime.train.explicit import explicit_command
from throughtime.train.loop import Ending
from throughtime.train.run import resume_run, start_run
from throughtime.train.watch import Result, Watch

__all__ = ["CureWatch", "cure_run"]


class CureWatch:
    """Told what happens in a cure; this one lets it pass."""

    def diagnosed(self, before: Side, planned: Sequence[Options], found: Diagnosis) -> None:
        """The patient was diagnosed; these cures will be tried."""

    def trying(self, options: Options) -> Watch | None:
        """A cure is about to be tried; what comes back is told about its training."""

    def tried(self, trial: Trial, diagnosis: Diagnosis | None) -> None:
        """It came to its end."""


def cure_run(
    folder: Path,
    *,
    all_cures: bool = False,
    needs_lag: int | None = None,
    watch: CureWatch | None = None,
) -> CureRecord:
    """Diagnose a run, train it anew with the cure of its first finding, and diagnose it again.

    The cured run starts from the same seed, reads the same data and makes as many updates; it
    stands in FOLDER-cured-N. One that was stopped goes on, and one that is done is not trained
    again, when the same is asked for. The result is also in FOLDER/cure.json.

    Args:
        folder: Of the run.
        all_cures: Try every cure that applies, each alone, instead of the first.
        needs_lag: As in `diagnose`.
        watch: Told what happens.

    Raises:
        ConfigError: There is no run, nothing to cure, or no cure among the options of training.
        DataError: The data are not those of the run.
        RunBusyError: The same cure is running.
    """
    watch = watch or CureWatch()
    config = _config(folder)
    diagnosis = diagnose_run(folder, needs_lag=needs_lag)
    before = side_of(str(folder), _score(folder, config), diagnosis.record)
    planned = _planned(folder, config, diagnosis)[: None if all_cures else 1]
    watch.diagnosed(before, planned, diagnosis)

    def diagnosed(cured: Path) -> Diagnosis:
        return diagnose_run(cured, needs_lag=needs_lag)

    record = CureRecord(before.top.code, "score", before, [])
    for options in planned:
        record = _with_trial(record, folder, config, options, diagnosed, watch)
        write_cure(folder / CURE_FILE, record)
        if record.signal_number is not None:
            break
    return record


def _config(folder: Path) -> TrainConfig:
    files = RunFolder(folder)
    if not files.config.exists():
        raise ConfigError(f"{folder} holds no run: it has no {files.config.name}. Name its folder.")
    return config_from(read_config(files.config))


def _planned(folder: Path, config: TrainConfig, diagnosis: Diagnosis) -> list[Options]:
    """What can be tried against the first finding, or an error that says why there is nothing."""
    top = diagnosis.findings[0]
    if top.code == "healthy":
        raise ConfigError(f"{folder} has nothing to cure. {top.sentence}")
    found = cures(config, top.code, diagnosis.record)
    if not found:
        raise ConfigError(
            f"{folder} has {top.code}, whose cure is no option of training it can still take. "
            f"{top.sentence} Do this instead: {top.cure}."
        )
    return found


def _with_trial(
    record: CureRecord,
    folder: Path,
    config: TrainConfig,
    options: Options,
    diagnosed: Callable[[Path], Diagnosis],
    watch: CureWatch,
) -> CureRecord:
    """Try one cure, and add what came of it."""
    cured = applied(config, options)
    command = " ".join(explicit_command(cured))
    place = _place(folder, cured)
    metric, after, signal_number = record.metric, None, None
    try:
        result = _trained(place, cured, watch.trying(options))
        metric = result.plan.lesson.metric
        if result.ending is Ending.INTERRUPTED:
            trial, signal_number = Trial(options, command, None), result.signal_number
        else:
            after = diagnosed(place)
            side = side_of(str(place), _score(place, cured), after.record)
            trial = trial_of(options, command, record.before, side)
    except ThroughtimeError as error:  # of one of several cures: the others can still be tried
        trial = Trial(options, command, None, failure=str(error))
    watch.tried(trial, after)
    trials = [*record.trials, trial]
    return replace(record, metric=metric, trials=trials, signal_number=signal_number)


def _place(folder: Path, config: TrainConfig) -> Path:
    """The folder of a cured run: the one that has these options, or the first that is free."""
    number = 1
    while True:
        place = folder.with_name(f"{folder.name}-cured-{number}")
        if not RunFolder(place).config.exists() or _config(place) == config:
            return place
        number += 1


def _trained(place: Path, config: TrainConfig, watch: Watch | None) -> Result:
    if RunFolder(place).config.exists():
        return resume_run(place, watch)
    return start_run(config, place, watch)


def _score(folder: Path, config: TrainConfig) -> float | None:
    """The score of a run's kept weights: on the test part, or else on the validation part."""
    try:
        records = read_metrics(RunFolder(folder).metrics)
    except CheckpointError:
        return None
    tests = [float(r["score"]) for r in records if r["kind"] == "test"]
    valid = [float(r["score"]) for r in records if r["kind"] == "valid"]
    if not tests and config.run.keep == "best":
        return min(valid, default=None)
    return next(reversed(tests or valid), None)
