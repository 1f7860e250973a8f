"""How are outputs compared that may be nested?"""

import torch

from tolerances import TOLERANCE, error_to_largest

__all__ = ["assert_same", "flattened"]


def flattened(value):
    """The tensors of a nested value, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in flattened(part)]


def assert_same(got, want):
    """Every tensor of two nested values is the same to rounding."""
    pairs = list(zip(flattened(got), flattened(want), strict=True))
    assert pairs
    for i, (a, b) in enumerate(pairs):
        error = error_to_largest(a.detach(), b.detach())
        assert error <= TOLERANCE["loop", a.dtype].bound, (i, error)
