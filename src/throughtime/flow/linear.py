"""What is a linearised step? What anything that steps through time must tell of its derivatives."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["LinearSteps", "Pulled"]


class Pulled(NamedTuple):
    """What adjoints of a step's new states give one step of the chain rule further back.

    Attributes:
        past: The adjoint of each past value that was read, by (number of the state, lag).
        gates: The adjoint of each pre-activation, by gate; empty where nothing is known of gates.

    Shape:
        each [M, B, w]
    """

    past: dict[tuple[int, int], Tensor]
    gates: dict[str, Tensor]


class LinearSteps(Protocol):
    """Every step of a passage as a linear map, to be applied from the left.

    Attributes:
        states: The names of the states that have gradients, in order.
        widths: Their units.
        depth: D, the longest lag.
        count: T, steps.
        rows: B.
    """

    states: tuple[str, ...]
    widths: tuple[int, ...]
    depth: int
    count: int
    rows: int

    def pulled(self, t: int, adjoints: Sequence[Tensor]) -> Pulled:
        """Pull M adjoint vectors a row back through step t: a J_t for each part of the state.

        Args:
            t: The step, in the order of steps.
            adjoints: With respect to each new state of step t, the others held fixed.

        Shape:
            adjoints: each [M, B, w]
        """
        ...
