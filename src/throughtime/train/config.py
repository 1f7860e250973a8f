"""What can be chosen about a training run?

Plain dataclasses, read by three: the command line (each field is a flag, its comment the help),
`config.toml` in the run folder, and the code that trains. Nothing here imports torch.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from throughtime.errors import ConfigError

__all__ = [
    "OF_TEXTS",
    "DataConfig",
    "Device",
    "ModelConfig",
    "OptimiserConfig",
    "RunConfig",
    "TrainConfig",
    "config_from",
    "parse_duration",
]

Device = Literal["auto", "cpu", "cuda"]

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90s`, `2m`, `1h30m` or `0.5h`.

    Raises:
        ConfigError: The text is not numbers, each followed by s, m or h, or it sums to zero.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    duration_s = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not duration_s:
        raise ConfigError(
            f"budget is {text!r}; expected numbers followed by s, m or h, "
            "such as 90s, 2m or 1h30m. Give --budget 2m, or --updates N instead."
        )
    return duration_s


@dataclass(frozen=True)
class DataConfig:
    """What is learnt."""

    data: Annotated[Positional[Path | None], arg(metavar="[DATA]")] = None
    """Text file (.gz too), or folder with train and valid files; Python's manual if absent."""
    task: str | None = None
    """Learn a task of `throughtime tasks` instead of a text; DATA is its .npz, if it has one."""
    length: int | None = None
    """The dial of the task's difficulty; its own default if absent."""
    unit: Literal["char", "byte", "word", "bpe"] = "char"
    """Symbol that is predicted."""
    valid_fraction: float = 0.1
    """Part of the text, from its end, kept for validation."""
    max_vocabulary: int | None = None
    """Largest number of distinct symbols; rarer ones become the unknown one."""

    def __post_init__(self) -> None:
        """Refuse what no text can be split or counted by."""
        if not 0.0 < self.valid_fraction < 1.0:
            _refuse("valid_fraction", self.valid_fraction, "a number between 0 and 1", "0.1")
        if self.max_vocabulary is not None:
            _at_least("max_vocabulary", self.max_vocabulary, 2)
        if self.length is not None:
            _at_least("length", self.length, 1)
        if self.length is not None and self.task is None:
            raise ConfigError(
                f"length is {self.length}, but a text has none to choose. "
                "Drop --length, or name a task with --task."
            )


@dataclass(frozen=True)
class ModelConfig:
    """What learns it."""

    cell: str = "lstm"
    """Cell of the layers, by name or with cures: gru, leaky:lstm, "skip(gru, delays=[1, 8])"."""
    layers: int = 1
    """Recurrent layers."""
    hidden: int | None = None
    """Units of each layer; 256 for a text, 64 for a task."""
    projection: int | None = None
    """Units of the projected state of a cell that has one; half of hidden if absent."""
    embedding: int | None = None
    """Size of a symbol's vector; 64 for characters and bytes, else as many as hidden units."""
    embedding_range: float | None = None
    """Symbols' vectors start uniform in plus or minus this; if absent normal, of variance 1, or
    tied 1/sqrt(size)."""
    dropout: float | None = None
    """Probability of dropping a value after embedding and layers; 0.1, and 0 for a task."""
    init: tuple[str, ...] = ()
    """How weights start, one after the other: glorot, orthogonal, chrono:100, forget:1, ..."""
    connections: Literal["plain", "residual", "highway"] = "plain"
    """What stands beside a layer whose input and output have one width."""
    weight_drop: float = 0.0
    """Probability of dropping an element of the recurrent matrices in an update (Merity et al.)."""
    activation_l1: float = 0.0
    """Weight of the mean absolute output of the layers in the loss."""
    omega: float = 0.0
    """Weight of the penalty on vanishing error signals (Pascanu et al. 2013)."""
    tied: bool = False
    """Use the embedding as the output matrix too (Press & Wolf 2017)."""
    adaptive: tuple[int, ...] = ()
    """Cut-offs of an adaptive softmax for large vocabularies, such as 2000 10000."""
    engine: Literal["auto", "llvm", "vendor", "reference"] = "auto"
    """What runs the recurrence: the fastest that can, or one by name."""

    def __post_init__(self) -> None:
        """Refuse sizes without a meaning."""
        _at_least("layers", self.layers, 1)
        for name in ("hidden", "embedding", "projection"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if self.embedding_range is not None and not 0.0 < self.embedding_range < math.inf:
            _refuse("embedding_range", self.embedding_range, "a positive number", "0.1")
        for name in ("dropout", "weight_drop"):
            if getattr(self, name) is not None and not 0.0 <= getattr(self, name) < 1.0:
                _refuse(name, getattr(self, name), "a probability below 1", "0.1")
        _not_negative("activation_l1", self.activation_l1)
        _not_negative("omega", self.omega)
        if self.tied and self.adaptive:
            raise ConfigError(
                "tied and adaptive are both set, but an adaptive softmax has no single output "
                "matrix to tie. Drop --tied or --adaptive."
            )
        if list(self.adaptive) != sorted(set(self.adaptive)) or any(c < 1 for c in self.adaptive):
            _refuse("adaptive", self.adaptive, "increasing positive cut-offs", "2000 10000")


@dataclass(frozen=True)
class OptimiserConfig:
    """How it learns."""

    optimiser: Literal["sgd", "nesterov", "rmsprop", "adam", "adamw"] = "adam"
    """Rule of the update; nesterov is the simplified form of Bengio et al. 2012."""
    learning_rate: float = 4e-3
    """Largest learning rate of the schedule."""
    momentum: float | None = None
    """Momentum of sgd (0 if absent), rmsprop (0) and nesterov (0.9)."""
    weight_decay: float = 0.0
    """L2 penalty; decoupled from the gradient with adamw."""
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "cosine"
    """How the learning rate falls from its largest value: not, to zero, or halved nine times."""
    warmup: float = 0.05
    """Part of the updates in which the learning rate rises to its largest value."""
    hold: float | None = None
    """Part of the updates in which it stays there before it falls; none if absent."""
    clip_norm: float = 1.0
    """Largest joint norm of all gradients, which longer ones are scaled down to; 0 for none."""
    clip_value: float = 0.0
    """Largest size of each gradient element, applied before clip-norm; 0 for none."""
    nonfinite: Literal["skip", "stop", "shrink", "random"] = "skip"
    """On an infinite or NaN gradient: skip the update, stop, shrink weights, or step anywhere."""

    def __post_init__(self) -> None:
        """Refuse rates without a meaning, and an option that the rule would not read."""
        if not self.learning_rate > 0.0:
            _refuse("learning_rate", self.learning_rate, "a number above zero", "0.004")
        for name in ("clip_norm", "clip_value", "weight_decay"):
            _not_negative(name, getattr(self, name))
        if not 0.0 <= self.warmup < 1.0:
            _refuse("warmup", self.warmup, "a part of the updates, from 0 to below 1", "0.05")
        if self.hold is not None:
            self._check_hold(self.hold)
        if self.momentum is not None and self.optimiser in {"adam", "adamw"}:
            raise ConfigError(
                f"momentum is {self.momentum}, but {self.optimiser} has none of its own. "
                "Drop --momentum, or choose --optimiser sgd, nesterov or rmsprop."
            )
        if self.momentum is not None and not 0.0 <= self.momentum < 1.0:
            _refuse("momentum", self.momentum, "a number from 0 to below 1", "0.9")

    def _check_hold(self, hold: float) -> None:
        if self.schedule == "constant":
            raise ConfigError(
                f"hold is {hold}, but a constant learning rate never falls. Drop --hold, or choose "
                "--schedule linear, cosine or exponential."
            )
        if not 0.0 <= hold < 1.0 - self.warmup:
            left = f"a part of the updates, from 0 to below {1.0 - self.warmup:g}: 1 less warmup"
            _refuse("hold", hold, left, "0.3")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, on what."""

    batch_size: int = 32
    """Streams of text read side by side."""
    window_steps: int = 64
    """Steps of one truncated backward pass; the state is carried on to the next window."""
    budget: str | None = None
    """Time to train in, such as 90s or 1h30m; 2m if no number of updates is given."""
    updates: int | None = None
    """Number of updates; without it the budget is turned into one, once, by timing 20."""
    validations: int = 5
    """Times the validation text is scored during the run."""
    sample: int = 200
    """Symbols that the model writes after each validation."""
    keep: Literal["last", "best"] = "last"
    """Which weights are the model in the end: the last, or those that were validated best."""
    patience: int = 0
    """Stop after so many validations in a row without a better score; 0 for never."""
    save_s: float = 30.0
    """Seconds between two saves, the most that a crash can lose."""
    gauge_updates: int = 200
    """Updates after which it is read anew how far back the model learns; 0 for never."""
    seed: int = 0
    """Seed of the weights and of dropout."""
    device: Device = "auto"
    """Where to train; auto takes a GPU if torch sees one."""

    def __post_init__(self) -> None:
        """Refuse counts without a meaning, and a budget that cannot be read."""
        _at_least("batch_size", self.batch_size, 1)
        _at_least("window_steps", self.window_steps, 1)
        _at_least("validations", self.validations, 1)
        _at_least("sample", self.sample, 0)
        _at_least("seed", self.seed, 0)
        _at_least("patience", self.patience, 0)
        _at_least("gauge_updates", self.gauge_updates, 0)
        if self.updates is not None:
            _at_least("updates", self.updates, 1)
        _not_negative("save_s", self.save_s)
        if self.budget is not None:
            parse_duration(self.budget)


OF_TEXTS = {
    "data": ("unit", "valid_fraction", "max_vocabulary"),
    "model": ("embedding", "embedding_range", "tied", "adaptive"),
    "run": ("window_steps", "sample"),
}
"""Options that a task has no use for, by group."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run does."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Refuse options of texts that come with a task, which would not read them."""
        if self.data.task is None:
            return
        for group, names in OF_TEXTS.items():
            given, plain = getattr(self, group), getattr(TrainConfig(), group)
            for name in names:
                if getattr(given, name) != getattr(plain, name):
                    raise ConfigError(
                        f"{name} is {getattr(given, name)!r}, but the task {self.data.task} has no "
                        f"use for it. Drop --{name.replace('_', '-')}."
                    )

    def settled(self) -> "TrainConfig":
        """With the defaults that depend on what is learnt filled in."""
        defaults = {"hidden": 256, "dropout": 0.1}
        if self.data.task is not None:
            defaults = {"hidden": 64, "dropout": 0.0}
        missing = {name: v for name, v in defaults.items() if getattr(self.model, name) is None}
        return replace(self, model=replace(self.model, **missing))

    def tables(self) -> dict[str, dict[str, Any]]:
        """The options by group, as strings, numbers and lists; one without a value is left out."""
        return {
            group: {name: _plain(value) for name, value in options.items() if value is not None}
            for group, options in asdict(self).items()
        }


def config_from(tables: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
    """The configuration whose `tables` these are.

    Raises:
        ConfigError: A group or an option is unknown, or a value is refused.
    """
    groups = {group: type(options) for group, options in vars(TrainConfig()).items()}
    try:
        return TrainConfig(**{
            group: groups[group](**{name: _typed(name, value) for name, value in options.items()})
            for group, options in tables.items()
        })
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the configuration of the run does not fit this version: {error}. "
            "Use the version of throughtime that made the run."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _typed(name: str, value: Any) -> Any:
    if name in {"adaptive", "init"}:
        return tuple(value)
    return Path(value) if name == "data" else value


def _refuse(name: str, value: object, expected: str, example: str) -> None:
    flag = "--" + name.replace("_", "-")
    raise ConfigError(f"{name} is {value!r}; expected {expected}. Give {flag} {example}.")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        _refuse(name, value, f"a whole number of at least {least}", str(max(least, 1)))


def _not_negative(name: str, value: float) -> None:
    if not value >= 0.0:
        _refuse(name, value, "zero or more", "0")
