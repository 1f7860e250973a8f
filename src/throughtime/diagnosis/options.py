"""How does a model of the user's own take the options of a cure? Its layers anew, in place."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from throughtime.cells.notation import parse_cell
from throughtime.errors import ConfigError
from throughtime.nn import Recurrent
from throughtime.nn.restart import restart

__all__ = ["OF_THE_MODEL", "apply_options"]

OF_THE_MODEL = ("cell", "init", "hidden")
"""Options that decide what is built; the others are of training."""

_THEIRS = (nn.RNN, nn.LSTM, nn.GRU)


def apply_options(model: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """Change a model as a cure says: other cells, another start. For one's own `make`.

    Every `nn.RNN`, `nn.LSTM`, `nn.GRU` and `tt.Recurrent` in the model is given the start, or is
    replaced by a `tt.Recurrent` of the cell with its sizes. What it returns beside its output, hx,
    then has the states of that cell.

    Args:
        model: Changed in place; where it is a layer itself, another cell is a new module.
        options: "init" and "cell", as a finding has them; none changes nothing.

    Returns:
        The model.

    Raises:
        ConfigError: An option is not of the model's layers, or no layer can take it.

    Example:
        >>> import torch, throughtime as tt
        >>> def make(**options):
        ...     return tt.apply_options(torch.nn.RNN(3, 8), options)
        >>> make(cell="gru", init=["chrono:50"])
        Recurrent(gru, 3, 8, init=(Chrono(t_max=50, t_min=1.0),))
    """
    left = sorted(options.keys() - {"cell", "init"})
    if left:
        raise ConfigError(
            f"{', '.join(left)} cannot be applied to a model that exists; expected cell and init "
            "alone. Read it in your own function, as make(hidden=64, **options)."
        )
    init = ",".join(options["init"]) if "init" in options else None
    if "cell" in options:
        return _with_cell(model, options["cell"], init)
    if init:
        restart(model, init)
    return model


def _with_cell(model: nn.Module, cell: str, init: str | None) -> nn.Module:
    if isinstance(model, (*_THEIRS, Recurrent)):
        return _layer(model, cell, init)
    found = [n for n, part in model.named_modules() if isinstance(part, (*_THEIRS, Recurrent))]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no layer to make of {cell}: it holds no tt.Recurrent and "
            "none of nn.RNN, nn.LSTM and nn.GRU."
        )
    for name in found:
        model.set_submodule(name, _layer(model.get_submodule(name), cell, init))
    return model


def _layer(old: Any, cell: str, init: str | None) -> Recurrent:
    """A layer of another cell with the sizes, place and manners of an old one."""
    if old.proj_size:
        raise ConfigError(
            f"a layer with proj_size={old.proj_size} cannot be made of {cell}, whose output is as "
            "wide as its state. Build it in your own function."
        )
    like: torch.Tensor = next(iter(old.parameters()))
    return Recurrent(
        parse_cell(cell),
        old.input_size,
        old.hidden_size,
        old.num_layers,
        bias=old.bias,
        batch_first=old.batch_first,
        dropout=old.dropout,
        bidirectional=old.bidirectional,
        device=like.device,
        dtype=like.dtype,
        init=init,
    )
