"""Do a layer's arguments make sense? Checks of what is no tensor, and of the input."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.declare import Cell
from throughtime.declare.graph import walk
from throughtime.errors import ConfigError, DeviceError, DtypeError, ShapeError


def check_size(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        kind = type(value).__name__
        raise DtypeError(f"{name} should be of type int, got: {kind} ({name}={value!r}).")
    if value < least:
        limit = "greater than zero" if least == 1 else f"at least {least}"
        raise ConfigError(f"{name} must be {limit}, got {value}.")
    return int(value)


def check_layers(
    cell: Any, input_size: Any, hidden_size: Any, num_layers: Any, proj_size: Any
) -> list[int]:
    """Check a stack's sizes, and return the hidden size of each layer."""
    if not isinstance(cell, Cell):
        raise DtypeError(
            f"cell is a {type(cell).__name__}; expected a Cell, made with @throughtime.cell(...) "
            f"or taken from throughtime.cells.CATALOGUE."
        )
    if not cell.affines:
        raise ConfigError(
            f"cell {cell.name} has no matrix, so no layer can learn or read x with it; expected at "
            f'least one affine("name", x).'
        )
    check_size("input_size", input_size)
    layers = check_size("num_layers", num_layers)
    several = isinstance(hidden_size, Sequence) and not isinstance(hidden_size, str)
    widths: list[Any] = list(hidden_size) if several else [hidden_size] * layers
    if len(widths) != layers:
        raise ConfigError(
            f"hidden_size has {len(widths)} sizes for num_layers={layers}; expected one a layer."
        )
    for width in widths:
        check_size("hidden_size", width)
    _check_projection(cell, check_size("proj_size", proj_size, least=0), widths)
    return widths


def _check_projection(cell: Cell, proj_size: int, widths: list[int]) -> None:
    projects = any(n.width == "projection" for n in walk((*cell.new, *cell.out)))
    if projects and not proj_size:
        raise ConfigError(
            f"proj_size=0, but {cell.name} has states of width 'projection'; expected a positive "
            f"number below hidden_size={widths[0]}."
        )
    if proj_size and not projects:
        raise ConfigError(
            f"proj_size={proj_size}, but {cell.name} projects nothing; expected 0, or a cell with "
            f"a state of width 'projection' such as lstm_projection."
        )
    if proj_size and proj_size >= min(widths):
        raise ConfigError(f"proj_size={proj_size}; expected less than hidden_size={min(widths)}.")


def check_options(flags: Mapping[str, Any], dropout: Any, dtype: Any) -> None:
    """Check a layer's switches and its dropout."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            kind = type(value).__name__
            raise DtypeError(f"{name} should be of type bool, got: {kind} ({name}={value!r}).")
    number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not number or not 0 <= float(dropout) <= 1:
        raise ConfigError(f"dropout={dropout!r}; expected a probability, a number in [0, 1].")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise DtypeError(f"dtype={dtype!r}; expected a floating-point dtype such as torch.float32.")


def check_input(name: str, x: Any, ranks: Mapping[int, str], input_size: int) -> None:
    """Check the type, rank and features of an input.

    Args:
        name: The layer's name, for messages.
        x: What came.
        ranks: The ranks allowed, each with its shape in words.
        input_size: Features expected.
    """
    if not isinstance(x, Tensor):
        raise DtypeError(f"{name}: input is a {type(x).__name__}; expected a tensor.")
    expected = " or ".join(ranks.values())
    if x.dim() not in ranks:
        raise ShapeError(
            f"{name}: Expected input to be {' or '.join(f'{r}D' for r in ranks)}, got {x.dim()}D "
            f"of shape {list(x.shape)}; expected {expected}."
        )
    if x.shape[-1] != input_size:
        raise ShapeError(
            f"{name}: input has inconsistent input_size: got {x.shape[-1]} expected {input_size}. "
            f"input.size(-1) must be equal to input_size; input has shape {list(x.shape)}."
        )


def check_same_kind(name: str, x: Tensor, weight: Tensor, *, autocast: bool) -> None:
    """Check an input's dtype and device against the weights'."""
    if not x.dtype.is_floating_point or (x.dtype != weight.dtype and not autocast):
        raise DtypeError(
            f"{name}: RNN input dtype {x.dtype} does not match weight dtype {weight.dtype}. "
            f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
        )
    if x.device != weight.device:
        raise DeviceError(
            f"{name}: input is on {x.device}, the weights are on {weight.device}; move one of them."
        )


def autocast_products(x: Any, weight: Tensor) -> str | None:
    """The dtype in which autocast wants matrices multiplied, by name; None without autocast."""
    if not isinstance(x, Tensor) or weight.dtype != torch.float32 or x.dtype == torch.float64:
        return None
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return None
    return str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
