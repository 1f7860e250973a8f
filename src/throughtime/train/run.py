"""What does one run do, from its options to its result?"""

import copy
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import CheckpointError, ConfigError, DataError
from throughtime.flow.monitor import Monitor, Reading
from throughtime.records import (
    MetricsLog,
    RunFolder,
    Sample,
    read_config,
    read_metrics,
    write_config,
    write_environment,
    write_samples,
)
from throughtime.train import loop, setup
from throughtime.train.budget import measure_pace, updates_within
from throughtime.train.checkpoint import Checkpoint, load_latest, save_checkpoint, save_model
from throughtime.train.config import TrainConfig, config_from, parse_duration
from throughtime.train.lesson import Lesson, Score
from throughtime.train.lessons import make_lesson
from throughtime.train.loop import Ending, Hooks, Limits, UpdateRecord
from throughtime.train.optimise import make_optimiser
from throughtime.train.runlock import RunLock
from throughtime.train.signals import StopRequest
from throughtime.train.state import TrainingState, load_weights, weights
from throughtime.train.text import SAMPLE_PROMPT, SAMPLE_TEMPERATURE
from throughtime.train.watch import Plan, Result, Validation, Watch

__all__ = ["resume_run", "start_run"]

_DEFAULT_BUDGET = "2m"

# A run that takes longer than planned by more than this ends early, with what it has.
_GUARD = 1.25


def start_run(config: TrainConfig, out: Path | None = None, watch: Watch | None = None) -> Result:
    """Train a new model in a new folder.

    Args:
        config: All options.
        out: Folder to make; runs/NAME-CELL-N if None.
        watch: Told what happens.

    Raises:
        ConfigError: An option is wrong, or the folder holds a run already.
        DataError: The data cannot be used.
        RunBusyError: Another process writes to the folder.
    """
    lesson = make_lesson(_with_absolute_path(config.settled()))
    folder = RunFolder(out or setup.free_folder(lesson.name, config.model.cell))
    run = _Run(folder, lesson, watch or Watch())
    with RunLock(folder.path):
        if folder.config.exists():
            raise ConfigError(
                f"{folder.path} holds a run already. Give --resume {folder.path} to go on with "
                "it, or --out with another folder."
            )
        write_config(folder.config, run.config.tables())
        return run.complete()


def resume_run(path: Path, watch: Watch | None = None) -> Result:
    """Go on with the run in the folder `path`, as it was planned.

    Raises:
        ConfigError: There is no run.
        DataError: The data cannot be used, or is another one by now.
        CheckpointError: The run was saved, but no save is whole.
        RunBusyError: Another process writes to the folder.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise ConfigError(f"{path} holds no run: it has no {folder.config.name}. Name its folder.")
    with RunLock(path):
        config = config_from(read_config(folder.config))
        return _Run(folder, make_lesson(config), watch or Watch()).complete()


def _with_absolute_path(config: TrainConfig) -> TrainConfig:
    """A run may go on from another working folder."""
    path = config.data.data
    absolute = None if path is None else path.resolve()
    return replace(config, data=replace(config.data, data=absolute))


class _Run:
    """One run in its folder: what `complete` does, in order."""

    def __init__(self, folder: RunFolder, lesson: Lesson, watch: Watch) -> None:
        self.folder, self.lesson, self.watch = folder, lesson, watch
        self.config = lesson.config
        self.device = setup.resolve_device(self.config.run.device)
        self.state = self._new_state()
        # One that was named and cannot do it is refused here.
        self.engine = lesson.engine(self.state.model)
        self.baselines: dict[str, float] = {}
        self.validations: list[Validation] = []
        self.update_s: float | None = None
        self.gauge: Monitor | None = None

    def complete(self) -> Result:
        found = self._find_checkpoint()
        if found is None:
            self._settle()
        else:
            self._take_up(found)
        plan = self._plan()
        self.watch.planned(plan)
        with self._open_log() as self.log, StopRequest() as stop:
            hooks = Hooks(self._updated, self._validate, self._save)
            ending = loop.train(
                self.state, self.lesson, self.config.optimiser, self._limits(), hooks, stop,
                self._gauge(),
            )  # fmt: skip
            test = None
            if ending is not Ending.INTERRUPTED:
                if not self._is_validated():
                    self._validate()
                    self._save()
                test = self._test()
        return self._result(plan, ending, stop, test)

    def _new_state(self) -> TrainingState:
        """The state before the first update; the seed alone decides its weights."""
        torch.manual_seed(self.config.run.seed)
        model = self.lesson.new_model().to(self.device).train()
        return TrainingState(model, make_optimiser(self.config.optimiser, model.parameters()))

    def _settle(self) -> None:
        """Decide, once, what the options left open, and write it down."""
        options = replace(self.config.run, device=self.device.type)
        if options.updates is None:
            budget = options.budget or _DEFAULT_BUDGET
            pace = measure_pace(self.state, self.lesson, self.config.optimiser)
            updates = updates_within(parse_duration(budget), pace, options.validations)
            options = replace(options, budget=budget, updates=updates)
            self.update_s = pace.update_s
            self.state = self._new_state()  # the timed one is used up: start from the seed
        self.config = replace(self.config, run=options)
        self.baselines = dict(self.lesson.baselines())
        write_config(self.folder.config, self.config.tables())
        write_environment(self.folder.environment, self._torch_facts())

    def _find_checkpoint(self) -> Checkpoint | None:
        if not self.folder.last.exists() and not self.folder.previous.exists():
            return None
        found = load_latest(self.folder.path)
        if found.warning is not None:
            self.watch.noted(found.warning)
        return found

    def _take_up(self, found: Checkpoint) -> None:
        """Go on from a checkpoint, if it is of this run and its data."""
        run, lesson = found.meta["run"], self.lesson
        if run["data_sha256"] != lesson.sha256:
            raise DataError(
                f"the data {lesson.name} is not the one that the run learnt: its sha256 is "
                f"{lesson.sha256}, not {run['data_sha256']}. Restore it, or start a new run."
            )
        if run["config"] != self.config.tables():
            raise CheckpointError(
                f"{self.folder.config} was changed after {found.path.name} was saved. Restore it, "
                "or start a new run with the options you want."
            )
        for name, now in self._torch_facts().items():
            if run["torch"][name] != now:
                self.watch.noted(
                    f"the run had {name} {run['torch'][name]} and has {now} now: "
                    "the last bits of its numbers may differ from those of an unbroken run"
                )
        self.state.restore(found.tensors, found.meta["state"])
        self.baselines = run["baselines"]
        self.validations = [
            Validation(record["update"], self._read_score(record))
            for record in read_metrics(self.folder.metrics, "valid")
            if record["update"] <= self.state.update
        ]
        self._save_model()  # a crash may have come after the checkpoint was saved and before this

    def _torch_facts(self) -> dict[str, Any]:
        return {
            "version": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }

    def _plan(self) -> Plan:
        return Plan(
            folder=self.folder.path,
            config=self.config,
            lesson=self.lesson,
            baselines=self.baselines,
            parameters=sum(p.numel() for p in self.state.model.parameters()),
            engine=self.engine,
            update_s=self.update_s,
            updates_done=self.state.update,
        )

    def _limits(self) -> Limits:
        options = self.config.run
        guard_s = math.inf
        if options.budget is not None:
            guard_s = self.state.elapsed_s + _GUARD * parse_duration(options.budget)
        assert options.updates is not None, "settled before training"
        return Limits(
            options.updates, options.validations, options.save_s, guard_s, options.patience
        )

    def _open_log(self) -> MetricsLog:
        if self.folder.metrics.exists():
            return MetricsLog.resume(self.folder.metrics, self.state.update)
        return MetricsLog.create(self.folder.metrics)

    def _gauge(self) -> Monitor | None:
        """What looks on how far back the model learns."""
        every = self.config.run.gauge_updates
        if not every:
            return None
        self.gauge = Monitor(self.state.model, every_updates=every, told=self._read)
        return self.gauge

    def _read(self, readings: list[Reading]) -> None:
        for reading in readings:
            values = asdict(replace(reading, update=self.state.update + 1))
            del values["clipped_share"]  # the records of the updates tell it
            self.log.append("flow", values.pop("update"), values)
        self.watch.gauged(readings)

    def _updated(self, record: UpdateRecord) -> None:
        values = asdict(record)
        values[self.lesson.loss_name] = values.pop("loss")
        self.log.append("train", values.pop("update"), values)
        self.watch.updated(record)

    def _is_validated(self) -> bool:
        return bool(self.validations) and self.validations[-1].update == self.state.update

    def _validate(self) -> None:
        score = self.lesson.score(self.state.model, "valid")
        validation = Validation(self.state.update, score)
        self.state.validated(score.score, keep=self.config.run.keep == "best")
        self.log.append("valid", validation.update, self._written_score(score))
        self.validations.append(validation)
        self._write_samples()
        self.watch.validated(validation)

    def _test(self) -> Score | None:
        """Score the weights that are kept on the test part, once."""
        if not self.lesson.has_test_part:
            return None
        for record in read_metrics(self.folder.metrics, "test"):
            if record["update"] == self.state.update:
                return self._read_score(record)
        model = copy.deepcopy(self.state.model)
        load_weights(model, self._kept())
        score = self.lesson.score(model, "test")
        self.log.append("test", self.state.update, self._written_score(score))
        return score

    def _written_score(self, score: Score) -> dict[str, Any]:
        """A score as a record has it, without what it lacks."""
        values = {name: v for name, v in asdict(score).items() if v is not None}
        values[self.lesson.loss_name] = values.pop("loss")
        return values

    def _read_score(self, record: dict[str, Any]) -> Score:
        optional = {f.name: record.get(f.name) for f in fields(Score) if f.default is None}
        return Score(record[self.lesson.loss_name], record["score"], **optional)

    def _kept(self) -> dict[str, Tensor]:
        """The weights of the model: the last ones, or the best if these are wanted."""
        return self.state.best or weights(self.state.model)

    def _write_samples(self) -> None:
        seed, written = self.config.run.seed, self.validations
        samples = [
            Sample(v.update, SAMPLE_PROMPT, v.score.sample, SAMPLE_TEMPERATURE, seed)
            for v in written
            if v.score.sample is not None
        ]
        if samples:
            write_samples(self.folder.samples, samples)

    def _save(self) -> None:
        self.log.sync()
        run = {
            "config": self.config.tables(),
            "data_sha256": self.lesson.sha256,
            "baselines": self.baselines,
            "torch": self._torch_facts(),
        }
        meta = {"run": run, "state": self.state.meta()}
        save_checkpoint(self.folder.last, self.state.tensors(), meta)
        self._save_model()

    def _save_model(self) -> None:
        meta = {
            "config": self.config.tables(),
            "data_sha256": self.lesson.sha256,
            "update": self.state.update,
        }
        save_model(self.folder.model, self._kept(), meta | self.lesson.meta())

    def _result(self, plan: Plan, ending: Ending, stop: StopRequest, test: Score | None) -> Result:
        state = self.state
        steps = state.update * self.lesson.steps_per_update
        return Result(
            plan=plan,
            ending=ending,
            updates=state.update,
            elapsed_s=state.elapsed_s,
            steps_per_s=steps / state.updating_s if state.updating_s else 0.0,
            validation=self._validation(),
            test=test,
            signal_number=stop.signal_number,
            gauge_share=None if self.gauge is None else self.gauge.cost_share,
        )

    def _validation(self) -> Validation | None:
        """That of the weights that are kept."""
        if not self.state.best:
            return self.validations[-1] if self.validations else None
        return min(self.validations, key=lambda v: v.score.score)
