"""What may a layer be given beyond torch's arguments? All of it keyword-only."""

import math
import numbers
from typing import Any, TypedDict

from throughtime.declare import Cell
from throughtime.declare.surgery import recurrent_reads
from throughtime.errors import ConfigError
from throughtime.nn.connections import Connections

__all__ = ["Options", "check_amount"]


class Options(TypedDict, total=False):
    """The options of `Recurrent`, which explains them, as the drop-ins hand them on."""

    learn_initial_state: bool
    engine: str
    init: Any
    weight_drop: float
    activation_l1: float
    omega: float
    connections: Connections
    recompute: bool


def check_amount(
    name: str, value: Any, most: float = math.inf, *, recurrent: Cell | None = None
) -> float:
    """Check a number that is 0 for nothing.

    Args:
        name: The option.
        value: What came.
        most: The largest allowed.
        recurrent: The cell, if the option acts on recurrent matrices.

    Raises:
        ConfigError: no number from 0 to `most`, or the cell has no recurrent matrix.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) <= most or not math.isfinite(value):
        range_ = "a probability, a number in [0, 1]" if most == 1 else "a finite number from 0"
        raise ConfigError(f"{name}={value!r}; expected {range_}.")
    if value and recurrent is not None and not recurrent_reads(recurrent):
        raise ConfigError(
            f"{name}={value!r} acts on recurrent matrices, and {recurrent.name} has none; leave it "
            f"out, or take a cell that has one, such as rnn or lstm."
        )
    return float(value)
