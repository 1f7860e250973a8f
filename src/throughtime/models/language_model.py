"""How do recurrent layers predict the next symbol of a text?"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from throughtime.declare import Cell
from throughtime.errors import ConfigError
from throughtime.nn import Recurrent

__all__ = ["AdaptiveSoftmax", "Hx", "LanguageModel", "Softmax"]

Hx = Tensor | Sequence["Hx"] | None  # what a recurrent layer carries on, as `Recurrent` has it

# Each further group of rarer symbols sees features projected to a quarter of the one before.
_TAIL_DIVISOR = 4


class Softmax(nn.Linear):
    """Log probabilities of all symbols from one matrix: log softmax(W f + b).

    Shape:
        features f: [W, B, H]; targets: [W, B]
    """

    def log_probs(self, features: Tensor) -> Tensor:
        """Log probability of every symbol, [W, B, V]."""
        return log_softmax(self(features), dim=-1)

    def nll_nats(self, features: Tensor, targets: Tensor) -> Tensor:
        """Negative log probability of each target, [W, B]."""
        logits = self(features).flatten(0, 1)
        return cross_entropy(logits, targets.flatten(), reduction="none").view_as(targets)


class AdaptiveSoftmax(nn.Module):
    """Log probabilities where frequent symbols are cheap and rare ones share smaller matrices.

    Symbols must be numbered from the most frequent to the rarest, as vocabularies here are.

    Shape:
        features: [W, B, H]; targets: [W, B]

    Source:
        Grave et al. 2017, arXiv:1609.04309; `torch.nn.AdaptiveLogSoftmaxWithLoss`.
    """

    def __init__(self, features: int, vocabulary_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            features, vocabulary_size, list(cutoffs), div_value=_TAIL_DIVISOR
        )

    def log_probs(self, features: Tensor) -> Tensor:
        """Log probability of every symbol, [W, B, V]."""
        flat = self.softmax.log_prob(features.flatten(0, 1))
        return flat.view(*features.shape[:2], -1)

    def nll_nats(self, features: Tensor, targets: Tensor) -> Tensor:
        """Negative log probability of each target, [W, B]."""
        found, _ = self.softmax(features.flatten(0, 1), targets.flatten())
        return -found.view_as(targets)


class LanguageModel(nn.Module):
    """Predict the next symbol of a text from all symbols so far.

        h_t = recurrent(E[s_t], h_{t-1}),    p(s_{t+1}) = softmax(W h_t + b)

    Dropout falls on the embedding, between layers and on the last layer, never on the recurrent
    path. The state is carried by the caller: what one call returns enters the next.

    Args:
        cell: Cell of every layer.
        vocabulary_size: Number of symbols V.
        hidden_size: Units of a layer.
        num_layers: Layers.
        embedding_size: Size D of a symbol's vector.
        embedding_range: Vectors start uniform in plus or minus this, 0.1 with Zaremba et al. If
            None they start normal: of variance 1, which weights of layers are scaled for, or tied
            of 1/sqrt(D), between that and the 1/D that logits of size 1 would need.
        dropout: Probability of dropping a value.
        tied: Use the embedding E as the output matrix W.
        cutoffs: Cut-offs of an adaptive softmax; none for a full one.
        options: More of `Recurrent`'s, such as proj_size, engine, init or weight_drop.

    Raises:
        ConfigError: `tied` and the sizes differ, or cut-offs do not fit the sizes.

    Shape:
        tokens, targets, reset: [W, B]; hx: as the recurrent layer's; log probabilities: [W, B, V]

    Source:
        Mikolov et al. 2010; dropout as Zaremba et al. 2014, arXiv:1409.2329; tied weights as
        Press & Wolf 2017, arXiv:1608.05859.
    """

    def __init__(
        self,
        cell: Cell,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        embedding_size: int,
        embedding_range: float | None = None,
        dropout: float = 0.0,
        tied: bool = False,
        cutoffs: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        if embedding_range is not None:
            nn.init.uniform_(self.embedding.weight, -embedding_range, embedding_range)
        elif tied:
            nn.init.normal_(self.embedding.weight, std=embedding_size**-0.25)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = Recurrent(
            cell,
            embedding_size,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            **options,
        )
        features = self.recurrent.output_size
        self.head = _make_head(features, vocabulary_size, cutoffs)
        if tied:
            self._tie(features)

    def forward(
        self, tokens: Tensor, hx: Hx = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, Hx]:
        """Log probabilities of the symbol after each of `tokens`, and the state to carry on."""
        features, hx = self._features(tokens, hx, reset)
        return self.head.log_probs(features), hx

    def nll_nats(
        self, tokens: Tensor, targets: Tensor, hx: Hx = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, Hx]:
        """Negative log probability of each of `targets`, [W, B], and the state to carry on."""
        features, hx = self._features(tokens, hx, reset)
        return self.head.nll_nats(features, targets), hx

    def _features(self, tokens: Tensor, hx: Hx, reset: Tensor | None) -> tuple[Tensor, Hx]:
        embedded = self.dropout(self.embedding(tokens))
        output, hx = self.recurrent(embedded, hx, reset=reset)
        return self.dropout(output), hx

    def _tie(self, features: int) -> None:
        if self.embedding.embedding_dim != features or not isinstance(self.head, Softmax):
            raise ConfigError(
                f"tied is set, but the embedding has size {self.embedding.embedding_dim} and the "
                f"last layer {features}; one matrix needs a full softmax and equal sizes. "
                f"Give --embedding {features}, or drop --tied."
            )
        self.head.weight = self.embedding.weight


def _make_head(
    features: int, vocabulary_size: int, cutoffs: Sequence[int]
) -> Softmax | AdaptiveSoftmax:
    if not cutoffs:
        return Softmax(features, vocabulary_size)
    if max(cutoffs) >= vocabulary_size:
        raise ConfigError(
            f"adaptive has the cut-off {max(cutoffs)}, but the vocabulary has {vocabulary_size} "
            "symbols. Give cut-offs below that, or drop --adaptive."
        )
    if features < _TAIL_DIVISOR ** len(cutoffs):
        raise ConfigError(
            f"adaptive has {len(cutoffs)} cut-offs, but the last layer has {features} features; "
            f"each cut-off takes a {_TAIL_DIVISOR}th of them. Give fewer, or a larger --hidden."
        )
    return AdaptiveSoftmax(features, vocabulary_size, cutoffs)
