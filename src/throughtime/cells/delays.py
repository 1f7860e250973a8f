"""Which cures shorten the way through time? Those that read states from further back.

                matrices on past states      everything else on past states
    skip        get further delays           as before
    remove      get further delays, and all that is read sooner than the shortest one moves there
    dilate      every delay times d          every delay times d

They move accesses to the past, in the order in which they are written: `remove(leaky(cell))` leaks
from where it reads, `leaky(remove(cell))` from one step back.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from throughtime.declare import Cell
from throughtime.declare.data import check_count
from throughtime.declare.surgery import cure, cured, recurrent_reads, relag, stretched
from throughtime.errors import DeclarationError

__all__ = ["dilate", "remove", "skip"]


@cure
def skip(cell: Cell, delays: Any) -> Cell:
    """Skip connections through time: recurrent matrices also read states from further back.

        U s_{t-1}  becomes  U s_{t-1} + sum_d U_d s_{t-d}

    A matrix U_d for each delay d and each recurrent matrix U, without a bias. Whatever else is in
    the read moves with the state, but gates stay those of this step: r_t * h_{t-d}. What reads a
    past state unit by unit, as f * c does, stays as it is.

    Args:
        cell: The cell.
        delays: Steps, in addition to those the matrices have; with none added it is the cell
            itself.

    Returns:
        A cell with a tensor `weight_hh_d{delay}` for each added delay.

    Raises:
        DeclarationError: a delay that is not a whole number from 1, a cell without a recurrent
            matrix.

    Source:
        Lin et al. 1996, for NARX networks; Goodfellow et al. 2016, sec. 10.9.1. Differs: any cell.

    Example:
        >>> import throughtime as tt
        >>> tt.skip(tt.cells.gru, [1, 8]).lags()
        {'h': 8}
    """
    added = _delays("skip", delays)
    if not recurrent_reads(cell):
        raise DeclarationError(
            f"skip: {cell.name} has no matrix on a past state that could get a delay; use dilate "
            f"or remove, which move what reads it unit by unit."
        )
    new = relag(cell, lambda lag: lag, lambda lags: lags | added)
    source = "Lin et al. 1996; Goodfellow et al. 2016, sec. 10.9.1"
    return cured(cell, "skip", {"delays": sorted(added)}, source, new=new)


@cure
def remove(cell: Cell, delays: Any) -> Cell:
    """Removed connections: nothing reads the past sooner than the shortest delay m.

        U s_{t-1}  becomes  sum_d U_d s_{t-d};  all else on s_{t-1} reads s_{t-m}

    Leaks, clocks and all other accesses below m move to m, too, so that gradients at lags that no
    sum of delays reaches are exactly zero. Matrices keep the delays from m on that they have.

    Args:
        cell: The cell.
        delays: Steps; (1,) is the cell itself.

    Returns:
        A cell with a tensor `weight_hh_d{delay}` for each delay but the shortest, whose matrix
        keeps its name.

    Raises:
        DeclarationError: no delays, one that is not a whole number from 1, or several where no
            matrix reads a past state.

    Source:
        Goodfellow et al. 2016, sec. 10.9.3. Differs: any cell.

    Example:
        >>> import throughtime as tt
        >>> tt.remove(tt.cells.lstm, [2, 5]).lags()
        {'h': 5, 'c': 2}
    """
    wanted = _delays("remove", delays)
    if not wanted:
        raise DeclarationError(
            f"remove: delays is {delays!r}; at least one was expected, as in [2]."
        )
    if len(wanted) > 1 and not recurrent_reads(cell):
        raise DeclarationError(
            f"remove: delays is {sorted(wanted)}, but {cell.name} has no matrix on a past state "
            f"that could get more than one; give the shortest alone."
        )
    least = min(wanted)
    new = relag(
        cell,
        lambda lag: max(lag, least),
        lambda lags: {lag for lag in lags if lag >= least} | wanted,
    )
    source = "Goodfellow et al. 2016, sec. 10.9.3"
    return cured(cell, "remove", {"delays": sorted(wanted)}, source, new=new)


@cure
def dilate(cell: Cell, d: int) -> Cell:
    """Dilation: every lag of every access, times d.

        s_t = F(s_{t-1}, x_t)  becomes  s_t = F(s_{t-d}, x_t)

    These are d copies of the cell with the same weights, each running over every d-th step.

    Args:
        cell: F.
        d: From 1, which is the cell itself.

    Returns:
        A cell with the same tensors.

    Raises:
        DeclarationError: d is not a whole number from 1.

    Source:
        Chang et al. 2017, arXiv:1710.02224; there layer l has d = 2**l.

    Example:
        >>> import throughtime as tt
        >>> tt.dilate(tt.cells.lstm, 4).lags()
        {'h': 4, 'c': 4}
    """
    check_count("dilate: d", d)
    source = "Chang et al. 2017, arXiv:1710.02224"
    return cured(cell, "dilate", {"d": d}, source, new=stretched(cell, d))


def _delays(cure: str, delays: Any) -> frozenset[int]:
    if isinstance(delays, str | Mapping) or not isinstance(delays, Iterable):
        raise DeclarationError(
            f"{cure}: delays is {delays!r}; a list of steps such as [1, 8] was expected."
        )
    found = tuple(delays)
    for delay in found:
        check_count(f"{cure}: a delay", delay)
    return frozenset(found)
