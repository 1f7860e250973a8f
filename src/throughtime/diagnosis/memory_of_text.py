"""What does a language model still remember of a text, symbol by symbol?

    connectivity(t, k) = || d log p(s_{t+1}) / d e_k ||,    e_k the embedding of symbol k

Every row of a batch is the same text, and row t has a loss at position t alone: one backward pass
gives all positions.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from throughtime.models import LanguageModel
from throughtime.tasks import Corpus, Vocabulary

__all__ = ["memory_of_text"]

_SYMBOLS = 160  # what a reader takes in; one row of the batch each


def memory_of_text(model: LanguageModel, corpus: Corpus, symbols: int = _SYMBOLS) -> dict[str, Any]:
    """How strongly each prediction depends on each symbol before it.

    Args:
        model: In evaluation mode.
        corpus: Its text; the beginning of the validation part is read.
        symbols: How many.

    Returns:
        "symbols": the text, symbol by symbol; "positions": which of them are predicted;
        "connectivity": for each of these a list over the symbols before it.

    Source:
        Madsen 2019, "Visualizing memorization in RNNs" (differs: the norm over the embedding of the
        gradient of the log probability of what really came next).
    """
    ids = np.asarray(corpus.valid[: symbols + 1], dtype=np.int64)
    steps = len(ids) - 1
    tokens = torch.from_numpy(ids[:-1]).to(model.embedding.weight.device)
    targets = torch.from_numpy(ids[1:]).to(tokens.device)
    embedded: list[torch.Tensor] = []

    def keep(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    hook = model.embedding.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            rows = tokens[:, None].expand(steps, steps).contiguous()
            wanted = targets[:, None].expand(steps, steps).contiguous()
            nll_nats, _ = model.nll_nats(rows, wanted, reset=_resets(corpus, steps))
            (gradient,) = torch.autograd.grad(nll_nats.diagonal().sum(), embedded)
    finally:
        hook.remove()
    norms = gradient.norm(dim=-1).T.tolist()  # [position, symbol]
    return {
        "symbols": _symbols(corpus.vocabulary, ids.tolist()),
        "positions": list(range(1, steps + 1)),
        "connectivity": [row[: t + 1] for t, row in enumerate(norms)],
    }


def _symbols(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    """Each as it reads, a word with the blank behind it."""
    each = [vocabulary.decode([i]) for i in ids]
    if vocabulary.unit != "word":
        return each
    pairs = zip(pairwise(ids), each[1:], strict=True)
    return [*(vocabulary.decode(pair).removesuffix(second) for pair, second in pairs), each[-1]]


def _resets(corpus: Corpus, steps: int) -> torch.Tensor | None:
    """Where a document begins within the text, for every row; None where none does."""
    inside = [int(start) for start in corpus.valid_starts if 0 < start < steps]
    if not inside:
        return None
    reset = torch.zeros(steps, steps, dtype=torch.bool)
    reset[inside] = True
    return reset
