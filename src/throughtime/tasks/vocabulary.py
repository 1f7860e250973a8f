"""Which symbols is a text made of, and which number has each?

char  the characters of the training text, and U+FFFD for any other
byte  the 256 bytes of UTF-8: nothing is unknown
word  what stands between blanks, <eos> for a line end, <unk> for any other word
bpe   byte pairs, merged as often as the size allows: nothing is unknown
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Unit", "Vocabulary", "build_vocabulary", "check_unit"]

Unit = Literal["char", "byte", "word", "bpe"]

_EOS = "<eos>"
_BYTES = 256

# Enough to halve the symbols of a text of some hundred kilobytes; larger ones repay more.
_BPE_SIZE = 2048


@dataclass(frozen=True)
class Vocabulary(ABC):
    """The symbols of a text, numbered from 0 to `size` - 1; made by `build_vocabulary`.

    Attributes:
        unit: What a symbol is.
        size: How many symbols there are, with the unknown one.
    """

    unit: Unit
    size: int

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int32]:
        """The numbers of the symbols of `text`.

        Raises:
            DataError: `text` holds half of a surrogate pair, which has no bytes.

        Shape:
            [T]
        """

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of these symbols.

        It undoes `encode` for known characters, bytes and byte pairs. Words come back with one
        blank between them and none at the ends of lines. Bytes that are no UTF-8 come back as
        Python's surrogate escapes.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes this vocabulary from, as JSON can hold it."""

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> "Vocabulary":
        """The vocabulary that `to_dict` wrote.

        Raises:
            DataError: Nothing of the kind.
            ConfigError: It is made of byte pairs, and the package tokenizers is not installed.
        """
        match fields:
            case {"unit": "byte"}:
                return _ByteVocabulary("byte", _BYTES)
            case {"unit": "char" | "word" as unit, "symbols": [*symbols]} if _are_listed(
                unit, symbols
            ):
                return _ListedVocabulary(unit, len(symbols), tuple(symbols))
            case {"unit": "bpe", "tokenizer": str(written)}:
                return _read_bpe(written)
        raise DataError(
            f"a vocabulary with the fields {', '.join(map(str, fields)) or 'none'} cannot be "
            "read; expected one that this version wrote. Restore the file it came from."
        )


def check_unit(unit: str) -> None:
    """Refuse a unit that is none.

    Raises:
        ConfigError: It is not one of `Unit`.
    """
    if unit not in get_args(Unit):
        raise ConfigError(f"unit is {unit!r}; expected one of {', '.join(get_args(Unit))}.")


def build_vocabulary(text: str, unit: Unit, *, max_size: int | None = None) -> Vocabulary:
    r"""Number the symbols of a training text, the most frequent first (bytes: as they are).

    Args:
        text: The training part alone: what stands only in the validation part is unknown.
        unit: What a symbol is.
        max_size: Largest number of symbols, with the unknown one. None: all there are; for byte
            pairs 2048.

    Raises:
        ConfigError: `unit` is none, or cannot have that many symbols; `tokenizers` is missing.

    Example:
        >>> vocabulary = build_vocabulary("to be or not to be\n", "word")
        >>> vocabulary.encode("to be or to do\n")
        array([1, 0, 4, 1, 5, 2], dtype=int32)
        >>> vocabulary.decode([1, 0, 4, 1, 5])
        'to be or to <unk>'
    """
    check_unit(unit)
    if unit == "byte":
        if max_size is not None:
            raise ConfigError(
                f"max_vocabulary is {max_size}, but bytes are always {_BYTES}. "
                "Leave it out, or choose another unit."
            )
        return _ByteVocabulary("byte", _BYTES)
    if unit == "bpe":
        size = _BPE_SIZE if max_size is None else max_size
        _at_least(_BYTES, size, "one for each byte")
        return _train_bpe(text, size)
    return _list_symbols(text, unit, max_size)


def _at_least(least: int, max_size: int, reason: str) -> None:
    if max_size < least:
        raise ConfigError(
            f"max_vocabulary is {max_size}; expected at least {least}, {reason}. "
            f"Give --max-vocabulary {least} or more."
        )


# --- Characters and words: symbols in a list ---


class _Spelling(NamedTuple):
    split: Callable[[str], Sequence[str]]
    join: Callable[[list[str]], str]
    unknown: str
    reserved: tuple[str, ...]


def _split_words(text: str) -> list[str]:
    return text.replace("\n", f" {_EOS} ").split()


def _join_words(words: list[str]) -> str:
    spaced = " ".join("\n" if word == _EOS else word for word in words)
    return spaced.replace(" \n", "\n").replace("\n ", "\n")


_SPELLINGS = {
    "char": _Spelling(list, "".join, "\ufffd", ("\ufffd",)),
    "word": _Spelling(_split_words, _join_words, "<unk>", ("<unk>", _EOS)),
}


@dataclass(frozen=True)
class _ListedVocabulary(Vocabulary):
    symbols: tuple[str, ...]

    def encode(self, text: str) -> NDArray[np.int32]:
        found = _SPELLINGS[self.unit].split(text)
        unknown = self._ids[_SPELLINGS[self.unit].unknown]
        return np.fromiter((self._ids.get(s, unknown) for s in found), np.int32, len(found))

    def decode(self, ids: Iterable[int]) -> str:
        return _SPELLINGS[self.unit].join([self.symbols[i] for i in ids])

    def to_dict(self) -> dict[str, Any]:
        return {"unit": self.unit, "symbols": list(self.symbols)}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}


def _list_symbols(
    text: str, unit: Literal["char", "word"], max_size: int | None
) -> _ListedVocabulary:
    spelling = _SPELLINGS[unit]
    counts = Counter(spelling.split(text))
    for symbol in spelling.reserved:
        counts.setdefault(symbol, 0)
    # The most frequent first, as an adaptive softmax wants them; ties in a fixed order.
    symbols = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    if max_size is not None:
        reserved = spelling.reserved
        _at_least(len(reserved) + 1, max_size, "one besides " + " and ".join(map(ascii, reserved)))
        others = [symbol for symbol in symbols if symbol not in reserved]
        kept = {*reserved, *others[: max_size - len(reserved)]}
        symbols = [symbol for symbol in symbols if symbol in kept]
    return _ListedVocabulary(unit, len(symbols), tuple(symbols))


def _are_listed(unit: str, symbols: Sequence[object]) -> bool:
    return (
        all(isinstance(symbol, str) for symbol in symbols)
        and len(set(symbols)) == len(symbols)
        and set(_SPELLINGS[unit].reserved) <= set(symbols)
    )


# --- Bytes ---


@dataclass(frozen=True)
class _ByteVocabulary(Vocabulary):
    def encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(_utf8(text, "surrogateescape"), np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(map(int, ids)).decode("utf-8", "surrogateescape")

    def to_dict(self) -> dict[str, Any]:
        return {"unit": "byte"}


def _utf8(text: str, errors: str) -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text has {text[error.start]!a} at position {error.start}, half of a surrogate "
            "pair, which has no bytes. Leave it out."
        ) from None


# --- Byte pairs ---


@dataclass(frozen=True)
class _BpeVocabulary(Vocabulary):
    written: str

    def encode(self, text: str) -> NDArray[np.int32]:
        _utf8(text, "strict")
        return np.array(self._tokenizer.encode(text).ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids])

    def to_dict(self) -> dict[str, Any]:
        return {"unit": "bpe", "tokenizer": self.written}

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return _tokenizers().Tokenizer.from_str(self.written)


def _train_bpe(text: str, size: int) -> _BpeVocabulary:
    """Byte-level BPE (Sennrich et al. 2016 on the bytes of UTF-8, as in GPT-2)."""
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return _BpeVocabulary("bpe", tokenizer.get_vocab_size(), tokenizer.to_str())


def _read_bpe(written: str) -> _BpeVocabulary:
    library = _tokenizers()
    try:
        size = library.Tokenizer.from_str(written).get_vocab_size()
    except Exception as error:  # the library raises nothing narrower
        raise DataError(
            f"the tokenizer of a vocabulary cannot be read: {error}. Restore the file it came from."
        ) from error
    return _BpeVocabulary("bpe", size, written)


def _tokenizers() -> Any:
    """The library, which only this unit needs."""
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            "unit is 'bpe', but the package tokenizers is not installed. "
            "Install throughtime[text], or choose the unit char, byte or word."
        ) from None
    return tokenizers
