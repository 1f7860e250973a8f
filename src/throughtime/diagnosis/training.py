"""What does a diagnosis know of the training loop?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from throughtime.errors import ConfigError
from throughtime.records.diagnosis import TrainingFacts

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """How a model is trained, for the findings about the loop.

    Attributes:
        window_steps: Steps of one truncated backward pass; None if sequences are whole.
        state_carried: Whether the last state of a window enters the next one.
        clip_norm: The joint norm that gradients are clipped to; None for none.
        gradient_norms: Joint norms of the gradients of some updates, before clipping.

    Raises:
        ConfigError: A number is not positive, or a window has no word on whether its state is
            carried.
    """

    window_steps: int | None = None
    state_carried: bool | None = None
    clip_norm: float | None = None
    gradient_norms: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.window_steps is not None and self.window_steps < 1:
            raise ConfigError(
                f"window_steps is {self.window_steps}; expected the steps of one backward pass, "
                "1 at least, or None where sequences are whole."
            )
        if self.window_steps is not None and self.state_carried is None:
            raise ConfigError(
                f"window_steps is {self.window_steps}, but state_carried is None; say whether the "
                "state at the end of a window enters the next one: True or False."
            )
        if self.clip_norm is not None and not self.clip_norm >= 0.0:
            raise ConfigError(f"clip_norm is {self.clip_norm}; expected a norm, or None for none.")

    def facts(self) -> TrainingFacts:
        """What is written down of it."""
        norms = [float(norm) for norm in self.gradient_norms]
        share = None
        if norms and self.clip_norm:
            # A norm that is no number is no gradient that clipping kept.
            share = sum(not norm <= self.clip_norm for norm in norms) / len(norms)
        finite = [norm for norm in norms if math.isfinite(norm)]
        return TrainingFacts(
            window_steps=self.window_steps,
            state_carried=self.state_carried,
            clip_norm=self.clip_norm,
            clipped_share=share,
            median_norm=median(finite) if finite else None,
            updates=len(norms),
            nonfinite_updates=len(norms) - len(finite),
        )
