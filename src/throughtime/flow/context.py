"""How far back does a model use what it reads? What the context-use curve proves, and no more.

With resets every n steps a step sees 1 to n steps, so that the mean loss over all steps mixes
short contexts into every point of the curve. Two neighbouring points tell those apart:

    l(n, m] = (m L(m) - n L(n)) / (m - n)

is the mean loss of contexts of n + 1 to m steps. Where the loss is of the last step alone, L is
what that step loses with at most n steps, and l reaches the full loss an octave early: the answer
below is then a lower bound.
"""

from itertools import pairwise

from throughtime.flow.thresholds import limit
from throughtime.records.diagnosis import ContextUse, NeededLag

__all__ = ["FROM_CONTEXT", "gains", "needed_lag", "used_steps"]

FROM_CONTEXT = "the context-use curve"
"""The source of a lag that nobody stated."""


def gains(context: ContextUse, share: float) -> bool:
    """Whether context gains more than a share of the loss without it."""
    without, full = context.loss[0], context.loss[-1]
    return without - full > share * abs(without)


def used_steps(context: ContextUse) -> int | None:
    """The smallest number of steps after which more of them gain nothing that counts.

    Returns:
        None where context gains nothing.
    """
    if not gains(context, limit("context_gain")):
        return None
    full = context.loss[-1]
    left = limit("context_left") * (context.loss[0] - full)
    # Without the last one: what everything is compared with is no evidence for itself.
    points = list(zip(context.steps, context.loss, strict=True))[:-1]
    used = 1
    for (n, loss_n), (m, loss_m) in pairwise(points):
        between = (m * loss_m - n * loss_n) / (m - n)
        if between - full > left or _halves(between, full):
            used = m
    return used


def needed_lag(stated: NeededLag | None, context: ContextUse | None) -> NeededLag | None:
    """Over how many steps the answer depends on the input.

    Args:
        stated: What the user says, or else the task.
        context: The context-use curve, which is asked where nothing is stated.

    Returns:
        None where nobody knows: context gains nothing, or there is no curve.
    """
    if stated is not None or context is None:
        return stated
    used = used_steps(context)
    return None if used is None else NeededLag(used, FROM_CONTEXT)


def _halves(loss: float, full: float) -> bool:
    return loss > 0.0 and 0.0 <= full < limit("context_halves") * loss
