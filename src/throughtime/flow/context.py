"""How far back does a model use what it reads? What the context-use curve proves, and no more.

With resets every n steps a step sees 1 to n steps, so that a mean loss over all steps mixes short
contexts into every point of the curve. What a piece of n steps loses by its reset adds up to

    S(n) = T (L(n) - L(T)) / floor((T - 1) / n)

(that many pieces come after the first, which loses nothing), and (S(m) - S(n)) / (m - n) is the
mean excess of contexts of n + 1 to m steps. Where the loss is of the last step alone, that drops
to nothing an octave early: the answer below is a lower bound. L is the lower of two: with states
reset, and with those of another row (see `ContextUse`).
"""

from itertools import pairwise

from throughtime.flow.thresholds import limit
from throughtime.records.diagnosis import ContextUse, NeededLag

__all__ = ["FROM_CONTEXT", "gains", "needed_lag", "used_steps"]

FROM_CONTEXT = "the context-use curve"
"""The source of a lag that nobody stated."""


def gains(context: ContextUse, share: float) -> bool:
    """Whether context gains more than a share of the loss without it."""
    without, full = context.least_loss[0], context.least_loss[-1]
    return without - full > share * abs(without)


def used_steps(context: ContextUse) -> int | None:
    """The smallest number of steps after which more of them gain nothing that counts.

    Returns:
        None where context gains nothing.
    """
    if not gains(context, limit("context_gain")):
        return None
    full = context.least_loss[-1]
    left = limit("context_left") * (context.least_loss[0] - full)
    used = 1
    for (n, lost_n), (m, lost_m) in pairwise(_lost_by_pieces(context)):
        excess = (lost_m - lost_n) / (m - n)
        if excess > left or _halves(full + excess, full):
            used = m
    return used


def _lost_by_pieces(context: ContextUse) -> list[tuple[int, float]]:
    """Each n with its S(n), without the last point, which all are compared with."""
    steps, full = context.steps[-1], context.least_loss[-1]
    points = zip(context.steps[:-1], context.least_loss, strict=False)
    return [(n, steps * (loss - full) / ((steps - 1) // n)) for n, loss in points]


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
