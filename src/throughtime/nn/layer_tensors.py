"""Which of a layer's tensors is which? Its recurrent blocks, matrices and biases."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from throughtime.declare.graph import terms
from throughtime.declare.slots import Slot
from throughtime.engine.job import Job, rows
from throughtime.errors import ConfigError


def is_recurrent(job: Job, slot: Slot) -> bool:
    """Whether the matrices of a slot read past states."""
    return any(
        piece.place is not None
        and terms(job.cell.affines[piece.gate])[piece.place].kind == "recurrent"
        for piece in slot.pieces
    )


class LayerTensors(NamedTuple):
    """The tensors of one layer and direction.

    Attributes:
        job: The cell and its sizes.
        weights: In the order of `job.slots`.
        params: Those of the cell as they are stored, by name.
    """

    job: Job
    weights: tuple[Tensor, ...]
    params: dict[str, Tensor]

    def _blocks(self) -> Iterator[Tensor]:
        """The rows of each gate in each recurrent matrix."""
        for weight, slot in zip(self.weights, self.job.slots, strict=True):
            if is_recurrent(self.job, slot):
                yield from (weight[part] for _, part in rows(self.job, slot))

    def recurrent_blocks(self, wanted_by: object, *, square: bool = False) -> list[Tensor]:
        """The blocks, or the square ones among them.

        Raises:
            ConfigError: there is none.
        """
        found = [b for b in self._blocks() if not square or b.shape[0] == b.shape[1]]
        if not found:
            kind = "square recurrent" if square else "recurrent"
            raise ConfigError(
                f"init={wanted_by}: {self.job.cell.name} has no {kind} matrix to set; leave it "
                f"out, or take a cell that has one, such as rnn or lstm."
            )
        return found

    def biases(self) -> list[Tensor]:
        """The bias vectors."""
        pairs = zip(self.weights, self.job.slots, strict=True)
        return [weight for weight, slot in pairs if slot.columns is None]

    def matrices(self) -> list[Tensor]:
        """All that is no bias."""
        pairs = zip(self.weights, self.job.slots, strict=True)
        return [weight for weight, slot in pairs if slot.columns is not None]

    def matrix_blocks(self) -> list[Tensor]:
        """The rows of each gate in each matrix."""
        pairs = zip(self.weights, self.job.slots, strict=True)
        return [
            weight[part]
            for weight, slot in pairs
            if slot.columns is not None
            for _, part in rows(self.job, slot)
        ]

    def offsets(self, gate: str) -> list[Tensor]:
        """The vectors that add up to a gate's bias: rows of bias tensors, or a param."""
        found = [
            weight[part]
            for weight, slot in zip(self.weights, self.job.slots, strict=True)
            for piece, part in rows(self.job, slot)
            if slot.columns is None and piece.gate == gate
        ]
        return found or [param for name, param in self.params.items() if name == gate]
