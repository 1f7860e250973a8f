"""How is the text that a model wrote kept for people to read?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from throughtime.records.atomic import replace_file

__all__ = ["Sample", "write_samples"]


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote after `update` updates, following `prompt`."""

    update: int
    prompt: str
    text: str
    temperature: float
    seed: int


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Replace `path` by `samples`, each under a line that says how it was drawn.

    Raises:
        CheckpointError: The file cannot be written.
    """
    blocks = [
        f"--- update {sample.update}, temperature {sample.temperature:g}, seed {sample.seed}, "
        f"prompt {sample.prompt!r}\n{sample.text}\n"
        for sample in samples
    ]
    # A byte model may write half a character: it is shown, not refused.
    replace_file(path, ["\n".join(blocks).encode(errors="backslashreplace")])
