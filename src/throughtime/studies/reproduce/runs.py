"""Which processes does a run of a table need, one after the other, and what have they printed?"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from throughtime.studies.processes import Command
from throughtime.studies.reproduce.experiment import Arm
from throughtime.studies.reproduce.measures import measured
from throughtime.studies.training_run import printed, throughtime, train_command
from throughtime.train.config import TrainConfig
from throughtime.train.explicit import explicit_command

__all__ = ["STAGES", "PlannedRun", "Stage", "planned_run"]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a table.

    Attributes:
        arm: What is trained.
        seed: Of its weights and its data.
        config: All its options.
        folder: Where it is kept; the same for the same options in any table.
        probed: The data of its probe.
    """

    arm: Arm
    seed: int
    config: TrainConfig
    folder: Path
    probed: Path | None

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.arm.name}, seed {self.seed}"

    def output(self, stage: str) -> Path:
        """What the process of a stage prints into; tables that share a run may probe it apart."""
        probe = self.arm.probe or "probe"
        ending = {"train": "", "probe": f"-{probe}"}.get(stage, f"-{stage}")
        return self.folder.with_name(f"{self.folder.name}{ending}.json")

    def found(self, stage: str) -> dict[str, Any] | None:
        """What that process printed; None where it has not come to its end."""
        said = printed(self.output(stage))
        return None if said is None or said.get("ending") == "interrupted" else said

    def values(self) -> dict[str, float]:
        """The numbers of the trained model; none where it is not trained, or broke."""
        trained = self.found("train")
        return {} if trained is None else measured(trained, self.found("probe"))

    def memory(self) -> dict[str, Any]:
        """How far back its farthest-reaching layer learns, and the task's lag; once diagnosed."""
        diagnosed = self.found("diagnosis") or {}
        layers = diagnosed.get("layers", [])
        if not layers:
            return {}
        longest = max(layers, key=lambda layer: layer["horizon_steps"])
        needed = diagnosed.get("needs_lag") or {}
        # What the data were seen to use is another matter: it is what this model could learn.
        is_known = str(needed.get("source", "")).startswith("task ")
        return {
            "horizon_steps": longest["horizon_steps"],
            "is_horizon_beyond": longest["is_horizon_beyond"],
            "needs_lag": needed["steps"] if is_known else None,
        }

    def command(self) -> str:
        """What trains it, with the data where --data says."""
        lines = explicit_command(self.config)
        if self.arm.file is not None:
            lines[1] = f"DATA/{self.arm.file}"
        return " ".join(lines)


def planned_run(arm: Arm, data: Path | None, seed: int, out: Path) -> PlannedRun:
    """The run of an arm with a seed, in a folder that its options name."""
    config = arm.configured(data, seed)
    tables = json.loads(json.dumps(config.tables()))
    tables["data"]["data"] = arm.file  # wherever it lies
    digest = hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:10]
    subject = config.data.task or Path(arm.file or "manual").name.partition(".")[0]
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{subject}-{config.model.cell}").strip("-")[:48]
    probed = None if arm.probed is None or data is None else (data / arm.probed).resolve()
    return PlannedRun(arm, seed, config, out / "runs" / f"{words}-{digest}-seed{seed}", probed)


def _train(run: PlannedRun) -> Command:
    return train_command(run.name, run.config, run.folder)


def _probe(run: PlannedRun) -> Command | None:
    output = run.output("probe")
    if run.arm.probe is None or run.found("train") is None:
        return None
    data = [] if run.probed is None else [str(run.probed)]
    if run.arm.probe == "evaluate":
        return throughtime(run.name, ["evaluate", str(run.folder), *data], output)
    module = f"throughtime.studies.reproduce.{run.arm.probe}_probe"
    words = (sys.executable, "-m", module, str(run.folder), *data)
    return Command(run.name, words, output, output.with_suffix(".log"))


def _diagnosis(run: PlannedRun) -> Command | None:
    """Of the first seed: the others would tell the same."""
    if run.seed or run.found("train") is None:
        return None
    return throughtime(run.name, ["diagnose", str(run.folder)], run.output("diagnosis"))


class Stage(NamedTuple):
    """A step of the way of each run.

    Attributes:
        name: What its output is called by.
        what: The same for people.
        command: The process of a run; None where it needs none, or cannot have it yet.
    """

    name: str
    what: str
    command: Callable[[PlannedRun], Command | None]


STAGES: tuple[Stage, ...] = (
    Stage("train", "training", _train),
    Stage("probe", "measuring", _probe),
    Stage("diagnosis", "diagnosing", _diagnosis),
)
