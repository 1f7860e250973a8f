"""What do models without a network make of the validation text?"""

import lzma
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.tasks.text import Corpus

__all__ = ["baselines", "witten_bell"]

_ORDER = 5


def baselines(corpus: Corpus) -> dict[str, float]:
    """Mean bits a symbol of the validation text, by four models.

        uniform  every symbol of the vocabulary is as probable as any other
        unigram  symbols by their frequency in the training text
        ngram5   symbols by the four before them, interpolated; see `witten_bell`
        lzma     the validation text alone, packed: knows no training text, but learns on the way

    The unknown symbol is one of the vocabulary, so no symbol has probability zero.
    """
    size = corpus.vocabulary.size
    packed = lzma.compress(corpus.valid_text.encode("utf-8", "surrogateescape"))
    return {
        "uniform": math.log2(size),
        "unigram": _bits(corpus, 1),
        "ngram5": _bits(corpus, _ORDER),
        "lzma": 8 * len(packed) / len(corpus.valid),
    }


def _bits(corpus: Corpus, order: int) -> float:
    probability = witten_bell(corpus.train, corpus.valid, corpus.vocabulary.size, order)
    return float(-np.log2(probability).mean())


def witten_bell(
    train: NDArray[Any], valid: NDArray[Any], vocabulary_size: int, order: int
) -> NDArray[np.float64]:
    """Probability of each symbol of `valid` given up to `order` - 1 before it, in `valid`.

        p_k(w | h) = (c(h w) + T(h) p_{k-1}(w | h')) / (c(h) + T(h)),   p_0(w) = 1 / V

    where h are the k - 1 symbols before w and h' the last k - 2 of them, c(h w) and c(h) count in
    `train` how often w follows h and how often anything does, T(h) is the number of distinct
    symbols that do. After an h that `train` does not have, p_k is p_{k-1}.

    Args:
        train: Symbols that are counted.
        valid: Symbols that are scored.
        vocabulary_size: Number of distinct symbols there may be, V.
        order: Length of the longest h w.

    Shape:
        train: [N]; valid: [T]; result: [T]

    Source:
        Witten & Bell 1991 (method C), interpolated as in Chen & Goodman 1998, section 2.4.
    """
    n = len(train)
    ids = np.concatenate([train, valid]).astype(np.int64)
    probability = np.full(len(valid), 1.0 / vocabulary_size)
    gram = np.zeros(len(ids), np.int64)  # number of the k-gram that ends here, all equal for k = 0
    for k in range(1, order + 1):
        history = np.concatenate([gram[:1], gram[:-1]])
        grams, gram = np.unique(history * vocabulary_size + ids, return_inverse=True)
        # Nothing is before a text: the first k - 1 symbols of either part end no k-gram of it.
        counts = np.bincount(gram[k - 1 : n], minlength=len(grams))
        history_of = grams // vocabulary_size
        n_histories = int(history.max()) + 1
        history_counts = np.bincount(history_of, counts, n_histories)
        followers = np.bincount(history_of[counts > 0], minlength=n_histories)

        now, before = gram[n + k - 1 :], history[n + k - 1 :]
        lower, total = probability[k - 1 :], (history_counts + followers)[before]
        known = total > 0
        mixed = counts[now] + followers[before] * lower
        lower[known] = mixed[known] / total[known]  # a view: this sets `probability`
    return probability
