"""Is a text parted as promised, with nothing of the validation part in what is learnt?"""

import gzip
import hashlib
import subprocess
import sys
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import ConfigError, DataError
from throughtime.tasks import load_corpus

LINES = "".join(f"line {i} of the text\r\n" for i in range(40))


def write(path, text):
    data = text.encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def words_of(corpus, part):
    names = corpus.vocabulary.to_dict()["symbols"]
    return [names[i] for i in part]


# --- One file ---


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_the_end_of_a_file_is_for_validation(tmp_path, unit):
    corpus = load_corpus(write(tmp_path / "my.text.txt", LINES), unit, valid_fraction=0.25)
    cut = int(0.75 * len(LINES))
    assert (corpus.train_text, corpus.valid_text) == (LINES[:cut], LINES[cut:])
    assert corpus.vocabulary.decode(corpus.train) == LINES[:cut]
    assert corpus.vocabulary.decode(corpus.valid) == LINES[cut:]
    assert corpus.train_starts.tolist() == corpus.valid_starts.tolist() == [0]
    assert corpus.train_starts.dtype == np.int64
    assert corpus.split == "the last 25 % of the text are for validation"
    assert corpus.name == "my.text"


def test_a_tenth_is_for_validation_unless_told_otherwise(tmp_path):
    corpus = load_corpus(str(write(tmp_path / "text", "ab" * 50)))
    assert (len(corpus.train), len(corpus.valid)) == (90, 10)


def test_a_packed_file_is_the_same_corpus(tmp_path):
    plain = load_corpus(write(tmp_path / "a.txt", LINES))
    packed = load_corpus(write(tmp_path / "a.txt.gz", LINES))
    digest = hashlib.sha256(LINES.encode()).hexdigest()
    assert plain.sha256 == packed.sha256 == digest
    assert plain.size_bytes == packed.size_bytes == len(LINES.encode())
    assert plain.name == packed.name == "a"
    np.testing.assert_array_equal(plain.train, packed.train)


@settings(deadline=None, max_examples=50)
@given(data=st.binary(min_size=20), fraction=st.floats(0.3, 0.7))
def test_any_file_is_learnt_byte_by_byte(tmp_path_factory, data, fraction):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(data)
    corpus = load_corpus(path, "byte", fraction)
    assert bytes([*corpus.train.tolist(), *corpus.valid.tolist()]) == data
    assert corpus.sha256 == hashlib.sha256(data).hexdigest()
    assert corpus.size_bytes == len(data)


def test_a_character_of_many_bytes_stays_whole(tmp_path):
    corpus = load_corpus(write(tmp_path / "a", "\u20ac" * 11), "byte", 0.5)
    assert (len(corpus.train), len(corpus.valid)) == (15, 18)


def test_a_word_stays_whole(tmp_path):
    corpus = load_corpus(write(tmp_path / "a", "one two three\nfour five"), "word", 0.5)
    assert corpus.train_text == "one two "
    assert corpus.valid_text == "three\nfour five"
    assert words_of(corpus, corpus.train) == ["one", "two"]
    assert words_of(corpus, corpus.valid) == ["<unk>", "<eos>", "<unk>", "<unk>"]


@pytest.mark.parametrize("unit", ["char", "word"])
def test_what_stands_in_the_validation_part_alone_is_unknown(tmp_path, unit):
    corpus = load_corpus(write(tmp_path / "a", "a b " * 20 + "a z " * 5), unit, 0.2)
    symbols = corpus.vocabulary.to_dict()["symbols"]
    assert "z" not in symbols
    unknown = symbols.index("\ufffd" if unit == "char" else "<unk>")
    assert unknown not in corpus.train
    assert (corpus.valid == unknown).sum() == 5


def test_byte_pairs_are_learnt_from_the_training_part_alone(tmp_path):
    pytest.importorskip("tokenizers", reason="needs the extra throughtime[text]")
    text = "abcabc " * 40 + "qrsqrs " * 10
    corpus = load_corpus(write(tmp_path / "a", text), "bpe", 0.2)
    assert corpus.vocabulary.decode(corpus.train) == corpus.train_text
    assert corpus.vocabulary.decode(corpus.valid) == corpus.valid_text
    assert len(corpus.train) < len(corpus.train_text) / 2
    assert len(corpus.valid) == len(corpus.valid_text)  # none of its pairs was ever merged


def test_max_size_bounds_the_vocabulary(tmp_path):
    path = write(tmp_path / "a", LINES)
    assert load_corpus(path, "word").vocabulary.size > 9
    assert load_corpus(path, "word", max_size=9).vocabulary.size == 9


# --- A folder ---


def test_a_folder_is_parted_already(tmp_path):
    for name, text in {"train": "aab\n" * 5, "valid": "abz\n", "test": "never"}.items():
        write(tmp_path / f"set.{name}.txt.gz", text)
    corpus = load_corpus(tmp_path)
    assert (corpus.train_text, corpus.valid_text) == ("aab\n" * 5, "abz\n")
    assert corpus.name == tmp_path.name
    assert corpus.split == "set.valid.txt.gz is for validation"
    assert corpus.sha256 == hashlib.sha256(b"aab\n" * 5 + b"abz\n").hexdigest()
    assert corpus.size_bytes == 24
    assert corpus.vocabulary.size == 4  # a, b, line end and the unknown one: no z


def test_a_folder_with_a_single_file_is_that_file(tmp_path):
    file = write(tmp_path / "input.txt.gz", LINES)
    write(tmp_path / ".hidden", "never")
    (tmp_path / "more").mkdir()
    corpus, same = load_corpus(tmp_path, valid_fraction=0.3), load_corpus(file, valid_fraction=0.3)
    assert (corpus.train_text, corpus.valid_text) == (same.train_text, same.valid_text)
    assert corpus.split == same.split == "the last 30 % of the text are for validation"
    assert (corpus.name, corpus.sha256) == (tmp_path.name, same.sha256)


@pytest.mark.parametrize("names", [[], ["a.txt", "b.txt"], ["train.txt", "test.txt"]])
def test_a_folder_that_names_no_parts_is_refused(tmp_path, names):
    for name in names:
        write(tmp_path / name, LINES)
    with pytest.raises(DataError, match=r"has no files named (train|valid); expected one"):
        load_corpus(tmp_path)


# --- Python's manual ---


def test_the_manual_is_parted_between_topics():
    corpus = load_corpus(None)
    documents = [topics[name] for name in sorted(topics)]
    assert corpus.train_text + corpus.valid_text == "".join(documents)
    cuts = np.cumsum([len(d) for d in documents])
    assert len(corpus.train_text) in cuts
    share = cuts / cuts[-1]
    parted = len(corpus.train_text) / cuts[-1]
    assert abs(parted - 0.9) == np.abs(share[:-1] - 0.9).min()
    assert corpus.name == "python-manual"
    assert corpus.sha256 == hashlib.sha256("".join(documents).encode()).hexdigest()


@pytest.mark.parametrize("unit", ["char", "byte", "word", "bpe"])
def test_every_topic_is_a_document(unit):
    if unit == "bpe":
        pytest.importorskip("tokenizers", reason="needs the extra throughtime[text]")
    corpus = load_corpus(None, unit)
    documents = [topics[name] for name in sorted(topics)]
    n_train = len(corpus.train_starts)
    assert corpus.train_starts[0] == corpus.valid_starts[0] == 0
    assert n_train + len(corpus.valid_starts) == len(documents)
    assert f"last {len(documents) - n_train} of {len(documents)} topics" in corpus.split
    heads = [corpus.vocabulary.decode(corpus.train[i : i + 10]) for i in corpus.train_starts]
    heads += [corpus.vocabulary.decode(corpus.valid[i : i + 10]) for i in corpus.valid_starts]
    plain = [" ".join(d.split()) for d in documents]
    for head, document in zip(heads, plain, strict=True):
        known = " ".join(head.split()).split("<unk>")[0].split("\ufffd")[0]
        assert document.startswith(known)


def test_topics_move_from_training_to_validation_with_the_fraction():
    small, large = load_corpus(None, valid_fraction=0.05), load_corpus(None, valid_fraction=0.5)
    assert len(small.valid) < len(large.valid)
    assert large.valid_text.endswith(small.valid_text)
    tiny, huge = load_corpus(None, valid_fraction=1e-9), load_corpus(None, valid_fraction=1 - 1e-9)
    assert len(tiny.valid_starts) == len(huge.train_starts) == 1


def test_a_topic_without_a_word_is_no_document(monkeypatch):
    manual = {"a": "one two\n", "b": " \t", "c": "three\n", "d": "  ", "e": "one two\n"}
    monkeypatch.setattr("pydoc_data.topics.topics", manual)
    corpus = load_corpus(None, "word", 0.34)
    assert corpus.train_starts.tolist() == [0, 3]
    assert len(corpus.train) == 5
    assert corpus.valid_starts.tolist() == [0]


def test_a_python_without_its_manual_asks_for_a_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"came without its manual.*Give a text file"):
        load_corpus(None)


# --- What is refused ---


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("source", [None, "file"])
def test_a_part_is_neither_nothing_nor_all(tmp_path, source, fraction):
    path = source and write(tmp_path / source, LINES)
    with pytest.raises(ConfigError, match=r"valid_fraction is .*expected a number between 0 and 1"):
        load_corpus(path, valid_fraction=fraction)


def test_an_unknown_unit_is_refused_before_the_file_is_read(tmp_path):
    with pytest.raises(ConfigError, match="unit is 'letter'; expected one of char"):
        load_corpus(tmp_path / "nowhere", "letter")


@pytest.mark.parametrize(
    ("text", "unit", "fraction"),
    [
        ("abc", "char", 0.1),
        ("abc", "char", 0.9),
        ("onewordwithoutanyblank", "word", 0.5),
        ("one two three", "word", 0.1),
        ("   \t  ", "word", 0.5),
    ],
)
def test_a_text_too_short_to_be_parted_is_refused(tmp_path, text, unit, fraction):
    with pytest.raises(DataError, match=r"the text a is too short: \d+ and \d+ symbols"):
        load_corpus(write(tmp_path / "a", text), unit, fraction)


def test_two_symbols_a_part_are_enough(tmp_path):
    corpus = load_corpus(write(tmp_path / "a", "abcd"), valid_fraction=0.5)
    assert (corpus.train_text, corpus.valid_text) == ("ab", "cd")
    with pytest.raises(DataError, match="1 and 2 symbols"):
        load_corpus(write(tmp_path / "a", "abc"), valid_fraction=0.5)


def test_reading_a_text_loads_neither_torch_nor_tokenizers():
    program = (
        "import sys; from throughtime.tasks import *; baselines(load_corpus(None, 'word'));"
        "print([name for name in ('torch', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
