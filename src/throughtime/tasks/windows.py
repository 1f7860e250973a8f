"""How is a text read in windows, so that the state can be carried from one to the next?

A text of N symbols is cut into B streams of (N - 1) // B steps, read side by side, W steps at a
time. The target of a step is the symbol that follows. Step t of stream b in window i reads symbol

    b * ((N - 1) // B) + i * W + t

so what a network holds of stream b after window i is what it needs before window i + 1. A stream's
steps that fill no last window, fewer than W, are left out.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError, DataError

__all__ = ["Window", "Windows", "streams"]


class Window(NamedTuple):
    """One window of all streams.

    Attributes:
        inputs: Symbols read.
        targets: Symbols to predict, each the one that follows its input.
        reset: Where the state starts anew before the step, since a document begins.

    Shape:
        [W, B] each
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    reset: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of a text, in order; made by `streams`.

    Attributes:
        ids: Symbols of the text.
        is_start: Whether a document begins with the symbol.
        batch_size: Streams, B.
        window_steps: Steps of a window, W.
    """

    ids: NDArray[Any]
    is_start: NDArray[np.bool_]
    batch_size: int
    window_steps: int

    @property
    def stream_steps(self) -> int:
        """Steps of a stream, those left out included."""
        return (len(self.ids) - 1) // self.batch_size

    @property
    def n_windows(self) -> int:
        """How many windows one pass over the text has."""
        return self.stream_steps // self.window_steps

    def window(self, i: int) -> Window:
        """Window `i`; in window 0 every stream starts anew.

        Raises:
            IndexError: `i` is not in 0 ... `n_windows` - 1.
        """
        if not 0 <= i < self.n_windows:
            raise IndexError(f"window is {i}; expected 0 to {self.n_windows - 1}")
        steps = i * self.window_steps + np.arange(self.window_steps)
        at = steps[:, None] + self.stream_steps * np.arange(self.batch_size)
        reset = self.is_start[at]
        reset[0] |= i == 0
        return Window(self.ids[at].astype(np.int64), self.ids[at + 1].astype(np.int64), reset)


def streams(ids: NDArray[Any], starts: NDArray[Any], batch_size: int, window_steps: int) -> Windows:
    """Cut a text into `batch_size` streams, read `window_steps` at a time.

    Args:
        ids: Symbols of the text.
        starts: Indices in `ids` where a document begins.
        batch_size: Streams, B.
        window_steps: Steps of a window, W.

    Raises:
        ConfigError: A size is not positive.
        DataError: The text is too short for one window of every stream.

    Shape:
        ids: [N]; starts: [documents]

    Example:
        Streams 0 1 2 3 4 and 5 6 7 8 9, of which a window reads two steps, a row a step:

        >>> windows = streams(np.arange(11), np.array([0]), batch_size=2, window_steps=2)
        >>> windows.window(1).inputs
        array([[2, 7],
               [3, 8]])
    """
    if batch_size < 1 or window_steps < 1:
        raise ConfigError(
            f"batch_size is {batch_size} and window_steps {window_steps}; expected 1 at least. "
            "Give, for example, --batch-size 32 --window-steps 64."
        )
    if len(ids) <= batch_size * window_steps:
        raise DataError(
            f"the training text has {len(ids):,} symbols, but a batch of {batch_size} by "
            f"{window_steps} steps needs {batch_size * window_steps + 1:,}. Give a smaller "
            "--batch-size or --window-steps, or a longer text."
        )
    is_start = np.zeros(len(ids), np.bool_)
    is_start[starts] = True
    return Windows(ids, is_start, batch_size, window_steps)
