"""Which text is learnt, and which part of it is kept for validation?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError, DataError
from throughtime.tasks.files import find_part, list_files, read_text
from throughtime.tasks.vocabulary import Unit, Vocabulary, build_vocabulary, check_unit

__all__ = ["Corpus", "load_corpus"]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in two parts, numbered.

    Attributes:
        name: Short name, fit for a folder.
        sha256: Of the bytes of the training text followed by those of the validation text: of a
            single file, unpacked, what sha256sum prints.
        size_bytes: How many bytes these are.
        vocabulary: Symbols of the training text.
        train: Symbols to learn.
        valid: Symbols kept for validation.
        train_starts: Indices in `train` where a document begins, 0 among them.
        valid_starts: The same of `valid`.
        train_text: What `train` stands for.
        valid_text: What `valid` stands for.
        split: How the two were parted, in words.
    """

    name: str
    sha256: str
    size_bytes: int
    vocabulary: Vocabulary
    train: NDArray[np.int32]
    valid: NDArray[np.int32]
    train_starts: NDArray[np.int64]
    valid_starts: NDArray[np.int64]
    train_text: str
    valid_text: str
    split: str


def load_corpus(
    source: Path | str | None = None,
    unit: Unit = "char",
    valid_fraction: float = 0.1,
    max_size: int | None = None,
) -> Corpus:
    """Read a text, part it, and number its symbols.

    Args:
        source: A file in UTF-8, packed if its name ends in .gz; or a folder with one file named
            train and one named valid (validation, val, dev), as in ptb.train.txt.gz, or with a
            single file, which is parted; or None for the manual that comes with Python.
        unit: What a symbol is.
        valid_fraction: Part of a file, from its end, kept for validation. Of the manual it is the
            last whole topics that come nearest to it; two files are parted already.
        max_size: Largest number of symbols; see `build_vocabulary`.

    Raises:
        ConfigError: An option is wrong.
        DataError: The text cannot be read, is no text, or is too short to be parted.
    """
    check_unit(unit)
    if not 0.0 < valid_fraction < 1.0:
        raise ConfigError(
            f"valid_fraction is {valid_fraction}; expected a number between 0 and 1. "
            "Give --valid-fraction 0.1."
        )
    if source is None:
        return _number(_manual(valid_fraction), unit, max_size)
    path = Path(source)
    part = _folder if path.is_dir() else _file
    return _number(part(path, unit, valid_fraction), unit, max_size)


class _Parts(NamedTuple):
    """The documents of both parts, in order."""

    name: str
    train: Sequence[str]
    valid: Sequence[str]
    split: str


def _manual(valid_fraction: float) -> _Parts:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "this Python came without its manual (pydoc_data.topics). Give a text file to learn."
        ) from None
    documents = [topics[name] for name in sorted(topics)]
    ends = list(accumulate(map(len, documents)))
    wanted = (1.0 - valid_fraction) * ends[-1]
    cut = min(range(1, len(documents)), key=lambda n: abs(ends[n - 1] - wanted))
    return _Parts(
        "python-manual",
        documents[:cut],
        documents[cut:],
        f"the last {len(documents) - cut} of {len(documents)} topics are for validation",
    )


def _file(path: Path, unit: Unit, valid_fraction: float) -> _Parts:
    text = read_text(path, unit)
    cut = int(len(text) * (1.0 - valid_fraction))
    while unit == "word" and cut and not text[cut - 1].isspace():
        cut -= 1  # a word stays whole
    split = f"the last {100.0 * valid_fraction:.4g} % of the text are for validation"
    name = Path(path.name.removesuffix(".gz")).stem
    return _Parts(name, [text[:cut]], [text[cut:]], split)


def _folder(path: Path, unit: Unit, valid_fraction: float) -> _Parts:
    name, files = path.resolve().name or "text", list_files(path)
    if len(files) == 1:
        return _file(files[0], unit, valid_fraction)._replace(name=name)
    train, valid = find_part(files, path, "train"), find_part(files, path, "valid")
    split = f"{valid.name} is for validation"
    return _Parts(name, [read_text(train, unit)], [read_text(valid, unit)], split)


def _number(parts: _Parts, unit: Unit, max_size: int | None) -> Corpus:
    train_text, valid_text = "".join(parts.train), "".join(parts.valid)
    vocabulary = build_vocabulary(train_text, unit, max_size=max_size)
    train, train_starts = _encode(vocabulary, parts.train)
    valid, valid_starts = _encode(vocabulary, parts.valid)
    # One symbol to read and one to predict are the least there is to learn, or to score.
    if min(len(train), len(valid)) < 2:
        raise DataError(
            f"the text {parts.name} is too short: {len(train)} and {len(valid)} symbols "
            f"({unit}) for training and validation; expected 2 at least. Give a longer one."
        )
    data = (train_text + valid_text).encode("utf-8", "surrogateescape")
    return Corpus(
        name=parts.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        vocabulary=vocabulary,
        train=train,
        valid=valid,
        train_starts=train_starts,
        valid_starts=valid_starts,
        train_text=train_text,
        valid_text=valid_text,
        split=parts.split,
    )


def _encode(
    vocabulary: Vocabulary, documents: Sequence[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The symbols of documents one after the other, and where each begins."""
    encoded = [ids for ids in map(vocabulary.encode, documents) if len(ids)]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)[:-1]
    return np.concatenate([*encoded, np.zeros(0, np.int32)]), starts
