"""Where do extra inputs come from? Drawn in training, constant outside it, or given."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from throughtime.declare import Bernoulli, Cell, Extra
from throughtime.declare.slots import Sizes
from throughtime.errors import ConfigError, DtypeError, ShapeError


def check_names(cell: Cell, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse extras that the cell does not know, or data extras that are missing."""
    given = dict(extras)
    known = [e.name for e in cell.extras]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f"extras has {unknown[0]!r}; {cell.name} takes {', '.join(known) or 'no extras'}."
        )
    missing = [e.name for e in cell.extras if e.sample is None and e.name not in given]
    if missing:
        raise ConfigError(
            f"extras lacks {missing[0]!r}, which {cell.name} needs as data: pass "
            f"extras={{{missing[0]!r}: tensor}}."
        )
    return given


def extra_values(
    cell: Cell,
    given: Mapping[str, Any],
    sizes: Sizes,
    x: Tensor,
    reset: Tensor | None,
    dtype: torch.dtype,
    *,
    training: bool,
) -> tuple[Tensor, ...]:
    """The extras of one layer and direction, in declared order.

    Shape:
        each [T, B, w]
    """
    found = []
    for extra in cell.extras:
        shape = (*x.shape[:2], sizes.of(extra.width))
        if extra.name in given:
            found.append(_given(extra, given[extra.name], shape, dtype))
        elif training:
            found.append(_drawn(extra, x, shape, reset, dtype))
        else:
            found.append(x.new_full((), extra.eval or 0.0, dtype=dtype).expand(shape))
    return tuple(found)


def _given(extra: Extra, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise DtypeError(f"extras[{extra.name!r}] is {kind}; expected a floating-point tensor.")
    steps, batch, width = shape
    allowed = {(steps, batch, width), (steps, batch, 1)}
    if extra.per == "sequence":
        allowed |= {(batch, width), (batch, 1)}
    if tuple(value.shape) not in allowed:
        expected = " or ".join(str(list(s)) for s in sorted(allowed, key=len))
        raise ShapeError(
            f"extras[{extra.name!r}] has shape {list(value.shape)} in time-major order; expected "
            f"{expected}."
        )
    return value.to(dtype).expand(shape)


def _drawn(
    extra: Extra, x: Tensor, shape: tuple[int, ...], reset: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Draw from torch's generator."""
    law = extra.sample
    if not isinstance(law, Bernoulli):
        raise TypeError(f"extra {extra.name!r}: no way to draw from {law!r}")

    def draw(size: tuple[int, ...]) -> Tensor:
        return torch.bernoulli(x.new_full(size, law.p, dtype=dtype)) * law.scale

    if extra.per == "step":
        return draw(shape)
    if reset is None:
        return draw(shape[1:]).expand(shape)
    return draw(shape).gather(0, _sequence_start(reset).unsqueeze(-1).expand(shape))


def _sequence_start(reset: Tensor) -> Tensor:
    """For each step, [T, B], the last step at which its row was reset, or 0."""
    step = torch.arange(reset.shape[0], device=reset.device)[:, None]
    return torch.where(reset, step, 0).cummax(0).values
