"""Which keys are struck next? Polyphonic music, a piano roll from a file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError, DataError
from throughtime.tasks.arrays import read_arrays
from throughtime.tasks.task import Answer, Batch, Part, Task

__all__ = ["Music"]

_PARTS = ("train", "valid", "test")
_FRAMES_AT_ONCE = 50_000


class _Excerpt(NamedTuple):
    """The frames of a piece from `begin` until `end` that are to be predicted."""

    piece: NDArray[np.uint8]
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Music(Task):
    """The keys of frame t + 1 from the frames 1 ... t of a piece.

    The score is -sum_k [y_k ln p_k + (1 - y_k) ln(1 - p_k)] over the keys k, averaged over all real
    frames that are predicted: a frame weighs the same in any piece. Held-out pieces are read whole.
    A model without memory has p_k = (n_k + 1) / (N + 2), n_k the frames with key k among the N of
    the training part. There is no criterion for having solved it: nobody knows how much of a piece
    can be predicted.

    Attributes:
        path: An .npz with {train,valid,test}_roll, 0 or 1, all pieces one after the other, [frames,
            keys], and {train,valid,test}_len, the frames of each piece.
        length: Most frames of an excerpt in a training batch; longer pieces are cut at random.
        is_first_predicted: Whether the first frame of a piece is predicted too, from nothing;
            Bai et al. 2018 do not.

    Raises:
        ConfigError: The length is too small.
        DataError: The file is missing, or not what is expected.

    Source: Boulanger-Lewandowski, Bengio & Vincent 2012; averaged as in the code of Bai, Kolter &
        Koltun 2018. Excerpts of 200 frames as Pascanu, Mikolov & Bengio 2013.
    """

    name: ClassVar[str] = "music"
    what: ClassVar[str] = "the keys struck next, of a piano roll"
    source: ClassVar[str] = "Boulanger-Lewandowski et al. 2012"
    answer: ClassVar[Answer] = "keys"
    unit: ClassVar[str] = "nats a frame"
    path: Path
    length: int = 200
    is_first_predicted: bool = False
    input_size: int = field(init=False)
    output_size: int = field(init=False)
    _pieces: dict[str, list[NDArray[np.uint8]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ConfigError(
                f"the length of the task {self.name} is {self.length}; expected 2 frames at least. "
                "Give --length 2 or more."
            )
        pieces = _read_pieces(self.path)
        object.__setattr__(self, "_pieces", pieces)
        for name in ("input_size", "output_size"):
            object.__setattr__(self, name, pieces["train"][0].shape[1])

    @property
    def needs_lag(self) -> int:
        """0: the frame before is read at the step that predicts; what else counts is unknown."""
        return 0

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Excerpts of training pieces, all pieces equally likely."""
        pieces = self._pieces["train"]
        return self._stack([self._cut(pieces[i], rng) for i in rng.integers(0, len(pieces), rows)])

    def held_out(self, part: Part) -> Iterator[Batch]:
        """All pieces of a part, whole, the longest first."""
        excerpts = sorted(map(self._whole, self._pieces[part]), key=lambda e: e.end - e.begin)
        while excerpts:
            rows = max(1, _FRAMES_AT_ONCE // excerpts[-1].end)
            yield self._stack(excerpts[-rows:])
            del excerpts[-rows:]

    def baseline(self) -> float:
        """Of independent keys, each as often as in the training part."""
        probability = self._probability()
        wanted = np.concatenate([
            e.piece[e.begin : e.end] for e in map(self._whole, self._pieces["test"])
        ])
        on, off = np.log(probability), np.log1p(-probability)
        return -float((wanted.mean(0) * (on - off) + off).sum())

    def output_bias(self) -> NDArray[np.float32]:
        """The log-odds of each key in the training part, by the rule of succession."""
        probability = self._probability()
        return (np.log(probability) - np.log1p(-probability)).astype(np.float32)

    def is_wrong(self, outputs: NDArray[np.float32], batch: Batch) -> NDArray[np.bool_]:
        """Rows with any key at any frame on the wrong side of one half: nearly all of them."""
        differs = ((outputs > 0.0) != (batch.targets > 0.5)).any(-1)
        return (differs & batch.is_counted).any(0)

    def is_solved(self, score: float, wrong_share: float) -> None:  # noqa: ARG002
        """There is no criterion."""
        return

    def _probability(self) -> NDArray[np.float64]:
        train = np.concatenate(self._pieces["train"])
        return (train.sum(0, dtype=np.float64) + 1.0) / (len(train) + 2.0)

    def _whole(self, piece: NDArray[np.uint8]) -> _Excerpt:
        return _Excerpt(piece, 0 if self.is_first_predicted else 1, len(piece))

    def _cut(self, piece: NDArray[np.uint8], rng: np.random.Generator) -> _Excerpt:
        _, first, end = self._whole(piece)
        frames = min(end - first, self.length)
        begin = int(rng.integers(first, end - frames + 1))
        return _Excerpt(piece, begin, begin + frames)

    def _stack(self, excerpts: list[_Excerpt]) -> Batch:
        lengths = np.array([e.end - e.begin for e in excerpts])
        shape = (int(lengths.max()), len(excerpts), self.input_size)
        inputs, targets = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, (piece, begin, end) in enumerate(excerpts):
            targets[: end - begin, row] = piece[begin:end]
            skipped = int(begin == 0)  # nothing is before the first frame: zeros are read
            inputs[skipped : end - begin, row] = piece[begin - 1 + skipped : end - 1]
        is_real = np.arange(shape[0])[:, None] < lengths
        return Batch(inputs, targets, is_real, lengths)


def _read_pieces(path: Path) -> dict[str, list[NDArray[np.uint8]]]:
    names = {f"{part}_{kind}": n for part in _PARTS for kind, n in (("roll", 2), ("len", 1))}
    arrays = read_arrays(path, names)
    pieces = {p: _split(path, p, arrays[f"{p}_roll"], arrays[f"{p}_len"]) for p in _PARTS}
    if len({part[0].shape[1] for part in pieces.values()}) > 1:
        raise DataError(
            f"{path} has parts with different numbers of keys. Give rolls of one width."
        )
    return pieces


def _split(
    path: Path, part: str, roll: NDArray[np.uint8], frames: NDArray[np.int64]
) -> list[NDArray[np.uint8]]:
    if not len(frames) or frames.min() < 2 or frames.sum() != len(roll):
        raise DataError(
            f"{path}: {part}_len has {len(frames)} pieces of {frames.sum()} frames together, "
            f"{part}_roll has {len(roll)} frames; expected as many, in pieces of 2 at least. "
            "Give the frames of each piece, in order."
        )
    if not np.isin(roll, (0, 1)).all():
        raise DataError(
            f"{path}: {part}_roll holds {roll.max()}; expected 0 and 1. Give key or no key."
        )
    return np.split(roll, np.cumsum(frames)[:-1])
