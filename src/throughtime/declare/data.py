"""What does a cell carry besides its equations? States, parameters and extra inputs, as data."""

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from throughtime.declare.graph import Width
from throughtime.errors import DeclarationError

RESERVED = frozenset({"x", "ih", "hh", "bias"})


def check_name(kind: str, name: object) -> str:
    """Return a name that may become part of a parameter's name, or refuse it."""
    if not isinstance(name, str) or not name.isidentifier():
        raise DeclarationError(f"{kind} {name!r}: a name must be an identifier such as 'h'.")
    if name in RESERVED or name.startswith(("ih_", "hh_")):
        raise DeclarationError(f"{kind} {name!r}: this name is reserved; choose another one.")
    return name


def check_width(kind: str, width: object) -> None:
    """Refuse a width that is neither symbolic nor a positive number."""
    symbolic = isinstance(width, str) and width in {"hidden", "projection"}
    if not symbolic and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
        raise DeclarationError(
            f"{kind}: width is {width!r}; it must be 'hidden', 'projection' or a positive integer."
        )


def check_count(what: str, value: object, least: int = 1) -> None:
    """Refuse a number of layers and the like that is not a whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DeclarationError(f"{what} is {value!r}; a whole number from {least} was expected.")


def as_float(what: str, value: object) -> float:
    """A number as a float, so that 1 and 1.0 make one cell."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DeclarationError(f"{what} is {value!r}; a number was expected.")
    return float(value)


def make_floats(item: Any, *names: str) -> None:
    """Turn fields of a frozen dataclass into floats."""
    for name in names:
        value = as_float(f"{type(item).__name__}: {name}", getattr(item, name))
        object.__setattr__(item, name, value)


@dataclass(frozen=True)
class Uniform:
    """Values drawn evenly from [low, high), once, when a layer is made."""

    low: float
    high: float

    def __post_init__(self) -> None:
        make_floats(self, "low", "high")
        if not self.low <= self.high:
            raise DeclarationError(f"Uniform: low {self.low} lies above high {self.high}.")


@dataclass(frozen=True)
class Blocks:
    """Equal groups of neighbouring units, each with its value."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Iterable):
            raise DeclarationError(f"Blocks takes a sequence of numbers; got {self.values!r}.")
        values = tuple(as_float("Blocks: a value", v) for v in self.values)
        object.__setattr__(self, "values", values)
        if not self.values:
            raise DeclarationError("Blocks needs at least one value; got none.")


@dataclass(frozen=True)
class Bernoulli:
    """1 with probability p, else 0; times a scale."""

    p: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        make_floats(self, "p", "scale")
        if not 0.0 <= self.p <= 1.0:
            raise DeclarationError(f"Bernoulli: p is {self.p!r}; a probability lies in [0, 1].")


@dataclass(frozen=True)
class State:
    """A vector carried from step to step.

    Attributes:
        name: Its name in the step.
        width: "hidden", "projection" or a number.
        initial: Its value in every unit before the first step.
        clock: Bookkeeping such as a counter: carried, reset and saved like any state, but without
            gradient, learned initial state or place in Jacobians.
    """

    name: str
    width: Width = "hidden"
    initial: float = 0.0
    clock: bool = False

    def __post_init__(self) -> None:
        check_name("state", self.name)
        check_width(f"state {self.name!r}", self.width)
        make_floats(self, "initial")


@dataclass(frozen=True)
class Param:
    """A vector of parameters, one a layer and direction.

    Attributes:
        name: Its name in the step.
        init: A number, `Uniform` or `Blocks`.
        low, high: Bounds it never crosses, by reparametrisation; init lies strictly inside.
        trainable: False keeps it as a buffer.
        width: "hidden", "projection" or a number.
    """

    name: str
    init: float | Uniform | Blocks = 0.0
    low: float | None = None
    high: float | None = None
    trainable: bool = True
    width: Width = "hidden"

    def __post_init__(self) -> None:
        check_name("param", self.name)
        check_width(f"param {self.name!r}", self.width)
        data = isinstance(self.init, Uniform | Blocks)
        bounds = [bound for bound in ("low", "high") if getattr(self, bound) is not None]
        make_floats(self, *bounds, *(() if data else ("init",)))
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        inside = low < min(self.initial_values()) and max(self.initial_values()) < high
        if not inside and (self.low is not None or self.high is not None):
            raise DeclarationError(
                f"param {self.name!r}: init {self.init!r} must lie strictly inside its bounds "
                f"({self.low}, {self.high})."
            )

    def initial_values(self) -> tuple[float, ...]:
        """The numbers that bound or make up the initial values."""
        if isinstance(self.init, Uniform):
            return (self.init.low, self.init.high)
        return self.init.values if isinstance(self.init, Blocks) else (self.init,)


@dataclass(frozen=True)
class Extra:
    """An elementwise input besides x: a mask that is drawn, or data such as time gaps.

    Attributes:
        name: Its name in the step.
        sample: The distribution it is drawn from in training; None: the caller must pass it.
        eval: Its value outside training when it is drawn.
        per: "step": one draw a step; "sequence": one a row and call, anew after a reset.
        width: "hidden", "projection" or a number (1: one value for all units).
    """

    name: str
    sample: Bernoulli | None = None
    eval: float | None = None
    per: Literal["step", "sequence"] = "step"
    width: Width = "hidden"

    def __post_init__(self) -> None:
        check_name("extra", self.name)
        check_width(f"extra {self.name!r}", self.width)
        if self.eval is not None:
            make_floats(self, "eval")
        if self.per not in {"step", "sequence"}:
            raise DeclarationError(
                f"extra {self.name!r}: per is {self.per!r}, not 'step' or 'sequence'."
            )
        if (self.sample is None) != (self.eval is None):
            raise DeclarationError(
                f"extra {self.name!r}: give both sample and eval (a drawn mask), or neither (data "
                f"the caller passes); got sample={self.sample!r}, eval={self.eval!r}."
            )
