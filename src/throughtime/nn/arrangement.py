"""How does the caller's batch lie in memory? Time-major inside; outside as the layer was made."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from throughtime.errors import DtypeError

Kind = Literal["time first", "batch first", "no batch"]


class Arrangement(NamedTuple):
    """Turns tensors between the caller's arrangement and [T, B, ...]."""

    kind: Kind

    def inward(self, a: Any) -> Any:
        """A caller's tensor as [T, B, ...]; anything else is handed on, to be refused later."""
        if not isinstance(a, Tensor) or self.kind == "time first":
            return a
        if self.kind == "no batch":
            return a.unsqueeze(1) if a.dim() else a
        return a.transpose(0, 1) if a.dim() > 1 else a

    def outward(self, a: Tensor) -> Tensor:
        """A [T, B, ...] tensor as the caller has it."""
        if self.kind == "time first":
            return a
        return a.squeeze(1) if self.kind == "no batch" else a.transpose(0, 1)

    def extras(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The caller's extras as [T, B, w], or [B, w] where they hold for a whole sequence."""
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise DtypeError(
                f"extras is a {type(given).__name__}; expected a dict of tensors by name."
            )
        return {name: self._extra(value) for name, value in given.items()}

    def _extra(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        per_step = value.dim() == (2 if self.kind == "no batch" else 3)
        if per_step:
            return self.inward(value)
        return value.unsqueeze(0) if self.kind == "no batch" else value

    def state_inward(self, state: Tensor) -> Tensor:
        """A caller's state as [..., B, w]."""
        return state.unsqueeze(-2) if self.kind == "no batch" and state.dim() else state

    def state_outward(self, state: Tensor) -> Tensor:
        """A [..., B, w] state as the caller has it."""
        return state.squeeze(-2) if self.kind == "no batch" else state
