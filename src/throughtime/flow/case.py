"""What are all findings judged from? The records, and what follows from them for more than one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from throughtime.flow.context import FROM_CONTEXT, used_steps
from throughtime.flow.thresholds import limit
from throughtime.records.diagnosis import ContextUse, LayerRecord, NeededLag, TrainingFacts

__all__ = ["Case", "Found", "Verdict"]


@dataclass(frozen=True)
class Found:
    """What a trigger found: its number, where, and what its sentence needs besides.

    `values` are by name; the sentences are in `wording`.
    """

    value: float
    threshold: float
    layer: str | None
    values: Mapping[str, object]
    unit: str | None = None


Verdict = Found | str | None  # found, why not examined, or nothing


@dataclass(frozen=True)
class Case:
    """The records, and what follows from them for more than one finding."""

    layers: Sequence[LayerRecord]
    context: ContextUse | None
    training: TrainingFacts | None
    needs_lag: NeededLag | None
    is_finite: bool

    @property
    def stated(self) -> int | None:
        """The needed lag where somebody said it."""
        lag = self.needs_lag
        return None if lag is None or lag.source == FROM_CONTEXT else lag.steps

    @property
    def steps(self) -> int:
        """Examined."""
        return max((layer.steps for layer in self.layers), default=0)

    @cached_property
    def farthest(self) -> LayerRecord:
        """The layer whose error reaches farthest: through it the stack can learn."""
        return max(self.layers, key=lambda layer: layer.horizon_steps)

    @cached_property
    def used(self) -> int:
        """Steps of context that provably count; 0 where context gains nothing."""
        return 0 if self.context is None else used_steps(self.context) or 0

    @property
    def uses_needed(self) -> bool:
        """Whether the model uses what lies as far back as it needs."""
        lag = self.stated
        return lag is not None and self.used >= limit("unused_context") * lag

    @property
    def window(self) -> int | None:
        """Steps of a truncated backward pass."""
        return None if self.training is None else self.training.window_steps
