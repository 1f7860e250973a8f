"""How close is close enough? One table for all tests; loosening a row is a change of its own."""

from dataclasses import dataclass

import torch

__all__ = ["TOLERANCE", "Tolerance", "error_to_largest"]


@dataclass(frozen=True)
class Tolerance:
    """A bound on `error_to_largest`, and the reason it is neither smaller nor larger."""

    bound: float
    reason: str


TOLERANCE = {
    ("torch.nn", torch.float64): Tolerance(
        1e-12,
        "the accepted bound; the same sums in another order differ by about T * H * 2**-53, "
        "1e-14 at the sizes of the tests, and gradients add a factor of some ten",
    ),
    ("onnxruntime", torch.float32): Tolerance(
        1e-5,
        "oneDNN's own rule 4 * ceil(log2(K * T)) * eps gives 3.8e-6 at T = 9 and K = 15, for "
        "either side; a relu or linear recurrence multiplies it by its growth. The weakest "
        "mutant in test_mutants.py is 100 times further off",
    ),
}


def error_to_largest(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference over the largest element of `want`; infinite if one is not a number.

    A difference where `want` is zero everywhere has nothing to be measured by and is infinite.
    """
    assert got.shape == want.shape, f"got shape {tuple(got.shape)}, want {tuple(want.shape)}"
    assert got.dtype == want.dtype, f"got {got.dtype}, want {want.dtype}"
    if torch.equal(got, want):
        return 0.0
    largest = want.abs().max().item()
    error = (got - want).abs().max().item() / largest if largest else float("inf")
    return error if error == error else float("inf")  # noqa: PLR0124 (NaN)
