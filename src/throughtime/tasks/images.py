"""Which digit is this, read pixel by pixel? Images from a file, as sequences."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import DataError
from throughtime.tasks.arrays import read_arrays
from throughtime.tasks.generated import ask_at_end, has_left_plateau
from throughtime.tasks.task import Answer, Batch, Part, Task

__all__ = ["Pixels", "PixelsPermuted", "Pooled", "PooledPermuted", "Rows", "RowsPermuted"]

_STEPS_AT_ONCE = 100_000
_BLOCK = 2  # pixels on a side that are pooled
_VALID_SHARE = 10  # the last tenth of the training images

# Ours: the papers do not share their permutations.
_PERMUTATION_SEED = 0


class _Images(NamedTuple):
    """Images [N, rows, columns] and their classes [N]."""

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pixels(Task):
    """The class of an image, its pixels read one by one, row by row.

    Pixels are divided by 255; the class is asked after the last. The last tenth of the training
    images is the validation part. A model without memory answers every class as often as the
    training part has it, about ln 10 for ten. Half of the ink of the training images lies further
    back than `needs_lag`. Solved (ours): a score under a tenth of the memoryless one.

    Attributes:
        path: An .npz with x_train, x_test, uint8 [N, rows, columns], and the classes y_train,
            y_test.
        length: Steps, which the images decide.

    Raises:
        DataError: The file is missing, or not what is expected.

    Source: Le, Jaitly & Hinton 2015.
    """

    name: ClassVar[str] = "pixels"
    what: ClassVar[str] = "the class of an image, read pixel by pixel"
    source: ClassVar[str] = "Le et al. 2015"
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats"
    is_permuted: ClassVar[bool] = False
    path: Path
    length: int = field(init=False)
    input_size: int = field(init=False)
    output_size: int = field(init=False)
    _lag: int = field(init=False, repr=False)
    _parts: dict[str, _Images] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = _read_images(self.path)
        self._check(parts["train"].pixels)
        T, _, I = self._sequences(parts["train"].pixels[:1]).shape
        ink = self._sequences(parts["train"].pixels.mean(0, keepdims=True)).sum((1, 2)).cumsum()
        decided = {
            "length": T,
            "input_size": I,
            "output_size": 1 + max(int(part.classes.max()) for part in parts.values()),
            "_lag": T - 1 - int(np.searchsorted(ink, ink[-1] / 2)),
            "_parts": parts,
        }
        for name, value in decided.items():
            object.__setattr__(self, name, value)

    @property
    def needs_lag(self) -> int:
        """From the step by which half of all ink is read to the end."""
        return self._lag

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Training images, any of them as likely."""
        return self._ask("train", rng.integers(0, len(self._parts["train"].classes), rows))

    def held_out(self, part: Part) -> Iterator[Batch]:
        """All images of a part, in order."""
        rows, images = max(1, _STEPS_AT_ONCE // self.length), len(self._parts[part].classes)
        for start in range(0, images, rows):
            yield self._ask(part, np.arange(start, min(start + rows, images)))

    def baseline(self) -> float:
        """Of the classes as often as in the training part, with one more of each."""
        counts = np.bincount(self._parts["train"].classes, minlength=self.output_size) + 1
        return -float(np.log(counts / counts.sum())[self._parts["test"].classes].mean())

    def is_solved(self, score: float, wrong_share: float) -> bool:  # noqa: ARG002
        """A score under a tenth of the memoryless one; ours."""
        return has_left_plateau(self, score)

    def _ask(self, part: str, which: NDArray[np.int64]) -> Batch:
        images = self._parts[part]
        return ask_at_end(self._sequences(images.pixels[which]), images.classes[which])

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        """Refuse images that cannot be read so."""

    def _sequences(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Images [N, rows, columns] as sequences [T, N, I]."""
        flat = self._flat(pixels)
        if self.is_permuted:
            flat = flat[:, np.random.default_rng(_PERMUTATION_SEED).permutation(flat.shape[1])]
        steps = flat.reshape(len(pixels), *self._step_shape(pixels)).swapaxes(0, 1)
        return np.ascontiguousarray(steps, np.float32) / np.float32(255)

    def _flat(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return pixels.reshape(len(pixels), -1)

    def _step_shape(self, pixels: NDArray[Any]) -> tuple[int, int]:  # noqa: ARG002
        """T and I."""
        return -1, 1


@dataclass(frozen=True, eq=False)
class PixelsPermuted(Pixels):
    """As `Pixels`, in an order that is random and the same for all images.

    Source: Le, Jaitly & Hinton 2015; the permutation of our seed, since theirs is not published.
    """

    name: ClassVar[str] = "pixels-permuted"
    what: ClassVar[str] = "the class of an image, pixels in a fixed random order"
    is_permuted: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Rows(Pixels):
    """As `Pixels`, a row of pixels at each step.

    Source: Le, Jaitly & Hinton 2015, a shorter variant of their task; ours.
    """

    name: ClassVar[str] = "rows"
    what: ClassVar[str] = "the class of an image, read row by row"

    def _step_shape(self, pixels: NDArray[Any]) -> tuple[int, int]:
        return pixels.shape[1], pixels.shape[2]


@dataclass(frozen=True, eq=False)
class RowsPermuted(Rows):
    """As `Rows`, of the image with its pixels in a fixed random order.

    Source: Le, Jaitly & Hinton 2015, a shorter variant of their task; ours.
    """

    name: ClassVar[str] = "rows-permuted"
    what: ClassVar[str] = "the class of an image, permuted, read row by row"
    is_permuted: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Pooled(Pixels):
    """As `Pixels`, of the image with the mean of every 2 by 2 pixels: a quarter of the steps.

    Source: Le, Jaitly & Hinton 2015, a shorter variant of their task; ours.
    """

    name: ClassVar[str] = "pooled"
    what: ClassVar[str] = "the class of an image of half the size, pixel by pixel"

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        if pixels.shape[1] % _BLOCK or pixels.shape[2] % _BLOCK:
            raise DataError(
                f"{self.path} has images of {pixels.shape[1]} by {pixels.shape[2]} pixels; "
                f"the task {self.name} expects even numbers. Give others, or take the task pixels."
            )

    def _flat(self, pixels: NDArray[Any]) -> NDArray[Any]:
        N, rows, columns = pixels.shape
        blocks = pixels.reshape(N, rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        return blocks.mean((2, 4), dtype=np.float32).reshape(N, -1)


@dataclass(frozen=True, eq=False)
class PooledPermuted(Pooled):
    """As `Pooled`, in an order that is random and the same for all images.

    Source: Le, Jaitly & Hinton 2015, a shorter variant of their task; ours.
    """

    name: ClassVar[str] = "pooled-permuted"
    what: ClassVar[str] = "the class of an image of half the size, permuted"
    is_permuted: ClassVar[bool] = True


def _read_images(path: Path) -> dict[str, _Images]:
    names = {"x_train": 3, "y_train": 1, "x_test": 3, "y_test": 1}
    arrays = read_arrays(path, names)
    for part in ("train", "test"):
        _check_part(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    if (shape := arrays["x_train"].shape[1:]) != arrays["x_test"].shape[1:]:
        raise DataError(
            f"{path} has training images of {shape[0]} by {shape[1]} pixels, and others to test. "
            "Give images of one size."
        )
    pixels, classes = arrays["x_train"], arrays["y_train"].astype(np.int64)
    cut = len(classes) - math.ceil(len(classes) / _VALID_SHARE)
    return {
        "train": _Images(pixels[:cut], classes[:cut]),
        "valid": _Images(pixels[cut:], classes[cut:]),
        "test": _Images(arrays["x_test"], arrays["y_test"].astype(np.int64)),
    }


def _check_part(path: Path, part: str, pixels: NDArray[Any], classes: NDArray[Any]) -> None:
    if pixels.dtype != np.uint8 or not pixels.size or len(pixels) != len(classes):
        raise DataError(
            f"{path}: x_{part} is {pixels.dtype} {list(pixels.shape)} with {len(classes)} classes "
            f"in y_{part}; expected uint8 [images, rows, columns] and a class for each. "
            "Give such arrays."
        )
    if classes.min() < 0 or len(classes) < 2:
        raise DataError(
            f"{path}: y_{part} has the classes of {len(classes)} images, from {classes.min()} on; "
            "expected two images at least, and classes from 0 on. Number them so."
        )
