"""Which steps of a batch are real? Lengths, reset masks and packed sequences, checked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from throughtime.engine.torch_internals import transform_active
from throughtime.errors import DtypeError, ShapeError

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def as_lengths(lengths: Any, x: Tensor, *, validate: bool) -> Tensor | None:
    """Check the lengths of a batch, and return them on x's device.

    Args:
        lengths: A tensor or a list of whole numbers, or None.
        x: [T, B, I].
        validate: Look at the values even where that waits for a device.

    Raises:
        DtypeError: not whole numbers.
        ShapeError: a wrong count, or values outside 0..T.

    Shape:
        lengths: [B]
    """
    if lengths is None:
        return None
    steps, batch = x.shape[:2]
    if isinstance(lengths, Tensor):
        known = (lengths.device.type == "cpu" or validate) and lengths.device.type != "meta"
    elif isinstance(lengths, Sequence) and not isinstance(lengths, str):
        lengths, known = _from_list(lengths), True
    else:
        raise DtypeError(
            f"lengths is a {type(lengths).__name__}; expected a tensor or a list of whole numbers, "
            f"one a row."
        )
    if lengths.dtype not in _INTEGERS:
        raise DtypeError(f"lengths has dtype {lengths.dtype}; expected whole numbers (int64).")
    if lengths.dim() != 1 or lengths.shape[0] != batch:
        raise ShapeError(
            f"lengths has shape {list(lengths.shape)}; expected [{batch}], one for each of the "
            f"{batch} rows of x."
        )
    lengths = lengths.to(torch.int64)
    if known and not torch.compiler.is_compiling() and not transform_active():
        _check_values(lengths, steps)
    return lengths.to(x.device).clamp(0, steps)


def _from_list(lengths: Sequence[Any]) -> Tensor:
    wrong = [n for n in lengths if isinstance(n, bool) or not isinstance(n, int | torch.SymInt)]
    if wrong:
        raise DtypeError(
            f"lengths holds {wrong[0]!r} of type {type(wrong[0]).__name__}; expected whole numbers."
        )
    return torch.tensor(list(lengths), dtype=torch.int64)


def _check_values(lengths: Tensor, steps: int) -> None:
    if lengths.numel() == 0:
        return
    low, high = int(lengths.min()), int(lengths.max())
    if low < 0 or high > steps:
        raise ShapeError(
            f"lengths holds {low if low < 0 else high}; expected values from 0 to {steps}, the "
            f"number of steps of x."
        )


def as_reset(reset: Any, x: Tensor) -> Tensor | None:
    """Check a reset mask of x's layout, [T, B]."""
    if reset is None:
        return None
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool:
        kind = reset.dtype if isinstance(reset, Tensor) else type(reset).__name__
        raise DtypeError(
            f"reset is {kind}; expected a bool tensor, True before which steps to reset."
        )
    if reset.shape != x.shape[:2]:
        raise ShapeError(
            f"reset has shape {list(reset.shape)} in time-major order; expected "
            f"{list(x.shape[:2])}, one value for each step and row of x."
        )
    return reset.to(x.device)


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """A packed batch as [T, B, I] in the caller's order of rows, with its lengths."""
    return pad_packed_sequence(packed)


def pack_like(output: Tensor, lengths: Tensor, packed: PackedSequence) -> PackedSequence:
    """Pack an output [T, B, O] in the order in which the input was packed."""
    order = packed.sorted_indices
    if order is not None:
        output, lengths = output.index_select(1, order), lengths[order.cpu()]
    data = pack_padded_sequence(output, lengths, enforce_sorted=True).data
    return PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)
