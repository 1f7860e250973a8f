"""What does the model still remember of a text? Each symbol with its weight, for each position."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ColouredText", "Symbol", "coloured_text"]

_DECADES = 3.0  # of shades below the strongest
_STRONG = 0.01


@dataclass(frozen=True)
class Symbol:
    """One symbol: what is shown, its shade from 0 to 1, and whether it has 1 % or more."""

    shown: str
    shade: float
    is_strong: bool


@dataclass(frozen=True)
class ColouredText:
    """A text as it is coloured without a script, and what a script needs for the rest.

    Attributes:
        symbols: All symbols.
        position: Which prediction the colours are of.
        farthest: How far back the farthest symbol with 1 % or more lies; None if there is none.
        rows: {"positions": [...], "shades": [[...], ...], "strong": ...}: shades from 0 to 100 over
            the symbols before each position, and the shade from which a symbol has 1 % or more.
    """

    symbols: list[Symbol]
    position: int
    farthest: int | None
    rows: dict[str, Any]


def coloured_text(text: Mapping[str, Any] | None) -> ColouredText | None:
    """The text of a record, coloured for its last position; None where there is nothing."""
    if text is None or not text["symbols"] or not text["positions"]:
        return None
    shades = [_shades(row) for row in text["connectivity"]]
    order = sorted(range(len(shades)), key=lambda i: text["positions"][i])
    last = order[-1]
    position, found = text["positions"][last], shades[last]
    strong_from = 1.0 + math.log10(_STRONG) / _DECADES
    symbols = [
        Symbol(_shown(symbol), shade, shade >= strong_from > 0)
        for symbol, shade in zip(
            text["symbols"], found + [0.0] * len(text["symbols"]), strict=False
        )
    ]
    strong = [place for place, symbol in enumerate(symbols) if symbol.is_strong]
    return ColouredText(
        symbols,
        position,
        position - strong[0] if strong else None,
        {
            "positions": [text["positions"][i] for i in order],
            "shades": [[round(100 * shade) for shade in shades[i]] for i in order],
            "strong": round(100 * strong_from, 1),
        },
    )


def _shades(row: Sequence[float | None]) -> list[float]:
    """From 0 at a thousandth of the strongest, or less, to 1 at the strongest."""
    found = [abs(v) if v is not None and math.isfinite(v) else 0.0 for v in row]
    most = max(found, default=0.0)
    if most <= 0.0:
        return [0.0] * len(found)
    return [
        max(0.0, 1.0 + math.log10(value / most) / _DECADES) if value > 0 else 0.0 for value in found
    ]


def _shown(symbol: Any) -> str:
    """A symbol as it can be seen: line ends and tabs stay, marked; other signs are replaced."""
    text = str(symbol)
    shown = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return shown.replace("\n", "⏎\n").replace("\t", "⇥\t")
