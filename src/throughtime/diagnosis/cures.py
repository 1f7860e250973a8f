"""Which options of a run cure a finding? Those that its cell can take and that change something."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from throughtime.cells.notation import parse_cell
from throughtime.declare import Cell
from throughtime.declare.graph import walk
from throughtime.declare.roles import roles
from throughtime.errors import ConfigError, ThroughtimeError
from throughtime.flow.remedies import Facts, Options, facts_of, remedies
from throughtime.nn import Recurrent
from throughtime.nn.init import parse_init
from throughtime.records.diagnosis import DiagnosisRecord, Finding
from throughtime.train.config import OF_TEXTS, ModelConfig, TrainConfig

__all__ = ["applied", "cured_config", "cures", "for_run"]

_GROUPS = ("model", "optimiser", "run")


def cured_config(config: TrainConfig, finding: Finding) -> TrainConfig:
    """A run's options with those that cure a finding.

    Raises:
        ConfigError: The cure is no option of training, or there is none.
    """
    if not finding.options:
        raise ConfigError(
            f"{finding.code} has no cure among the options of training. Do this: {finding.cure}."
        )
    return applied(config, finding.options)


def applied(config: TrainConfig, options: Options) -> TrainConfig:
    """A run's options with some of them changed, for as many updates.

    A budget does not count any more where the updates are known: a cell that takes longer for
    each is not to make fewer of them.

    Raises:
        ConfigError: One of the names is no option of this run, or a value is refused.
    """
    changed = config.settled()
    for name, value in options.items():
        group = _group(changed, name)
        new = replace(getattr(changed, group), **{name: _typed(value)})
        changed = replace(changed, **{group: new})
    if changed.run.updates is not None:
        changed = replace(changed, run=replace(changed.run, budget=None))
    return changed


def _group(config: TrainConfig, name: str) -> str:
    for group in _GROUPS:
        if name in {f.name for f in fields(getattr(config, group))}:
            return group
    raise ConfigError(
        f"{name} is no option of `throughtime train`: a run has it as it is. Apply the cure in "
        "your own code."
    )


def _typed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def cures(config: TrainConfig, code: str, record: DiagnosisRecord) -> list[Options]:
    """All that can be tried on a run against a finding, the best known first.

    Args:
        config: The run's options.
        code: The finding's.
        record: The diagnosis it is from.

    Returns:
        The options that change; empty if none would help, or none is an option of training.
    """
    settled = config.settled()
    return [
        options
        for options in remedies(code, _facts(settled, record))
        if _is_applicable(settled, options)
    ]


def _facts(config: TrainConfig, record: DiagnosisRecord) -> Facts:
    """What is known of a run: of its cell everything, whatever the layers were called."""
    options = {**asdict(config.model), **asdict(config.optimiser), **asdict(config.run)}
    options["init"] = list(config.model.init)
    if config.data.task is not None:
        options = {n: v for n, v in options.items() if n not in OF_TEXTS["run"]}
    found = facts_of(record.layers, record.needs_lag, record.training, options)
    cell = parse_cell(config.model.cell)
    gated = _is_gated(cell)
    return replace(found, is_gated=gated, is_relu=not gated and _is_relu(cell))


def _is_gated(cell: Cell) -> bool:
    return any(role.keep for role in roles(cell).values())


def _is_relu(cell: Cell) -> bool:
    return any(node.op == "relu" for node in walk(cell.new))


def _is_applicable(config: TrainConfig, options: Options) -> bool:
    """Whether a run can be made with the options."""
    try:
        _try_start(applied(config, options).model)
    except ThroughtimeError:
        return False
    return True


def _try_start(model: ModelConfig) -> None:
    """Refuse a start that the cell cannot take: a chrono bias where there is no gate, say."""
    cell = parse_cell(model.cell)
    projection = int(any(state.width == "projection" for state in cell.states))
    init = tuple(one for text in model.init for one in parse_init(text)) or None
    with torch.random.fork_rng(devices=[]):
        Recurrent(cell, 1, 2, proj_size=projection, init=init, omega=model.omega)


def for_run(record: DiagnosisRecord, folder: Path, config: TrainConfig) -> DiagnosisRecord:
    """A diagnosis whose cures are those of a run: its own options, and the command that tries them.

    Args:
        record: Of the model of the run.
        folder: Of the run.
        config: Its options.
    """
    return replace(
        record, findings=[_of_run(finding, record, folder, config) for finding in record.findings]
    )


def _of_run(
    finding: Finding, record: DiagnosisRecord, folder: Path, config: TrainConfig
) -> Finding:
    found = cures(config, finding.code, record)
    if not found:
        return replace(finding, options={})
    first = record.findings[0].code == finding.code
    command = f"throughtime cure {shlex.quote(str(folder))}"
    return replace(finding, options=found[0], cure=command if first else _flags(found[0]))


def _flags(options: Options) -> str:
    """What a later cure would change, as flags of `throughtime train`."""
    return " ".join(["throughtime train ...", *(_flag(n, v) for n, v in options.items())])


def _flag(name: str, value: Any) -> str:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return " ".join(["--" + name.replace("_", "-"), *(shlex.quote(str(v)) for v in values)])
