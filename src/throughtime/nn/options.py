"""What may a layer be given beyond torch's arguments? All of it keyword-only."""

from typing import Any, TypedDict

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """The options of `Recurrent`, which explains them, as the drop-ins hand them on."""

    learn_initial_state: bool
    engine: str
    init: Any
