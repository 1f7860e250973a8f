"""Does a text come back from its numbers, and is every other text or size refused?"""

import importlib.util
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import ConfigError, DataError
from throughtime.tasks import Vocabulary, build_vocabulary

needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None, reason="needs the extra throughtime[text]"
)
UNITS = ["char", "byte", "word", pytest.param("bpe", marks=needs_tokenizers)]
TEXT = "To be, or not to be:\r\nthat is\tthe question \N{EM DASH} caf\u00e9 \U0001f600\n\n"
WORDS = st.text(st.sampled_from("ab<eos>\u00e9"), min_size=1).filter(lambda w: "<eos>" not in w)


@settings(deadline=None)
@given(st.text())
def test_characters_come_back(text):
    vocabulary = build_vocabulary(text, "char")
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert len(ids) == len(text)
    assert vocabulary.decode(ids) == text


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_bytes_come_back_even_if_they_are_no_utf8(text):
    vocabulary = build_vocabulary("", "byte")
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert bytes(ids.tolist()) == text.encode("utf-8", "surrogateescape")
    assert vocabulary.decode(ids) == text


@settings(deadline=None)
@given(st.lists(st.lists(WORDS), min_size=1))
def test_words_come_back_with_one_blank_between_them(lines):
    text = "\n".join(" ".join(line) for line in lines)
    vocabulary = build_vocabulary(text, "word")
    assert vocabulary.decode(vocabulary.encode(text)) == text


@needs_tokenizers
@settings(deadline=None, max_examples=50)
@given(st.text())
def test_byte_pairs_come_back_whatever_the_training_text(text):
    vocabulary = TRAINED_BPE()
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert vocabulary.decode(ids) == text


def TRAINED_BPE(size=300):
    return build_vocabulary(TEXT * 20, "bpe", max_size=size)


def test_byte_vocabulary_is_the_256_bytes():
    vocabulary = build_vocabulary("abc", "byte")
    assert vocabulary.size == 256
    assert vocabulary.encode("a\u00e9").tolist() == [0x61, 0xC3, 0xA9]


def test_characters_not_seen_in_training_are_one_unknown_symbol():
    vocabulary = build_vocabulary("aab", "char")
    assert vocabulary.size == 3
    assert vocabulary.encode("abxy\ud800").tolist() == [0, 1, 2, 2, 2]
    assert vocabulary.decode([0, 1, 2]) == "ab\ufffd"


def test_words_split_on_whitespace_and_a_line_end_is_eos():
    vocabulary = build_vocabulary(" the cat \r\n\n the\u2028dog <unk>\n", "word")
    ids = vocabulary.encode(" the cat \r\n\n the\u2028dog bird\n")
    names = vocabulary.to_dict()["symbols"]
    assert [names[i] for i in ids] == [
        "the", "cat", "<eos>", "<eos>", "the", "dog", "<unk>", "<eos>",
    ]  # fmt: skip
    assert vocabulary.decode(ids) == "the cat\n\nthe dog <unk>\n"


def test_words_have_eos_and_unk_even_if_the_text_has_none():
    vocabulary = build_vocabulary("a b", "word")
    assert set(vocabulary.to_dict()["symbols"]) == {"a", "b", "<unk>", "<eos>"}
    assert vocabulary.decode(vocabulary.encode("\nc")) == "\n<unk>"


@pytest.mark.parametrize("unit", ["char", "word"])
def test_the_most_frequent_symbol_comes_first_and_ties_have_an_order(unit):
    text = "c a b b d d d" if unit == "word" else "cabbddd"
    symbols = build_vocabulary(text, unit).to_dict()["symbols"]
    assert symbols[:4] == ["d", "b", "a", "c"]


@pytest.mark.parametrize(
    ("unit", "size", "kept"),
    [
        ("char", 3, ["d", "b", "\ufffd"]),
        ("char", 5, ["d", "b", "a", "c", "\ufffd"]),
        ("char", 99, ["d", "b", "a", "c", "\ufffd"]),
        ("word", 4, ["d", "b", "<eos>", "<unk>"]),
    ],
)
def test_max_size_keeps_the_most_frequent_symbols_and_the_reserved_ones(unit, size, kept):
    text = "c a b b d d d" if unit == "word" else "cabbddd"
    assert build_vocabulary(text, unit, max_size=size).to_dict()["symbols"] == kept


def test_max_size_counts_an_unknown_word_that_the_text_has():
    vocabulary = build_vocabulary("<unk> <unk> <unk> a a b\n", "word", max_size=3)
    assert vocabulary.to_dict()["symbols"] == ["<unk>", "a", "<eos>"]


@needs_tokenizers
def test_byte_pairs_are_as_many_as_asked_for_and_the_same_each_time():
    vocabulary = TRAINED_BPE(280)
    assert vocabulary.size == 280
    assert vocabulary == TRAINED_BPE(280)
    assert vocabulary.encode(TEXT).max() < 280
    assert len(TRAINED_BPE(320).encode(TEXT)) < len(vocabulary.encode(TEXT))
    assert len(vocabulary.encode(TEXT)) < len(TEXT.encode())


@pytest.mark.parametrize("unit", UNITS)
def test_a_vocabulary_comes_back_from_json(unit):
    vocabulary = build_vocabulary(TEXT, unit)
    back = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict(), allow_nan=False)))
    assert back == vocabulary
    assert (back.unit, back.size) == (unit, vocabulary.size)
    np.testing.assert_array_equal(back.encode(TEXT + "new!"), vocabulary.encode(TEXT + "new!"))


def test_vocabularies_differ_by_their_symbols():
    assert build_vocabulary("ab", "char") != build_vocabulary("ac", "char")
    assert build_vocabulary("a b", "word") != build_vocabulary("a b", "char")


def test_a_vocabulary_cannot_be_changed():
    with pytest.raises(AttributeError):
        build_vocabulary("ab", "char").size = 5


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"unit": "char"},
        {"unit": "syllable", "symbols": ["a", "\ufffd"]},
        {"unit": "char", "symbols": "a\ufffd"},
        {"unit": "char", "symbols": ["a", 1, "\ufffd"]},
        {"unit": "char", "symbols": ["a", "a", "\ufffd"]},
        {"unit": "char", "symbols": ["a", "b"]},
        {"unit": "word", "symbols": ["a", "<unk>"]},
        {"unit": "bpe", "tokenizer": {}},
        pytest.param({"unit": "bpe", "tokenizer": "{}"}, marks=needs_tokenizers),
    ],
)
def test_fields_of_no_vocabulary_are_refused(fields):
    with pytest.raises(DataError, match=r"vocabulary .*cannot be read.*Restore the file"):
        Vocabulary.from_dict(fields)


@pytest.mark.parametrize(
    ("unit", "size", "message"),
    [
        ("syllable", None, "unit is 'syllable'; expected one of char, byte, word, bpe"),
        ("byte", 256, "max_vocabulary is 256, but bytes are always 256"),
        ("char", 1, "max_vocabulary is 1; expected at least 2"),
        ("word", 2, r"max_vocabulary is 2; expected at least 3.*'<unk>' and '<eos>'"),
        ("bpe", 255, "max_vocabulary is 255; expected at least 256"),
    ],
)
def test_units_and_sizes_that_cannot_be_are_refused(unit, size, message):
    with pytest.raises(ConfigError, match=message):
        build_vocabulary("a b c", unit, max_size=size)


@pytest.mark.parametrize("unit", UNITS[1::2])
def test_half_a_surrogate_pair_has_no_bytes(unit):
    with pytest.raises(DataError, match=r"'\\ud800' at position 2, half of a surrogate pair"):
        build_vocabulary("abc", unit).encode("ab\ud800c")


def test_without_the_package_tokenizers_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # an import of it now fails
    with pytest.raises(ConfigError, match=r"Install throughtime\[text\]"):
        build_vocabulary("abc", "bpe")
    with pytest.raises(ConfigError, match=r"Install throughtime\[text\]"):
        Vocabulary.from_dict({"unit": "bpe", "tokenizer": "{}"})
    build_vocabulary("abc", "char")
