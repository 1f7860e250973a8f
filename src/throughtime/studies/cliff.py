"""Why is a gradient clipped? The error surface of one recurrent unit, and two walks down it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CLIP_NORM", "LEARNING_RATE", "START", "STEPS", "Cliff", "Point", "cliff", "unit_error"]

STEPS = 50
_FIRST, _TARGET = 0.5, 0.7  # x_0, and what sigmoid(x_50) should be

START = (5.5, -1.5)
LEARNING_RATE, CLIP_NORM, _UPDATES = 1.0, 1.0, 60
_W, _B, _GRID = (3.8, 6.2), (-3.2, -0.8), 121

Numbers = NDArray[np.float64]


class Error(NamedTuple):
    """The error of the unit, and its derivatives."""

    value: Numbers
    by_w: Numbers
    by_b: Numbers


class Point(NamedTuple):
    """Where a walk is, how large the error is there and how long its gradient."""

    w: float
    b: float
    error: float
    gradient_norm: float


@dataclass(frozen=True)
class Cliff:
    """The surface, and where gradient descent goes on it with the same start and learning rate.

    Attributes:
        w, b: The grid.
        error: On the grid, by b then w.
        plain: Points of plain gradient descent, the start first.
        clipped: The same with the gradient scaled down to a norm of `CLIP_NORM`.
    """

    w: Numbers
    b: Numbers
    error: Numbers
    plain: list[Point]
    clipped: list[Point]

    @property
    def leap(self) -> int:
        """The number of the update from the point of plain descent with the longest gradient."""
        return max(range(len(self.plain) - 1), key=lambda i: self.plain[i].gradient_norm)

    def as_json(self) -> dict[str, Any]:
        """The walks as plain numbers; the surface they go on follows from its equation."""
        return {
            "learning_rate": LEARNING_RATE,
            "clip_norm": CLIP_NORM,
            "steps": STEPS,
            "leap": self.leap,
            "plain": [point._asdict() for point in self.plain],
            "clipped": [point._asdict() for point in self.clipped],
        }

    def surface(self) -> dict[str, Any]:
        """The grid and the error on it, as lists."""
        return {"w": self.w.tolist(), "b": self.b.tolist(), "error": self.error.tolist()}


def unit_error(w: ArrayLike, b: ArrayLike) -> Error:
    """The error of the unit and its exact derivatives, at any points (w, b).

        x_t = w sigmoid(x_{t-1}) + b,  x_0 = 0.5,  E = (sigmoid(x_50) - 0.7)^2
        dx_t/dw = sigmoid(x_{t-1}) + w sigmoid'(x_{t-1}) dx_{t-1}/dw, and likewise for b

    Source:
        Pascanu et al. 2013, arXiv:1211.5063, the figure of the error surface of one hidden unit.
    """
    across, up = np.broadcast_arrays(np.asarray(w, np.float64), np.asarray(b, np.float64))
    x = np.full(across.shape, _FIRST)
    by_w, by_b = np.zeros(across.shape), np.zeros(across.shape)
    for _ in range(STEPS):
        f = _sigmoid(x)
        factor = across * f * (1.0 - f)
        by_w, by_b = f + factor * by_w, 1.0 + factor * by_b
        x = across * f + up
    y = _sigmoid(x)
    outer = 2.0 * (y - _TARGET) * y * (1.0 - y)
    return Error(np.square(y - _TARGET), outer * by_w, outer * by_b)


def cliff() -> Cliff:
    """The surface around the wall, and both walks."""
    w, b = np.linspace(*_W, _GRID), np.linspace(*_B, _GRID)
    surface = unit_error(w[None, :], b[:, None]).value
    return Cliff(w, b, surface, _walk(clip_norm=np.inf), _walk(clip_norm=CLIP_NORM))


def _walk(clip_norm: float) -> list[Point]:
    """Gradient descent from the start."""
    w, b = START
    points = []
    for _ in range(_UPDATES + 1):
        found = unit_error(w, b)
        norm = float(np.hypot(found.by_w, found.by_b))
        points.append(Point(w, b, float(found.value), norm))
        step = LEARNING_RATE * min(1.0, clip_norm / norm)
        w, b = w - step * float(found.by_w), b - step * float(found.by_b)
    return points


def _sigmoid(x: Numbers) -> Numbers:
    return 1.0 / (1.0 + np.exp(-x))
