"""What does one run do, from its options to its result?"""

import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from throughtime.errors import CheckpointError, ConfigError, DataError
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
from throughtime.tasks import Corpus, load_corpus, streams
from throughtime.train import loop, setup
from throughtime.train.batch import as_tensors
from throughtime.train.budget import measure_pace, updates_within
from throughtime.train.checkpoint import Checkpoint, load_latest, save_checkpoint, save_model
from throughtime.train.config import TrainConfig, config_from, parse_duration
from throughtime.train.evaluate import mean_nll_nats
from throughtime.train.generate import generate
from throughtime.train.loop import Ending, Hooks, Limits, UpdateRecord
from throughtime.train.runlock import RunLock
from throughtime.train.score import baseline_scores, metric_name, metric_value, symbols_per_char
from throughtime.train.signals import StopRequest
from throughtime.train.state import TrainingState, weights
from throughtime.train.watch import Plan, Result, Validation, Watch

__all__ = ["read_corpus", "resume_run", "start_run"]

_DEFAULT_BUDGET = "2m"

# A run that takes longer than planned by more than this ends early, with what it has.
_GUARD = 1.25

_SAMPLE_PROMPT = "\n"
_SAMPLE_TEMPERATURE = 0.8


def start_run(config: TrainConfig, out: Path | None = None, watch: Watch | None = None) -> Result:
    """Train a new language model in a new folder.

    Args:
        config: All options.
        out: Folder to make; runs/NAME-CELL-N if None.
        watch: Told what happens.

    Raises:
        ConfigError: An option is wrong, or the folder holds a run already.
        DataError: The text cannot be used.
        RunBusyError: Another process writes to the folder.
    """
    setup.find_cell(config.model.cell)
    corpus = read_corpus(config)
    folder = RunFolder(out or setup.free_folder(corpus.name, config.model.cell))
    run = _Run(folder, _with_absolute_path(config), corpus, watch or Watch())
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
        DataError: The text cannot be used, or is another one by now.
        CheckpointError: The run was saved, but no save is whole.
        RunBusyError: Another process writes to the folder.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise ConfigError(f"{path} holds no run: it has no {folder.config.name}. Name its folder.")
    with RunLock(path):
        config = config_from(read_config(folder.config))
        return _Run(folder, config, read_corpus(config), watch or Watch()).complete()


def read_corpus(config: TrainConfig) -> Corpus:
    """The text that the options name, cut and numbered as they say."""
    data = config.data
    return load_corpus(data.data, data.unit, data.valid_fraction, data.max_vocabulary)


def _with_absolute_path(config: TrainConfig) -> TrainConfig:
    """A run may go on from another working folder."""
    path = config.data.data
    absolute = None if path is None else path.resolve()
    return replace(config, data=replace(config.data, data=absolute))


class _Run:
    """One run in its folder: what `complete` does, in order."""

    def __init__(
        self, folder: RunFolder, config: TrainConfig, corpus: Corpus, watch: Watch
    ) -> None:
        self.folder, self.config, self.corpus, self.watch = folder, config, corpus, watch
        self.device = setup.resolve_device(config.run.device)
        self.windows = streams(
            corpus.train, corpus.train_starts, config.run.batch_size, config.run.window_steps
        )
        self.state = self._new_state()
        self.engine = self._explain_engine()
        self.baselines: dict[str, float] = {}
        self.validations: list[Validation] = []
        self.update_s: float | None = None

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
                self.state, self.windows, self.config.optimiser, self._limits(), hooks, stop
            )
            if ending is not Ending.INTERRUPTED and not self._is_validated():
                self._validate()
        return self._result(plan, ending, stop)

    def _new_state(self) -> TrainingState:
        return setup.make_state(self.config, self.corpus.vocabulary.size, self.device)

    def _explain_engine(self) -> str:
        """Which engine runs the windows; one that was named and cannot is refused here."""
        inputs, _, reset = as_tensors(self.windows.window(0), self.device)
        model = self.state.model
        return model.recurrent.explain(model.embedding(inputs), reset=reset)

    def _settle(self) -> None:
        """Decide, once, what the options left open, and write it down."""
        options = replace(self.config.run, device=self.device.type)
        if options.updates is None:
            budget = options.budget or _DEFAULT_BUDGET
            pace = measure_pace(self.state, self.windows, self.config.optimiser, self.corpus.valid)
            updates = updates_within(parse_duration(budget), pace, options.validations)
            options = replace(options, budget=budget, updates=updates)
            self.update_s = pace.update_s
            self.state = self._new_state()  # the timed one is used up: start from the seed
        self.config = replace(self.config, run=options)
        self.baselines = baseline_scores(self.corpus)
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
        """Go on from a checkpoint, if it is of this run and its text."""
        run = found.meta["run"]
        if run["corpus_sha256"] != self.corpus.sha256:
            raise DataError(
                f"the text {self.corpus.name} is not the one that the run learnt: its sha256 is "
                f"{self.corpus.sha256}, not {run['corpus_sha256']}. Restore it, or start a new run."
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
            Validation(**{f.name: record[f.name] for f in fields(Validation)})
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
            corpus=self.corpus,
            baselines=self.baselines,
            metric=metric_name(self.config.data.unit),
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
        return Limits(options.updates, options.validations, options.save_s, guard_s)

    def _open_log(self) -> MetricsLog:
        if self.folder.metrics.exists():
            return MetricsLog.resume(self.folder.metrics, self.state.update)
        return MetricsLog.create(self.folder.metrics)

    def _updated(self, record: UpdateRecord) -> None:
        values = asdict(record)
        self.log.append("train", values.pop("update"), values)
        self.watch.updated(record)

    def _is_validated(self) -> bool:
        return bool(self.validations) and self.validations[-1].update == self.state.update

    def _validate(self) -> None:
        model, unit = self.state.model, self.config.data.unit
        loss_nats = mean_nll_nats(model, self.corpus.valid, self.corpus.valid_starts)
        sample = generate(
            model,
            self.corpus.vocabulary,
            _SAMPLE_PROMPT,
            self.config.run.sample,
            seed=self.config.run.seed,
            temperature=_SAMPLE_TEMPERATURE,
        )
        score = metric_value(loss_nats, unit, symbols_per_char(self.corpus))
        validation = Validation(self.state.update, loss_nats, score, sample)
        values = asdict(validation)
        self.log.append("valid", values.pop("update"), values)
        self.validations.append(validation)
        self._write_samples()
        self.watch.validated(validation)

    def _write_samples(self) -> None:
        seed = self.config.run.seed
        write_samples(
            self.folder.samples,
            [
                Sample(v.update, _SAMPLE_PROMPT, v.sample, _SAMPLE_TEMPERATURE, seed)
                for v in self.validations
            ],
        )

    def _save(self) -> None:
        self.log.sync()
        run = {
            "config": self.config.tables(),
            "corpus_sha256": self.corpus.sha256,
            "baselines": self.baselines,
            "torch": self._torch_facts(),
        }
        meta = {"run": run, "state": self.state.meta()}
        save_checkpoint(self.folder.last, self.state.tensors(), meta)
        self._save_model()

    def _save_model(self) -> None:
        meta = {
            "config": self.config.tables(),
            "corpus_sha256": self.corpus.sha256,
            "vocabulary": self.corpus.vocabulary.to_dict(),
            "update": self.state.update,
        }
        save_model(self.folder.model, weights(self.state.model), meta)

    def _result(self, plan: Plan, ending: Ending, stop: StopRequest) -> Result:
        state, options = self.state, self.config.run
        tokens = state.update * options.batch_size * options.window_steps
        return Result(
            plan=plan,
            ending=ending,
            updates=state.update,
            elapsed_s=state.elapsed_s,
            tokens_per_s=tokens / state.updating_s if state.updating_s else 0.0,
            validation=self.validations[-1] if self.validations else None,
            signal_number=stop.signal_number,
        )
