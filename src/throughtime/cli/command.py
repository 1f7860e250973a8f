"""What do all verbs share?"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["Command"]


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """One verb: its fields are its flags."""

    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """On an error, show the traceback."""

    @abstractmethod
    def __call__(self) -> int:
        """Do it and return the exit status."""
