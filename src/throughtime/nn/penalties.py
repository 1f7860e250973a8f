"""What is a penalty that a layer adds by itself? Its weight, and its last value, kept for logs.

The loss is left alone: where the gradient of the loss passes through the layer, that of the
penalty is added. So it needs nothing from the loop that trains, and

    - every backward pass through a call adds it once;
    - it is not scaled with the loss, by a gradient scaler or by accumulation.
"""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Penalties", "Penalty"]


class Penalties:
    """The last value of each penalty of a layer, by name, and by layer and direction."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Tensor]] = {}

    def totals(self) -> dict[str, float]:
        """Each penalty summed over layers and directions."""
        return {name: sum(map(float, found.values())) for name, found in self.values.items()}


class Penalty(NamedTuple):
    """One penalty of one layer and direction.

    Attributes:
        weight: What its value is multiplied by.
        kept: Where its value is kept.
        suffix: The layer and direction, e.g. "_l0_reverse".
    """

    weight: float
    kept: Penalties
    suffix: str

    def keep(self, name: str, value: Tensor) -> None:
        """Keep its value, before the weight, in place of the one before."""
        self.kept.values.setdefault(name, {})[self.suffix] = value.detach()
