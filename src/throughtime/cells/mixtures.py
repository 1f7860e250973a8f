"""Which cures slow a cell down? Those that mix a new state with what it was one step before.

    leaky       in shares, fixed or learned   s_t = a s_{t-1} + (1 - a) F(s_{t-1}, x_t)
    zoneout     by chance                     a is 0 or 1, drawn at every step
    clockwork   by the clock                  a is 0 at every n-th step, else 1

F is all that the cell itself does: where one new state is made from another, as an LSTM's h from
c, it is made from the unmixed one. Delayed reads see what was carried on, the mixed values.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from throughtime.declare import Bernoulli, Blocks, Cell, Extra, Param, State, Uniform
from throughtime.declare.data import as_float, check_count
from throughtime.declare.graph import Node, Width
from throughtime.declare.surgery import (
    chosen_states,
    cure,
    cured,
    fresh,
    fresh_names,
    matrix_widths,
    mixed,
    moving_states,
    symbol,
    with_masks,
)
from throughtime.declare.symbols import Symbol, as_node, where
from throughtime.errors import DeclarationError

__all__ = ["NOTES_RATE", "clockwork", "leaky", "zoneout"]

NOTES_RATE = Uniform(0.02, 0.2)

_LEARNED = {"rate": NOTES_RATE, "retain": Uniform(1.0 - NOTES_RATE.high, 1.0 - NOTES_RATE.low)}
_ALL_NEW = {"rate": 1.0, "retain": 0.0}


@cure
def leaky(cell: Cell, retain: Any = None, *, rate: Any = None, states: Any = None) -> Cell:
    """Leaky units: every state keeps a share of what it was.

        s_t = a s_{t-1} + (1 - a) F(s_{t-1}, x_t),  a = retain = 1 - rate

    The step Jacobian is a I + (1 - a) J_F. Left alone, a unit forgets with the time constant
    -1 / ln a, about 1 / rate steps.

    Args:
        cell: F. If it is a stack declared as one cell, its upper layers read unmixed lower
            states; for a stack of leaky layers, give the leaky layer `num_layers`.
        retain: a. A number in [0, 1), 0 being the cell itself; `Uniform`, drawn once for each
            unit and kept; "learned", or a `Param` with bounds within 0 and 1.
        rate: 1 - a, given instead. "learned" starts in `NOTES_RATE`, uniform(0.02, 0.2), for
            either.
        states: The names of the states that leak; None for all but clocks.

    Returns:
        A cell that has a param `retain_{state}` or `rate_{state}` for each of these states,
        unless a number was given.

    Raises:
        DeclarationError: neither or both of retain and rate, a share that is not in [0, 1), a
            state that the cell does not have.

    Source:
        Bengio et al. 2012, arXiv:1212.0901, sec. 3.2, where alpha = a is drawn from (0.02, 0.2);
        Goodfellow et al. 2016, sec. 10.9.2. As printed it is `retain=NOTES_RATE`, with time
        constants of 0.26 to 0.62 steps; taken as the rate, `rate=NOTES_RATE`, it gives 4.5 to
        49.5 steps.

    Example:
        >>> import throughtime as tt
        >>> tt.leaky(tt.cells.lstm, rate=0.1, states=["c"])
        <cell leaky(lstm, rate=0.1, states=['c']): states h c; gates i f g o>
    """
    if (retain is None) == (rate is None):
        raise DeclarationError(
            f"leaky: retain is {retain!r} and rate is {rate!r}; give one of them, as in rate=0.1."
        )
    word, share = ("retain", retain) if rate is None else ("rate", rate)
    chosen = chosen_states("leaky", cell, states)
    shares = {s.name: _share(cell, s, word, share) for s in chosen}

    def mix(state: State, past: Symbol, new: Symbol) -> Symbol:
        a = symbol(shares[state.name])
        return a * past + (1.0 - a) * new if word == "retain" else (1.0 - a) * past + a * new

    params = tuple(p for p in shares.values() if isinstance(p, Param))
    leaking = [s for s in chosen if shares[s.name] != _ALL_NEW[word]]
    return cured(
        cell,
        "leaky",
        {word: share, "states": None if states is None else [s.name for s in chosen]},
        "Bengio et al. 2012, arXiv:1212.0901, sec. 3.2",
        params=(*cell.params, *params),
        new=mixed(cell, leaking, mix),
    )


def _share(cell: Cell, state: State, word: str, given: Any) -> float | Param:
    """What one state keeps, or takes: a number, or a param of its own."""
    param = given
    if isinstance(given, str):
        if given != "learned":
            raise DeclarationError(f'leaky: {word} is {given!r}; the only word is "learned".')
        param = Param(word, _LEARNED[word], low=0.0, high=1.0)
    if isinstance(given, Uniform):
        param = Param(word, given, trainable=False)
    if not isinstance(param, Param):
        return _number(word, given)
    bounds = (param.low, param.high) if param.trainable else param.initial_values()
    reached = [math.inf if bound is None else bound for bound in bounds]
    if not 0.0 <= min(reached) <= max(reached) <= 1.0 or set(reached) == {1.0 - _ALL_NEW[word]}:
        raise DeclarationError(
            f"leaky: {word} is {given!r}; expected values within 0 and 1 that do not hold every "
            f"unit still, and of a learned param low and high within them."
        )
    return replace(param, name=fresh(cell, f"{param.name}_{state.name}"), width=state.width)


def _number(word: str, value: Any) -> float:
    number = as_float(f"leaky: {word}", value)
    if not (0.0 <= number <= 1.0 and number != 1.0 - _ALL_NEW[word]):
        interval = {"retain": "[0, 1)", "rate": "(0, 1]"}[word]
        raise DeclarationError(f"leaky: {word} is {value!r}; a number in {interval} was expected.")
    return number


@cure
def zoneout(cell: Cell, p: Any, *, states: Any = None) -> Cell:
    """Zoneout: every unit stays as it was with probability p, drawn at every step.

        s_t = m s_{t-1} + (1 - m) F(s_{t-1}, x_t),  m ~ Bernoulli(p); outside training m = p

    Args:
        cell: F.
        p: A number in [0, 1), or one for each of some states: {"h": 0.05, "c": 0.5}; 0 is the
            cell itself.
        states: With a number, the names of the states that it is for; None for all but clocks.

    Returns:
        A cell that has a drawn extra `zoneout_{state}` for each of these states.

    Raises:
        DeclarationError: a p that is not in [0, 1), a state that the cell does not have.

    Source:
        Krueger et al. 2016, arXiv:1606.01305; as there, an LSTM's h is made from the unmixed c.

    Example:
        >>> import throughtime as tt
        >>> tt.zoneout(tt.cells.lstm, {"h": 0.05, "c": 0.5}).extras[0].name
        'zoneout_h'
    """
    if isinstance(p, Mapping) and states is not None:
        raise DeclarationError("zoneout: states came with a table of p, which names them; drop it.")
    by_state = isinstance(p, Mapping)
    chosen = chosen_states("zoneout", cell, list(p) if by_state else states)
    masks = {s.name: _mask(cell, s, p[s.name] if by_state else p) for s in chosen}

    def mix(state: State, past: Symbol, new: Symbol) -> Symbol:
        m = symbol(masks[state.name])
        return m * past + (1.0 - m) * new

    drawn = [s for s in chosen if masks[s.name].eval]
    named = {s.name: p[s.name] for s in chosen} if by_state else p
    return cured(
        cell,
        "zoneout",
        {"p": named, "states": None if states is None else [s.name for s in chosen]},
        "Krueger et al. 2016, arXiv:1606.01305",
        extras=(*cell.extras, *(masks[s.name] for s in drawn)),
        new=mixed(cell, drawn, mix),
    )


def _mask(cell: Cell, state: State, p: Any) -> Extra:
    probability = as_float("zoneout: p", p)
    if not 0.0 <= probability < 1.0:
        raise DeclarationError(f"zoneout: p is {p!r}; a probability in [0, 1) was expected.")
    name = fresh(cell, f"zoneout_{state.name}")
    return Extra(name, Bernoulli(probability), eval=probability, width=state.width)


@cure
def clockwork(cell: Cell, periods: Any, *, masked: bool = True) -> Cell:
    """Clockwork: groups of units that move at every n-th step only, each group at its own n.

        s_t = F(s_{t-1}, x_t) where t mod n = 0, else s_{t-1}

    t counts from 0 where the sequence, or its last reset, begins, so all groups move at the first
    step. The groups are neighbouring units, of equal size up to rounding: ceil(width / groups).

    Args:
        cell: F. All its states but clocks are held, each in groups of its own width.
        periods: n of each group; (1,) is the cell itself.
        masked: Whether units read slower or equally slow ones alone: an element of a recurrent or
            inner matrix is used where its column's period is at least its row's.

    Returns:
        A cell with a state `clock` and a fixed param `period` for each width of its states.

    Raises:
        DeclarationError: no periods, or one that is not a whole number from 1.

    Source:
        Koutnik et al. 2014, arXiv:1402.3511, whose cell is `clockwork(rnn, [1, 2, 4, ..])`.
        Differs: any cell; periods in any order.

    Example:
        >>> import throughtime as tt
        >>> tt.clockwork(tt.cells.rnn, [1, 2, 4])
        <cell clockwork(rnn, periods=[1, 2, 4]): states h clock; gates a>
    """
    listed = _periods(periods)
    if not isinstance(masked, bool):
        raise DeclarationError(f"clockwork: masked is {masked!r}; True or False was expected.")
    if set(listed) == {1}:
        return cell
    between = matrix_widths(cell) if masked and len(set(listed)) > 1 else ()
    clock, period = _clocks(cell, listed, between)

    def hold(state: State, past: Symbol, new: Symbol) -> Symbol:
        return where(symbol(clock[state.width]) == 0.0, new, past)

    cut = replace(cell, new=with_masks(cell, {width: period[width].name for width in between}))
    ticks = [_tick(clock[width], period[width]) for width in clock]
    return cured(
        cell,
        "clockwork",
        {"periods": listed, "masked": None if masked else False},
        "Koutnik et al. 2014, arXiv:1402.3511",
        states=(*cell.states, *clock.values()),
        params=(*cell.params, *period.values()),
        new=(*mixed(cut, moving_states(cell), hold), *ticks),
    )


def _clocks(
    cell: Cell, periods: tuple[int, ...], between: tuple[Width, ...]
) -> tuple[dict[Width, State], dict[Width, Param]]:
    """A clock for each width of states, and the periods for each width that is timed or cut."""
    timed = dict.fromkeys(s.width for s in moving_states(cell))
    clocks = zip(timed, fresh_names(cell, "clock"), strict=False)
    named = zip(timed | dict.fromkeys(between), fresh_names(cell, "period"), strict=False)
    return (
        {width: State(name, width=width, clock=True) for width, name in clocks},
        {
            width: Param(name, Blocks(periods), trainable=False, width=width)
            for width, name in named
        },
    )


def _tick(clock: State, period: Param) -> Node:
    """Count on, or from 0 when the period is over: exact however long the sequence."""
    count = symbol(clock) + 1.0
    return as_node(where(count >= symbol(period), 0.0, count))


def _periods(periods: Any) -> tuple[Any, ...]:
    words = isinstance(periods, str | Mapping)
    found = tuple(periods) if isinstance(periods, Iterable) and not words else ()
    if not found:
        raise DeclarationError(
            f"clockwork: periods is {periods!r}; a list such as [1, 2, 4] was expected."
        )
    for period in found:
        check_count("clockwork: a period", period)
    return found
