"""In which colours, numbers and scales are pictures drawn? The same in all of them."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "LINES",
    "MARKERS",
    "VERMILION",
    "axes_or_new",
    "finite",
    "logarithmic",
    "positive",
    "power_of_ten",
    "short",
    "whole",
]

# Okabe & Ito 2008: told apart by people who see fewer colours, in print too with the markers.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, INK, GREY = "#e69f00", "#56b4e9", "#1a1a1a", "#8c8c8c"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK, GREY)
MARKERS = "osD^vP*X"
LINES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

_MOST_DECADES = 16  # of float64; what lies lower is at the lower edge
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONGEST_LABEL = 32


def axes_or_new(ax: "Axes | None") -> "Axes":
    """The axes that were given, or those of a new figure of pyplot."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]


def finite(values: Iterable[float | None]) -> np.ndarray:
    """As an array, NaN where there is no number."""
    found = np.array([math.nan if v is None else v for v in values], dtype=float)
    found[~np.isfinite(found)] = math.nan
    return found


def positive(values: Iterable[float | None]) -> np.ndarray:
    """As an array, NaN where a logarithm has no value."""
    found = finite(values)
    found[~(found > 0)] = math.nan
    return found


def short(text: str, most: int = _LONGEST_LABEL) -> str:
    """A name that fits into a legend, or beside an axis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def whole(axis: "Axes", which: str, most: int = 8) -> None:
    """Give an axis that counts no ticks between whole numbers.

    Args:
        axis: The axes.
        which: "x" or "y".
        most: Ticks at most, less one.
    """
    from matplotlib.ticker import MaxNLocator

    getattr(axis, f"{which}axis").set_major_locator(
        MaxNLocator(most, integer=True, steps=[1, 2, 5, 10])
    )


def power_of_ten(value: float, _: int | None = None) -> str:
    """A tick of a logarithmic axis, without a formula: user names must never be read as one."""
    if not value > 0:
        return ""
    exponent = round(math.log10(value))
    if -2 <= exponent <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def logarithmic(
    axis: "Axes", which: str, values: Iterable[np.ndarray | Sequence[float]], room: float
) -> None:
    """Make an axis logarithmic, from the smallest to the largest of the values.

    Args:
        axis: The axes.
        which: "x" or "y".
        values: Curves that have to fit; at most 16 decades below the highest do.
        room: Factor left free at either end.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    joined = np.concatenate([np.ravel(v) for v in values] or [np.array([])])
    joined = joined[np.isfinite(joined) & (joined > 0)]
    if joined.size:
        # First, which ends autoscaling: a margin around a bound of 1e300 is more than a float.
        high = joined.max()
        low = max(joined.min(), high * 10.0**-_MOST_DECADES)
        getattr(axis, f"set_{which}lim")(low / room, high * room)
    getattr(axis, f"set_{which}scale")("log")
    side = getattr(axis, f"{which}axis")
    side.set_major_locator(LogLocator(10, numticks=8))
    side.set_major_formatter(FuncFormatter(power_of_ten))
    side.set_minor_locator(NullLocator())
    side.set_minor_formatter(NullFormatter())
