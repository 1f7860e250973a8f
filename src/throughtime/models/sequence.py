"""Which model answers a task? A recurrent stack and one matrix, asked at some steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from throughtime.declare import Cell
from throughtime.errors import ConfigError, ShapeError
from throughtime.nn import Recurrent

__all__ = ["SequenceModel", "answer_losses"]

Hx = Tensor | Sequence["Hx"] | None

_ANSWERS = ("class", "value", "keys")


class SequenceModel(nn.Module):
    """Answer at every step from all inputs so far.

        h_t = recurrent(x_t, h_{t-1}),    o_t = W h_t + b

    Args:
        cell: Cell of every layer.
        input_size: I.
        output_size: O: classes, values or keys.
        hidden_size: Units of a layer.
        num_layers: Layers.
        answer: "class": o are logits of one of O classes; "value": o are the values; "keys": o are
            logits of O independent bits.
        dropout: Probability of dropping a value between layers and after the last one.
        options: More of `Recurrent`'s, such as engine, init or weight_drop.

    Shape:
        inputs: [T, B, I]; outputs: [T, B, O]; targets: [T, B] of classes, else [T, B, O];
        is_counted: [T, B]; lengths: [B]

    Source:
        Goodfellow et al. 2016, section 10.2, eq. 10.8-10.11; Bernoulli outputs as
        Boulanger-Lewandowski et al. 2012.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        output_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        answer: str = "class",
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if answer not in _ANSWERS:
            raise ConfigError(f"answer is {answer!r}; expected one of {', '.join(_ANSWERS)}.")
        self.answer = answer
        self.recurrent = Recurrent(
            cell,
            input_size,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            **options,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.recurrent.output_size, output_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def forward(
        self, inputs: Tensor, hx: Hx = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Hx]:
        """The outputs at every step, and the state to carry on."""
        features, hx = self.recurrent(inputs, hx, lengths=lengths)
        return self.head(self.dropout(features)), hx

    def loss(
        self, inputs: Tensor, targets: Tensor, is_counted: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """The loss at each counted step, in the order of the steps, [N].

        Raises:
            ShapeError: Targets or counted steps do not have the steps and rows of the inputs.
        """
        for name, part in (("targets", targets), ("is_counted", is_counted)):
            if part.shape[:2] != inputs.shape[:2]:
                raise ShapeError(
                    f"{name} has shape {list(part.shape)}; expected [T, B, ...] with T, B = "
                    f"{list(inputs.shape[:2])} as the inputs have."
                )
        features, _ = self.recurrent(inputs, lengths=lengths)
        outputs = self.head(self.dropout(features[is_counted]))
        return self.losses(outputs, targets[is_counted])

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Negative log probability in nats, or mean squared error, of each answer.

        Shape:
            outputs: [N, O]; targets: [N] of classes, else [N, O]; losses: [N]
        """
        return answer_losses(self.answer, outputs, targets)


def answer_losses(answer: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log probability in nats, or mean squared error, of each answer of a kind.

    Shape:
        outputs: [N, O]; targets: [N] of classes, else [N, O]; losses: [N]
    """
    if answer == "class":
        return functional.cross_entropy(outputs, targets, reduction="none")
    if answer == "value":
        return (outputs - targets).square().mean(-1)
    bits = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return bits.sum(-1)
