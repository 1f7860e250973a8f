"""How are the options of a run written in one line? Each finds its group by its name."""

from dataclasses import fields
from typing import Any

from throughtime.train.config import (
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    RunConfig,
    TrainConfig,
)

__all__ = ["configured"]

_GROUPS = {"data": DataConfig, "model": ModelConfig, "optimiser": OptimiserConfig, "run": RunConfig}

# The same for all tables: nothing is written out, nothing watches, one machine after the other.
_ALWAYS = {"sample": 0, "gauge_updates": 0, "device": "cpu"}


def configured(**options: Any) -> TrainConfig:
    """The options of `throughtime train`, by the names of its flags."""
    options = _ALWAYS | options
    if options.get("task") is not None:
        del options["sample"]  # no task writes
    groups = {
        name: kind(**{f.name: options.pop(f.name) for f in fields(kind) if f.name in options})
        for name, kind in _GROUPS.items()
    }
    assert not options, f"no option is called so: {sorted(options)}"
    return TrainConfig(**groups).settled()
