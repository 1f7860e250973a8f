"""What does a text such as clip(chrono:lstm, norm=1) change in a run? Its cell, and options.

Cures belong to the cell and are read by `cells.notation`. Options change the layers, how weights
start, or the optimiser; they stand outside all cures, and the outermost one comes last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from throughtime.cells.notation import Parsed, parse, split
from throughtime.errors import ConfigError
from throughtime.tasks.task import Task
from throughtime.train.config import TrainConfig

__all__ = ["OPTIONS", "Variant", "read_variants"]

Values = Mapping[str, Any]


def _model(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, model=replace(config.model, **changes))


def _optimiser(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, optimiser=replace(config.optimiser, **changes))


def _rule(name: str) -> Callable[[Values, Task], Callable[[TrainConfig], TrainConfig]]:
    def change(values: Values, task: Task) -> Callable[[TrainConfig], TrainConfig]:
        rate = {} if values["rate"] is None else {"learning_rate": values["rate"]}
        return _optimiser(optimiser=name, **rate)

    return change


def _starting(
    text: Callable[[Values, Task], str],
) -> Callable[[Values, Task], Callable[[TrainConfig], TrainConfig]]:
    """Add one more way for weights to start."""

    def change(values: Values, task: Task) -> Callable[[TrainConfig], TrainConfig]:
        added = text(values, task)
        return lambda config: _model(init=(*config.model.init, added))(config)

    return change


@dataclass(frozen=True)
class _Option:
    """What an option takes, with the defaults, and what it does to a run."""

    takes: dict[str, Any]
    change: Callable[[Values, Task], Callable[[TrainConfig], TrainConfig]]


_OPTIONS: dict[str, _Option] = {
    "stack": _Option({"layers": 2}, lambda v, t: _model(layers=v["layers"])),
    "hidden": _Option({"units": 64}, lambda v, t: _model(hidden=v["units"])),
    "residual": _Option({}, lambda v, t: _model(connections="residual")),
    "highway": _Option({}, lambda v, t: _model(connections="highway")),
    "dropout": _Option({"p": 0.1}, lambda v, t: _model(dropout=v["p"])),
    "weight_drop": _Option({"p": 0.5}, lambda v, t: _model(weight_drop=v["p"])),
    "l1": _Option({"weight": 1e-3}, lambda v, t: _model(activation_l1=v["weight"])),
    "omega": _Option({"weight": 2.0}, lambda v, t: _model(omega=v["weight"])),
    "init": _Option({"how": "orthogonal"}, _starting(lambda v, t: str(v["how"]))),
    "orthogonal": _Option({}, _starting(lambda v, t: "orthogonal")),
    "identity": _Option({}, _starting(lambda v, t: "identity")),
    "spectral": _Option({"radius": 1.0}, _starting(lambda v, t: f"spectral:{v['radius']}")),
    "forget": _Option({"bias": 1.0}, _starting(lambda v, t: f"forget:{v['bias']}")),
    # Tallec & Ollivier 2018 take T_max from the task; None stands for the lag that it needs.
    "chrono": _Option(
        {"t_max": None}, _starting(lambda v, t: f"chrono:{v['t_max'] or max(t.needs_lag, 2)}")
    ),
    "clip": _Option({"norm": 1.0}, lambda v, t: _optimiser(clip_norm=v["norm"])),
    "clip_value": _Option({"bound": 1.0}, lambda v, t: _optimiser(clip_value=v["bound"])),
    "sgd": _Option({"rate": None}, _rule("sgd")),
    "nesterov": _Option({"rate": None}, _rule("nesterov")),
    "rmsprop": _Option({"rate": None}, _rule("rmsprop")),
    "adam": _Option({"rate": None}, _rule("adam")),
}

OPTIONS: dict[str, dict[str, Any]] = {name: option.takes for name, option in _OPTIONS.items()}
"""The arguments of each option, with their defaults."""


@dataclass(frozen=True)
class Variant:
    """One of what is compared: a cell, and what stands around it.

    Attributes:
        text: As the user wrote it, without blanks.
        parsed: What it says.
    """

    text: str
    parsed: Parsed

    def applied(self, config: TrainConfig, task: Task) -> TrainConfig:
        """The options of a run with those of this variant in place of them.

        Raises:
            ConfigError: An option has no meaning with these values.
        """
        changed = _model(cell=self.parsed.cell_text)(config)
        for name, values in reversed(self.parsed.options):
            try:
                changed = _OPTIONS[name].change(values, task)(changed)
            except TypeError as error:
                raise ConfigError(
                    f"cells has {self.text}: {name} cannot take {dict(values)} ({error})."
                ) from error
        return changed


def read_variants(text: str) -> tuple[Variant, ...]:
    """The variants of a list such as rnn,clip:rnn,leaky(lstm,rate=0.1).

    Raises:
        ConfigError: One of them cannot be read, or is named twice.
    """
    found = tuple(Variant("".join(t.split()), parse(t, OPTIONS)) for t in split(text))
    texts = [str(variant.parsed) for variant in found]
    for variant, full in zip(found, texts, strict=True):
        if texts.count(full) > 1:
            raise ConfigError(f"cells names {variant.text} twice. Name each once.")
    return found
