"""How likely is a decoder still told the truth, after so many updates?

The three schedules of Bengio et al. 2015, arXiv:1506.03099, sec. 2.4: each gives the probability
epsilon that the true previous symbol is fed, for `EncoderDecoder`'s `teacher_forcing`.
"""

import math

from throughtime.errors import ConfigError

__all__ = ["exponential_decay", "inverse_sigmoid_decay", "linear_decay"]

_LARGEST_EXPONENT = 700.0  # exp of more is no float


def linear_decay(update: int, updates: int, *, start: float = 1.0, least: float = 0.0) -> float:
    """Fall evenly from `start` to `least` within `updates`, and stay there.

        epsilon = max(least, start - (start - least) i / updates)

    Args:
        update: Number i of the update, from 0.
        updates: How many the fall takes.
        start: Probability at the first update.
        least: Probability in the end.

    Raises:
        ConfigError: no 0 <= least <= start <= 1, or `updates` is not positive.

    Source:
        Bengio et al. 2015, max(epsilon, k - c i). Differs: the slope c is given by where it ends.
    """
    if updates <= 0 or not 0.0 <= least <= start <= 1.0:
        raise ConfigError(
            f"updates={updates}, start={start}, least={least}; expected a positive number of "
            "updates and 0 <= least <= start <= 1."
        )
    return max(least, start - (start - least) * update / updates)


def exponential_decay(update: int, base: float) -> float:
    """Fall by the same factor at each update: epsilon = base^i.

    Args:
        update: Number i of the update, from 0.
        base: The factor k, below 1.

    Raises:
        ConfigError: `base` is not in (0, 1).

    Source:
        Bengio et al. 2015.
    """
    if not 0.0 < base < 1.0:
        raise ConfigError(f"base={base}; expected a number between 0 and 1, such as 0.999.")
    return base**update


def inverse_sigmoid_decay(update: int, k: float) -> float:
    """Stay near one at first, then fall: epsilon = k / (k + exp(i / k)).

    It passes 1/2 at i = k ln k.

    Args:
        update: Number i of the update, from 0.
        k: At least 1; larger is slower, and starts nearer to one, at k / (k + 1).

    Raises:
        ConfigError: `k` is below 1.

    Source:
        Bengio et al. 2015.
    """
    if not k >= 1.0:
        raise ConfigError(f"k={k}; expected a number of at least 1, such as 300.")
    return k / (k + math.exp(min(update / k, _LARGEST_EXPONENT)))
