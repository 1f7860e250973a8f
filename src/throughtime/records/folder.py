"""Which file of a run lies where?"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SCHEMA", "RunFolder"]

SCHEMA = 1
"""Version of the text records; a file of another version is refused."""


@dataclass(frozen=True)
class RunFolder:
    """The names of the files in the folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Everything that decides what the run does."""
        return self.path / "config.toml"

    @property
    def metrics(self) -> Path:
        """Losses and events, a record a line."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Text the model wrote."""
        return self.path / "samples.txt"

    @property
    def environment(self) -> Path:
        """Versions and machine."""
        return self.path / "env.json"

    @property
    def model(self) -> Path:
        """Weights, and what is needed to build the model."""
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before it."""
        return self.path / "previous.ckpt"

    @property
    def report(self) -> Path:
        """The diagnosis of the model, drawn."""
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        """Held by the process that writes here."""
        return self.path / ".lock"
