"""How close is close enough? One table for all tests; loosening a row is a change of its own."""

import math
from dataclasses import dataclass

import torch

__all__ = ["TOLERANCE", "Tolerance", "error_to_largest"]


@dataclass(frozen=True)
class Tolerance:
    """A bound on `error_to_largest`, and the reason it is neither smaller nor larger."""

    bound: float
    reason: str


TOLERANCE = {
    ("loop", torch.float64): Tolerance(
        1e-12, "as for torch.nn: the same sums, over at most nine steps, in another order"
    ),
    ("loop", torch.float32): Tolerance(
        2e-5,
        "4 * ceil(log2(K * T)) * eps is 3e-6 at T = 9, K = 8, for either side; gradients pass "
        "through all steps and are sums over them",
    ),
    ("autocast", torch.float32): Tolerance(
        2e-5,
        "the same rounded products, so what is left is float32's own rounding; one product rounded "
        "the other way would be off by 2**-8",
    ),
    ("bfloat16", torch.float32): Tolerance(
        0.1,
        "a product is off by 2**-8 at most, and some tens of them add up in a gradient over six "
        "steps; a wrong term is off by its whole size",
    ),
    ("derivatives", torch.float64): Tolerance(
        1e-10,
        "the same arithmetic in another order, up to third derivatives, whose terms cancel: 2e-13 "
        "was seen; a wrong derivative is off by 1e-3 or more",
    ),
    ("flow", torch.float64): Tolerance(
        1e-8,
        "Jacobian products against autograd over at most forty steps: 1e-14 was seen; norms of "
        "sums by Gram matrices lose half the digits where the sum cancels",
    ),
    ("decay", torch.float32): Tolerance(
        1e-4,
        "a product a step, each off by half an ulp (6e-8), over the 830 steps that 0.9 takes from "
        "1 to the smallest normal number: 5e-5 if all go one way",
    ),
    ("decay", torch.float64): Tolerance(
        1e-12, "likewise with half an ulp of 1e-16 and 6,700 steps: 7e-13 if all go one way"
    ),
    ("over eager", torch.float32): Tolerance(
        1.5,
        "the accepted factor over eager float32's error, which leaves room for activations off by "
        "2.5 ulp instead of 1 and for another order of sums; sums in bfloat16, or a float32 value "
        "that takes a way through half the digits, are off by hundreds",
    ),
    ("ulps over eager", torch.float32): Tolerance(
        4.0,
        "the accepted ulps (of the largest element) on top of that factor, where eager float32 is "
        "exact by chance: one activation is off by up to 2.5",
    ),
    ("torch.nn", torch.float64): Tolerance(
        1e-12,
        "the accepted bound; the same sums in another order differ by about T * H * 2**-53, "
        "1e-14 at the sizes of the tests, and gradients add a factor of some ten",
    ),
    ("onnxruntime", torch.float32): Tolerance(
        2e-5,
        "oneDNN's own rule 4 * ceil(log2(K * T)) * eps gives 3.3e-6 for either side at T = 9, "
        "K = 14, and a recurrence with gain above one multiplies it: 6e-6 was seen in 4,000 "
        "configurations. The weakest mutant of test_mutants.py is off by 0.1",
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
    error = (got - want).abs().max().item() / largest if largest else math.inf
    return math.inf if math.isnan(error) else error
