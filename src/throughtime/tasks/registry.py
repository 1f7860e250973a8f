"""Which task has this name?"""

import difflib
from pathlib import Path

from throughtime.errors import ConfigError
from throughtime.tasks.adding import Adding, AddingPascanu, AddingTCN, Multiplication
from throughtime.tasks.generated import GeneratedTask
from throughtime.tasks.images import (
    Pixels,
    PixelsPermuted,
    Pooled,
    PooledPermuted,
    Rows,
    RowsPermuted,
)
from throughtime.tasks.memory import Copy, CopyTCN, CopyVariable, Memorisation
from throughtime.tasks.music import Music
from throughtime.tasks.order import RandomPermutation, TemporalOrder, TemporalOrder3
from throughtime.tasks.programs import ProgramEvaluation
from throughtime.tasks.recall import Recall
from throughtime.tasks.task import Task
from throughtime.tasks.warping import PadUniform, PadVariable, WarpUniform, WarpVariable

__all__ = ["TASKS", "find_task"]

_GENERATED: tuple[type[GeneratedTask], ...] = (
    Recall,
    *(Adding, AddingTCN, AddingPascanu, Multiplication),
    *(TemporalOrder, TemporalOrder3, RandomPermutation),
    *(Memorisation, Copy, CopyTCN, CopyVariable),
    *(WarpUniform, WarpVariable, PadUniform, PadVariable),
    ProgramEvaluation,
)
_FROM_FILES: tuple[type[Task], ...] = (
    *(Pixels, PixelsPermuted, Pooled, PooledPermuted, Rows, RowsPermuted),
    Music,
)
TASKS: dict[str, type[Task]] = {kind.name: kind for kind in (*_GENERATED, *_FROM_FILES)}


def find_task(name: str, length: int | None = None, data: Path | str | None = None) -> Task:
    """The task of this name.

    Args:
        name: One of `TASKS`.
        length: The dial of its difficulty; what the task has by itself if absent.
        data: The .npz file of a task that is read from one.

    Raises:
        ConfigError: There is no such task, or an argument does not fit it.
        DataError: The file cannot be used.

    Example:
        >>> find_task("copy", length=200).needs_lag
        210
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else "Give one of these."
        raise ConfigError(f"there is no task {name}; expected one of {', '.join(TASKS)}. {hint}")
    kind, dial = TASKS[name], {} if length is None else {"length": length}
    if issubclass(kind, GeneratedTask):
        if data is not None:
            raise ConfigError(
                f"the task {name} is generated, but a file came with it: {data}. Leave that out."
            )
        return kind(**dial)
    if data is None:
        raise ConfigError(
            f"the task {name} came without a file; expected the path of an .npz. Give that too."
        )
    if issubclass(kind, Pixels):
        return _of_images(kind(Path(data)), length)
    return kind(Path(data), **dial)  # pyright: ignore[reportCallIssue]


def _of_images(task: Pixels, length: int | None) -> Pixels:
    """A task whose length is what its images have; a run has it written down."""
    if length not in {None, task.length}:
        raise ConfigError(
            f"the task {task.name} came with length {length}, but its images make {task.length} "
            "steps. Leave --length out."
        )
    return task
