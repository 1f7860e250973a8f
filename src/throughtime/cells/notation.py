"""Which cell does a text name? The catalogue, factories and cures by name, options around them.

A cure without arguments takes those of SHORT: leaky:lstm is leaky(lstm, rate=0.1). Options, such
as an initialisation, belong to the caller: they stand outside all cures and are handed back unread.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from throughtime.cells import CATALOGUE, FACTORIES
from throughtime.cells.delays import dilate, remove, skip
from throughtime.cells.expression import Expression, read, refuse, split
from throughtime.cells.masks import clip_adjoint, recurrent_dropout
from throughtime.cells.mixtures import clockwork, leaky, zoneout
from throughtime.declare import Cell
from throughtime.declare.surgery import written
from throughtime.errors import ThroughtimeError

__all__ = ["CURES", "SHORT", "Parsed", "known", "parse", "parse_cell", "read", "split"]

FARTHEST = 100_000  # steps back; every state's whole history is carried
LARGEST_COUNT = 16  # of layers and the like: tracing 16 takes 0.3 s, 64 two minutes

CURES: Mapping[str, Callable[..., Cell]] = {
    cure.__name__: cure
    for cure in (leaky, zoneout, clockwork, skip, remove, dilate, recurrent_dropout, clip_adjoint)
}
# What a cure does where nothing more is said: the short form leaky:lstm.
SHORT: Mapping[str, Mapping[str, Any]] = {
    "leaky": {"rate": 0.1},
    "zoneout": {"p": 0.1},
    "clockwork": {"periods": (1, 2, 4, 8)},
    "skip": {"delays": (1, 8)},
    "remove": {"delays": (2,)},
    "dilate": {"d": 2},
    "recurrent_dropout": {"p": 0.1},
    "clip_adjoint": {"bound": 1.0},
}


@dataclass(frozen=True)
class Parsed:
    """What a text says.

    Attributes:
        cell_text: The cell in full, without options.
        cell: The cell.
        options: The name and all arguments of each option around it, the outermost first.
    """

    cell_text: str
    cell: Cell
    options: tuple[tuple[str, dict[str, Any]], ...] = ()

    def __str__(self) -> str:
        """The text in full; `parse` gives the same again."""
        text = self.cell_text
        for name, arguments in reversed(self.options):
            text = f"{name}({', '.join([text, *_listed(arguments)])})"
        return text


def _listed(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={written(value)}" for name, value in arguments.items()]


def parse_cell(text: str) -> Cell:
    """The cell that a text names.

    Raises:
        ConfigError: it names none; the message says where and what was expected.

    Example:
        >>> parse_cell("lstm")
        <cell lstm: states h c; gates i f g o>
    """
    return parse(text).cell


def parse(text: str, options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Parsed:
    """The cell that a text names, and the options around it.

    Args:
        text: Such as "clip(skip:gru, norm=1)".
        options: The arguments that each option takes, with their defaults.

    Raises:
        ConfigError: the text cannot be read, a name is unknown, an option stands inside a cure.

    Example:
        >>> parse("clip(chrono:lstm, norm=2)", {"clip": {"norm": 1.0}, "chrono": {"t_max": 100}})
        Parsed(cell_text='lstm', cell=<cell lstm: states h c; gates i f g o>, \
options=(('clip', {'norm': 2}), ('chrono', {'t_max': 100})))
    """
    builder, expression = _Builder(text, options), read(text)
    found: dict[str, dict[str, Any]] = {}
    while expression.name in options:
        if expression.name in found:
            builder.refuse(expression, f"option {expression.name} is given twice.")
        found[expression.name] = builder.option(expression)
        expression = builder.inside(expression)
    full, cell = builder.cell(expression)
    if cell.depth > FARTHEST:
        builder.refuse(
            expression,
            f"the cell reads {cell.depth} steps back, and carries as many values of every "
            f"state; at most {FARTHEST} are allowed.",
        )
    return Parsed(str(full), cell, tuple(found.items()))


def known(options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> dict[str, list[str]]:
    """All names that a text may use by what they are, with the arguments of the short forms."""
    return {
        "cells": [*CATALOGUE],
        "factories": [_call(name, _defaults(make), ()) for name, make in FACTORIES.items()],
        "cures": [_call(name, SHORT[name]) for name in CURES],
        "options": [_call(name, kw) for name, kw in options.items()],
    }


def _defaults(make: Callable[..., Cell]) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(make).parameters.values()}


def _call(name: str, arguments: Mapping[str, Any], inner: tuple[str, ...] = ("CELL",)) -> str:
    return f"{name}({', '.join([*inner, *_listed(arguments)])})"


@dataclass(frozen=True)
class _Takes:
    """Which arguments a name takes.

    Attributes:
        names: All.
        placed: Those that may be given by position, in order.
        needed: Those that must be given.
    """

    names: tuple[str, ...]
    placed: tuple[str, ...]
    needed: tuple[str, ...] = ()


def _taken(function: Callable[..., Cell], *, around: bool) -> _Takes:
    found = list(inspect.signature(function).parameters.values())[around:]
    return _Takes(
        tuple(p.name for p in found),
        tuple(p.name for p in found if p.kind is not p.KEYWORD_ONLY),
        tuple(p.name for p in found if p.default is p.empty),
    )


class _Builder:
    """Makes the cell of an expression, and spells the expression out."""

    def __init__(self, text: str, options: Mapping[str, Mapping[str, Any]]) -> None:
        self.text, self.options = text, options

    def refuse(self, e: Expression, problem: str) -> Any:
        refuse(self.text, e.column, problem)

    def inside(self, e: Expression) -> Expression:
        """What a cure or an option stands around."""
        return e.inner or self.refuse(e, f"{e.name} stands around a cell, as in {e.name}:lstm.")

    def option(self, e: Expression) -> dict[str, Any]:
        """All arguments of an option."""
        defaults = self.options[e.name]
        return {**defaults, **self.arguments(e, _Takes(tuple(defaults), tuple(defaults)))}

    def cell(self, e: Expression) -> tuple[Expression, Cell]:
        """An expression with every argument by name, and its cell."""
        if e.name in CURES:
            return self._cured(e)
        if e.name in self.options:
            self.refuse(e, f"option {e.name} stands inside a cure; put it outside all cures.")
        if e.name not in CATALOGUE and e.name not in FACTORIES:
            names = [*CATALOGUE, *FACTORIES, *CURES, *self.options]
            self.refuse(e, f"{e.name!r} is unknown; {_nearest(e.name, names)}")
        if e.inner:
            self.refuse(e, f"{e.name} is a cell, no cure: it stands around nothing.")
        return self._made(e) if e.name in FACTORIES else self._listed(e)

    def _listed(self, e: Expression) -> tuple[Expression, Cell]:
        self.arguments(e, _Takes((), ()))
        return Expression(e.name), CATALOGUE[e.name]

    def _made(self, e: Expression) -> tuple[Expression, Cell]:
        named = self.arguments(e, _taken(FACTORIES[e.name], around=False))
        for name, value in named.items():
            if isinstance(value, int) and value > LARGEST_COUNT:
                self.refuse(e, f"{name} is {value}; at most {LARGEST_COUNT} is allowed.")
        return Expression(e.name, named=named), self._called(e, FACTORIES[e.name], **named)

    def _cured(self, e: Expression) -> tuple[Expression, Cell]:
        inner, cell = self.cell(self.inside(e))
        if not e.values and not e.named:
            e = replace(e, named=dict(SHORT[e.name]))
        named = self.arguments(e, _taken(CURES[e.name], around=True))
        return Expression(e.name, inner, named=named), self._called(e, CURES[e.name], cell, **named)

    def _called(self, e: Expression, make: Callable[..., Cell], *cell: Cell, **named: Any) -> Cell:
        try:
            return make(*cell, **named)
        except ThroughtimeError as error:
            return self.refuse(e, str(error))

    def arguments(self, e: Expression, takes: _Takes) -> dict[str, Any]:
        """The arguments of an expression by name."""
        taken = f"{e.name} takes {', '.join(takes.names) or 'no arguments'}"
        if len(e.values) > len(takes.placed):
            self.refuse(e, f"{taken}; got {len(e.values)} without a name.")
        placed = dict(zip(takes.placed, e.values, strict=False))
        for name in e.named:
            if name not in takes.names:
                nearest = f"; {_nearest(name, takes.names)}" if takes.names else "."
                self.refuse(e, f"{taken}; {name!r} is unknown{nearest}")
            if name in placed:
                self.refuse(e, f"{taken}; {name} is given twice.")
        missing = [name for name in takes.needed if name not in {*placed, *e.named}]
        if missing:
            self.refuse(e, f"{taken}; {missing[0]} is missing.")
        return placed | e.named


def _nearest(name: str, names: Iterable[str]) -> str:
    listed = list(names)
    close = get_close_matches(name, listed, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(listed)}."
