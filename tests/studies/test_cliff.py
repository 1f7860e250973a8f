"""Is the cliff where it should be, and does clipping do there what is said?"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from throughtime.studies.cliff import CLIP_NORM, LEARNING_RATE, START, STEPS, cliff, unit_error


def by_torch(w, b):
    """The same error and derivatives, by autograd."""
    w, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (w, b))
    x = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(50):
        x = w * torch.sigmoid(x) + b
    error = (torch.sigmoid(x) - 0.7) ** 2
    return (error, *torch.autograd.grad(error, (w, b)))


@pytest.mark.parametrize("point", [START, (4.17, -2.11), (5.0, -2.6), (4.0, -3.0)])
def test_error_and_derivatives_are_those_of_autograd(point):
    assert STEPS == 50
    found = unit_error(np.float64(point[0]), np.float64(point[1]))
    for ours, theirs in zip(found, by_torch(*point), strict=True):
        assert float(ours) == pytest.approx(float(theirs.detach()), rel=1e-9, abs=1e-15)


def test_walks_follow_the_rule():
    found = cliff()
    for points, bound in ((found.plain, np.inf), (found.clipped, CLIP_NORM)):
        assert (points[0].w, points[0].b) == START
        for here, there in pairwise(points):
            error = unit_error(np.float64(here.w), np.float64(here.b))
            length = np.hypot(there.w - here.w, there.b - here.b)
            norm = np.hypot(error.by_w, error.by_b)
            assert length == pytest.approx(LEARNING_RATE * min(norm, bound), rel=1e-9)
            assert (here.error, here.gradient_norm) == pytest.approx((error.value, norm))


def test_one_plain_step_leaps_and_the_clipped_walk_goes_on():
    found = cliff()
    leap = found.leap
    assert found.plain[leap].gradient_norm > 10
    assert found.plain[: leap + 1] == found.clipped[: leap + 1]
    assert found.plain[leap + 1].w > found.w[-1]
    assert found.clipped[-1].error < 0.01 < 0.05 < found.plain[-1].error


def test_the_surface_has_the_wall():
    found = cliff()
    step = np.abs(np.diff(found.error, axis=0)).max()
    assert found.error.shape == (len(found.b), len(found.w))
    assert step > 0.2  # from one point of the grid to the next
    here = unit_error(found.w[7], found.b[3]).value
    assert found.error[3, 7] == here
