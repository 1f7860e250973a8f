"""Are the baselines the numbers that their definitions and the literature give?"""

import lzma
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.tasks import baselines, build_vocabulary, load_corpus, read_text
from throughtime.tasks.baselines import witten_bell

DATA = Path(__file__).parents[3] / "shared" / "data"
V = 4


def bits(probability):
    return float(-np.log2(probability).mean())


def by_definition(train, history, w, size):
    """p(w | history), the formula word for word."""
    lower = 1.0 / size if not history else by_definition(train, history[1:], w, size)
    k = len(history)
    if history and history[0] is None:  # before the text: not a history
        return lower
    following = Counter(
        train[i + k] for i in range(len(train) - k) if train[i : i + k] == list(history)
    )
    if not following:
        return lower
    n_distinct = len(following)
    return (following[w] + n_distinct * lower) / (following.total() + n_distinct)


@settings(deadline=None)
@given(
    train=st.lists(st.integers(0, V - 2), min_size=1, max_size=40),
    valid=st.lists(st.integers(0, V - 1), min_size=1, max_size=12),
    order=st.integers(1, 5),
)
def test_it_is_the_formula(train, valid, order):
    padded = [None] * (order - 1) + valid
    expected = [
        by_definition(train, _known(padded[t : t + order - 1]), valid[t], V)
        for t in range(len(valid))
    ]
    found = witten_bell(np.array(train), np.array(valid), V, order)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def _known(history):
    return tuple(symbol for symbol in history if symbol is not None)


@settings(deadline=None)
@given(
    train=st.lists(st.integers(0, V - 2), min_size=1, max_size=60),
    history=st.lists(st.integers(0, V - 1), max_size=6),
    order=st.integers(1, 6),
)
def test_probabilities_sum_to_one_after_any_history(train, history, order):
    after = [witten_bell(np.array(train), np.array([*history, w]), V, order)[-1] for w in range(V)]
    assert min(after) > 0.0  # symbol V - 1 is never in the training text
    assert math.fsum(after) == pytest.approx(1.0, rel=1e-12)


def test_the_validation_text_is_scored_but_not_counted():
    train, valid = np.array([0, 1] * 20), np.array([2, 2, 2, 2, 2, 2])
    probability = witten_bell(train, valid, 3, 5)
    np.testing.assert_allclose(probability, probability[0])  # it does not learn on the way
    assert probability[0] == pytest.approx((2 / 3) / (40 + 2))


def test_a_symbol_is_scored_by_what_precedes_it_alone():
    rng = np.random.default_rng(0)
    train, valid = rng.integers(0, 5, 500), rng.integers(0, 5, 50)
    whole = witten_bell(train, valid, 5, 5)
    np.testing.assert_array_equal(whole[:30], witten_bell(train, valid[:30], 5, 5))
    np.testing.assert_array_equal(whole[40:], witten_bell(train, valid[36:], 5, 5)[4:])


def test_a_text_that_repeats_is_predicted_by_a_longer_history():
    train = np.tile([0, 1, 0, 2], 200)
    scores = [bits(witten_bell(train, train[:80], 3, order)) for order in (1, 2, 3)]
    assert scores[0] == pytest.approx(1.5, abs=0.01)
    assert scores[1] == pytest.approx(0.5, abs=0.05)
    assert scores[2] < 0.1


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_baselines_are_bits_a_symbol_and_finite_on_unknown_symbols(tmp_path, unit):
    text = "the cat sat on the mat \n" * 60 + "\u00fc\u00f6 zyx " * 20
    (tmp_path / "a.txt").write_bytes(text.encode())
    corpus = load_corpus(tmp_path / "a.txt", unit, 0.2)
    found = baselines(corpus)
    assert list(found) == ["uniform", "unigram", "ngram5", "lzma"]
    assert all(0.0 < value < math.inf for value in found.values())
    size = corpus.vocabulary.size
    assert found["uniform"] == math.log2(size)
    assert found["unigram"] == bits(witten_bell(corpus.train, corpus.valid, size, 1))
    assert found["ngram5"] == bits(witten_bell(corpus.train, corpus.valid, size, 5))
    packed = lzma.compress(corpus.valid_text.encode())
    assert found["lzma"] * len(corpus.valid) == pytest.approx(8 * len(packed))
    assert lzma.decompress(packed).decode() == corpus.valid_text


def test_baselines_of_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a").write_bytes(np.random.default_rng(0).bytes(20_000))
    found = baselines(load_corpus(tmp_path / "a", "byte"))
    assert all(7.99 < value < 8.8 for value in found.values()), found  # noise cannot be packed


def test_on_the_manual_of_python_they_are_about_what_was_measured():
    # 1.99 and 2.03 with the manual of Python 3.11; every release has its own text.
    found = baselines(load_corpus(None))
    assert 1.7 < found["ngram5"] < 2.2
    assert 1.8 < found["lzma"] < 2.3
    assert found["ngram5"] < found["unigram"] < found["uniform"]


# --- Floors of the literature, where the texts are at hand ---


def shared(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name}, which is not part of the repository")
    return path


@pytest.mark.parametrize(
    ("name", "order", "bits_per_char"),
    [
        ("tinyshakespeare/input.txt.gz", 2, 3.583),
        pytest.param("warpeace/warpeace_input.txt.gz", 2, 3.517, marks=pytest.mark.slow),
    ],
)
def test_bigrams_of_known_texts(name, order, bits_per_char):
    corpus = load_corpus(shared(name))
    probability = witten_bell(corpus.train, corpus.valid, corpus.vocabulary.size, order)
    assert bits(probability) == pytest.approx(bits_per_char, abs=0.004)


def test_shakespeare_is_split_as_usual():
    corpus = load_corpus(shared("tinyshakespeare/input.txt.gz"))
    assert (len(corpus.train), len(corpus.valid)) == (1_003_854, 111_540)
    assert corpus.vocabulary.size == 65 + 1


def test_words_of_the_penn_treebank():
    corpus = load_corpus(shared("ptb"), "word")
    assert (len(corpus.train), len(corpus.valid)) == (929_589, 73_760)
    assert corpus.vocabulary.size == 10_000
    test = corpus.vocabulary.encode(read_text(shared("ptb/ptb.test.txt.gz"), "word"))
    assert len(test) == 82_430
    perplexity = 2.0 ** bits(witten_bell(corpus.train, test, 10_000, 1))
    assert perplexity == pytest.approx(639.3, abs=0.6)  # that one is not smoothed


@pytest.mark.slow
def test_characters_of_the_penn_treebank():
    def without_leading_blanks(part):
        text = read_text(shared(f"ptb/ptb.{part}.txt.gz"), "char")
        return "".join(line.removeprefix(" ") for line in text.splitlines(keepends=True))

    train, test = without_leading_blanks("train"), without_leading_blanks("test")
    vocabulary = build_vocabulary(train, "char")
    assert (len(train), len(test), vocabulary.size) == (5_059_550, 446_184, 50 + 1)
    probability = witten_bell(vocabulary.encode(train), vocabulary.encode(test), vocabulary.size, 2)
    assert bits(probability) == pytest.approx(3.338, abs=0.001)
