"""Are these symbols, and which of them are real?"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.engine.torch_internals import transform_active
from throughtime.errors import ConfigError, DtypeError, ShapeError
from throughtime.nn.lengths import as_lengths

__all__ = ["Tokens", "check_tokens"]

_SYMBOLS = (torch.int64, torch.int32)  # what torch's embedding takes


class Tokens(NamedTuple):
    """A checked batch of symbols.

    Attributes:
        symbols: [T, B], with one and the same symbol in all padding.
        lengths: [B]; None where all steps are real.
        real: Which steps are real, [T, B]; None where all are.
    """

    symbols: Tensor
    lengths: Tensor | None
    real: Tensor | None


def check_tokens(name: str, tokens: Any, lengths: Any, size: int, padding: int) -> Tokens:
    """Check a batch of symbols and its lengths, and write `padding` past them.

    Args:
        name: The argument's name, for messages.
        tokens: What came, [T, B].
        lengths: The lengths that came, [B], or None.
        size: Number of symbols.
        padding: The symbol to stand in padding.

    Raises:
        DtypeError: not a tensor of whole numbers.
        ShapeError: not [T, B], or lengths that do not fit.
        ConfigError: a real symbol lies outside 0..size - 1. Not looked at on a device other than
            the CPU, where that would wait.
    """
    if not isinstance(tokens, Tensor) or tokens.dtype not in _SYMBOLS:
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise DtypeError(f"{name} is {kind}; expected a tensor of whole numbers (int64), [T, B].")
    if tokens.dim() != 2:
        raise ShapeError(f"{name} has shape {list(tokens.shape)}; expected [T, B].")
    try:
        checked = as_lengths(lengths, tokens, validate=False)
    except (DtypeError, ShapeError) as error:  # its messages begin with "lengths"
        raise type(error)(f"{name}_{error}") from None
    if checked is None:
        return Tokens(_within(name, tokens, size), None, None)
    real = torch.arange(len(tokens), device=tokens.device)[:, None] < checked
    symbols = torch.where(real, tokens, padding)
    return Tokens(_within(name, symbols, size), checked, real)


def _within(name: str, symbols: Tensor, size: int) -> Tensor:
    unseen = torch.compiler.is_compiling() or transform_active()
    if symbols.device.type != "cpu" or unseen or symbols.numel() == 0:
        return symbols
    low, high = int(symbols.min()), int(symbols.max())
    if low < 0 or high >= size:
        raise ConfigError(
            f"{name} holds the symbol {low if low < 0 else high}; expected 0 to {size - 1}. "
            "Padding may be anything, if lengths say where it is."
        )
    return symbols
