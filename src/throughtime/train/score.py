"""In which unit is a loss told to people?"""

import math

from throughtime.tasks import Corpus, baselines

__all__ = ["baseline_scores", "in_words", "metric_name", "metric_value", "symbols_per_char"]


def metric_name(unit: str) -> str:
    """The measure that the field reports for texts cut into such symbols."""
    return "perplexity" if unit == "word" else "bits_per_char"


def metric_value(nats_per_symbol: float, unit: str, symbols_a_char: float) -> float:
    """A loss in that measure: perplexity a word, or bits a character whatever the symbol is.

    Args:
        nats_per_symbol: Mean negative log probability of a symbol.
        unit: What a symbol is.
        symbols_a_char: Symbols of the text over its characters.
    """
    if unit == "word":
        return math.exp(min(nats_per_symbol, 700.0))  # beyond that a float is infinite
    return nats_per_symbol / math.log(2.0) * symbols_a_char


def symbols_per_char(corpus: Corpus) -> float:
    """Symbols of the validation text over its characters: 1 for characters."""
    return len(corpus.valid) / len(corpus.valid_text)


def baseline_scores(corpus: Corpus) -> dict[str, float]:
    """What models without a network make of the validation text, in the same measure."""
    unit, factor = corpus.vocabulary.unit, symbols_per_char(corpus)
    return {
        name: metric_value(bits * math.log(2.0), unit, factor)
        for name, bits in baselines(corpus).items()
    }


def in_words(value: float, name: str) -> str:
    """A score with its unit; one of a task is told in its own."""
    match name:
        case "perplexity":
            return f"perplexity {value:.1f}"
        case "bits_per_char":
            return f"{value:.3f} bits/char"
        case _:
            return f"{value:.4g} ({name})"
