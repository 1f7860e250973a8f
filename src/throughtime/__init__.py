"""Recurrent networks for PyTorch in which you can see how far back they learn.

    import throughtime as tt

Everything here is loaded when it is first used; `import throughtime` itself loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime import cells, declare, diagnosis, engine, errors, flow, models, nn, testing
    from throughtime.cells import (
        clip_adjoint,
        clockwork,
        dilate,
        leaky,
        recurrent_dropout,
        remove,
        skip,
        zoneout,
    )
    from throughtime.declare import (
        Bernoulli,
        Blocks,
        Cell,
        Extra,
        Param,
        State,
        Uniform,
        absolute,
        affine,
        ago,
        cell,
        clamp,
        cos,
        exp,
        layer_norm,
        log,
        match,
        maximum,
        minimum,
        now,
        relu,
        row_mean,
        row_sum,
        sigmoid,
        sign,
        sin,
        softplus,
        sqrt,
        tanh,
        where,
    )
    from throughtime.diagnosis import Diagnosis, Trained, Training, apply_options, cure, diagnose
    from throughtime.flow.lightning import LightningMonitor
    from throughtime.flow.monitor import Monitor
    from throughtime.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell

__version__ = "0.1.0.dev0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bernoulli",
    "Blocks",
    "Cell",
    "Diagnosis",
    "Extra",
    "GRUCell",
    "LSTMCell",
    "LightningMonitor",
    "Monitor",
    "Param",
    "RNNCell",
    "Recurrent",
    "State",
    "Trained",
    "Training",
    "Uniform",
    "absolute",
    "affine",
    "ago",
    "apply_options",
    "cell",
    "cells",
    "clamp",
    "clip_adjoint",
    "clockwork",
    "cos",
    "cure",
    "declare",
    "diagnose",
    "diagnosis",
    "dilate",
    "engine",
    "errors",
    "exp",
    "flow",
    "layer_norm",
    "leaky",
    "log",
    "match",
    "maximum",
    "minimum",
    "models",
    "nn",
    "now",
    "recurrent_dropout",
    "relu",
    "remove",
    "row_mean",
    "row_sum",
    "sigmoid",
    "sign",
    "sin",
    "skip",
    "softplus",
    "sqrt",
    "tanh",
    "testing",
    "where",
    "zoneout",
]

_PACKAGES = ("cells", "declare", "diagnosis", "engine", "errors", "flow", "models", "nn", "testing")
_LAYERS = ("GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Recurrent")
_DIAGNOSIS = ("Diagnosis", "Trained", "Training", "apply_options", "cure", "diagnose")
_CURES = (
    "clip_adjoint",
    "clockwork",
    "dilate",
    "leaky",
    "recurrent_dropout",
    "remove",
    "skip",
    "zoneout",
)


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'throughtime' has no attribute {name!r}")
    if name in _PACKAGES:
        return import_module(f"throughtime.{name}")
    value = getattr(import_module(f"throughtime.{_home(name)}"), name)
    globals()[name] = value
    return value


def _home(name: str) -> str:
    """The module that a public name comes from."""
    groups = {
        "nn": _LAYERS,
        "cells": _CURES,
        "diagnosis": _DIAGNOSIS,
        "flow.monitor": ("Monitor",),
        "flow.lightning": ("LightningMonitor",),
    }
    return next((home for home, names in groups.items() if name in names), "declare")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
