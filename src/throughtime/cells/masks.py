"""Which cures hold something back? A mask on what recurrent matrices read, a bound on gradients."""

import math
from typing import Any

from throughtime.declare import Bernoulli, Cell, Extra
from throughtime.declare.data import as_float
from throughtime.declare.graph import Node
from throughtime.declare.surgery import (
    cure,
    cured,
    fresh_names,
    held_states,
    recurrent_reads,
    symbol,
    with_clipped_adjoints,
    with_reads,
)
from throughtime.declare.symbols import Symbol, as_node
from throughtime.errors import DeclarationError

__all__ = ["clip_adjoint", "recurrent_dropout"]


@cure
def recurrent_dropout(cell: Cell, p: float) -> Cell:
    """Dropout on what recurrent matrices read, one mask for the whole sequence.

        U s_{t-1}  becomes  U (m * s_{t-1}),  m ~ Bernoulli(1 - p) / (1 - p); outside training m = 1

    All gates and all delays of a state share its mask. What reads a past state unit by unit, as
    f * c does, is not masked. A reset draws a new mask, and so does a call: pass
    `extras={name: mask}` to keep one over windows.

    Args:
        cell: The cell.
        p: A number in [0, 1), 0 being the cell itself.

    Returns:
        A cell with a drawn extra `dropout_{state}` for each state that a recurrent matrix reads.

    Raises:
        DeclarationError: a p that is not in [0, 1), a cell without a recurrent matrix.

    Source:
        Gal & Ghahramani 2016, arXiv:1512.05287. Differs: h alone; x is the caller's.

    Example:
        >>> import throughtime as tt
        >>> tt.recurrent_dropout(tt.cells.gru, 0.2)
        <cell recurrent_dropout(gru, p=0.2): states h; gates r z n_x n_h>
    """
    share = as_float("recurrent_dropout: p", p)
    if not 0.0 <= share < 1.0:
        raise DeclarationError(
            f"recurrent_dropout: p is {p!r}; a probability in [0, 1) was expected."
        )
    reads = recurrent_reads(cell)
    if not reads:
        raise DeclarationError(
            f"recurrent_dropout: {cell.name} has no matrix on a past state whose read could be "
            f"masked; zoneout works on any cell."
        )
    kept = Bernoulli(1.0 - share, 1.0 / (1.0 - share))
    kinds = dict.fromkeys((held_states(read), read.width) for read in reads if share)
    masks: dict[Any, Extra] = {}
    for states, width in kinds:
        taken = {mask.name for mask in masks.values()}
        names = fresh_names(cell, "_".join(("dropout", *states)))
        name = next(name for name in names if name not in taken)
        masks[states, width] = Extra(name, kept, eval=1.0, per="sequence", width=width)

    def mask(before: Node, read: Node) -> Node:
        m = masks.get((held_states(before), before.width))
        return as_node(symbol(m) * Symbol(read)) if m else read

    return cured(
        cell,
        "recurrent_dropout",
        {"p": share},
        "Gal & Ghahramani 2016, arXiv:1512.05287",
        extras=(*cell.extras, *masks.values()),
        new=with_reads(cell, mask),
    )


@cure
def clip_adjoint(cell: Cell, bound: float, *, at: str = "gates") -> Cell:
    """Clip gradients by value at every step of the backward pass; forward it is the same cell.

        dE/da_t  becomes  min(max(dE/da_t, -bound), bound)

    for every unit of every row, before it is carried further back. So they cannot explode on the
    way, where clipping the gradient of the parameters comes too late. The loss is summed or
    averaged over rows and steps as the caller does, and the bound is on that.

    Args:
        cell: The cell.
        bound: A positive number; infinity is the cell itself.
        at: "gates": a is every pre-activation of the step. "states": every new state, all that
            comes after it in time included.

    Raises:
        DeclarationError: a bound that is not positive, another word for `at`.

    Source:
        Graves 2013, arXiv:1308.0850, for LSTMs; Goodfellow et al. 2016, sec. 10.11.1. Differs: any
        cell.

    Example:
        >>> import throughtime as tt
        >>> tt.clip_adjoint(tt.cells.lstm, 1.0)
        <cell clip_adjoint(lstm, bound=1.0): states h c; gates i f g o>
    """
    most = as_float("clip_adjoint: bound", bound)
    if not most > 0.0:
        raise DeclarationError(f"clip_adjoint: bound is {bound!r}; a positive number was expected.")
    if at not in {"gates", "states"}:
        raise DeclarationError(f"clip_adjoint: at is {at!r}; expected 'gates' or 'states'.")
    return cured(
        cell,
        "clip_adjoint",
        {"bound": most, "at": None if at == "gates" else at},
        "Graves 2013, arXiv:1308.0850",
        new=cell.new if math.isinf(most) else with_clipped_adjoints(cell, most, at),
    )
