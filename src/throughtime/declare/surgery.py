"""How is one cell made from another? The cuts that cures share: mixing, delays, masks, probes.

A cut changes graphs and never calls the step again, so cures compose with every cell and with
each other.
"""

import inspect
import numbers
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from itertools import chain, count
from typing import Any, Concatenate, ParamSpec

from throughtime.declare.cell import Cell
from throughtime.declare.data import Extra, Param, State, Uniform
from throughtime.declare.graph import (
    Node,
    Term,
    Width,
    constant,
    gate_name,
    has_bias,
    node,
    rebuild,
    rewrite,
    terms,
    walk,
)
from throughtime.declare.symbols import Symbol, as_node
from throughtime.errors import DeclarationError

P = ParamSpec("P")
Delays = Callable[[frozenset[int]], Collection[int]]
_STOPS = frozenset({"affine", "now"})  # a delay moves what a matrix reads down to these


def written(value: Any) -> str:
    """An argument of a cure as text."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{written(k)}: {written(v)}' for k, v in value.items())}}}"
    if isinstance(value, Uniform):
        return f"uniform({written(value.low)}, {written(value.high)})"
    fraction = isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)
    return repr(float(value) if fraction else value)  # numpy's numbers would show their type


def made_to_order(factory: Callable[..., Cell], **arguments: Any) -> str:
    """The name of a cell that a factory makes: the factory's, with what is not its default."""
    defaults = inspect.signature(factory).parameters
    given = [f"{k}={written(v)}" for k, v in arguments.items() if v != defaults[k].default]
    return f"{factory.__name__}({', '.join(given)})" if given else factory.__name__


def cure(make: Callable[Concatenate[Cell, P], Cell]) -> Callable[Concatenate[Cell, P], Cell]:
    """Have a cure refuse what is not a cell."""

    @wraps(make)
    def checked(cell: Cell, *args: P.args, **named: P.kwargs) -> Cell:
        if not isinstance(cell, Cell):
            raise DeclarationError(
                f"{make.__name__} takes a Cell, such as throughtime.cells.lstm; got {cell!r}."
            )
        return make(cell, *args, **named)

    return checked


def cured(cell: Cell, what: str, arguments: Mapping[str, Any], source: str, **changes: Any) -> Cell:
    """The cell with some fields changed, named by the expression that made it.

    Args:
        cell: What is cured.
        what: The cure's name.
        arguments: Its arguments; None is left out.
        source: Where the cure was published.
        **changes: The fields of `Cell`; if they are those it has, it is given back itself.
    """
    if all(getattr(cell, name) == value for name, value in changes.items()):
        return cell
    given = [f"{k}={written(v)}" for k, v in arguments.items() if v is not None]
    return replace(
        cell,
        name=f"{what}({', '.join([cell.name, *given])})",
        source=f"{cell.source}; {what}: {source}" if cell.source else f"{what}: {source}",
        **changes,
    )


def fresh_names(cell: Cell, name: str) -> Iterator[str]:
    """Names that the cell does not use yet: the name itself, then with _2, _3 and so on."""
    used = {item.name for item in (*cell.states, *cell.params, *cell.extras)}
    numbered = (f"{name}_{number}" for number in count(2))
    return (found for found in chain([name], numbered) if found not in used)


def fresh(cell: Cell, name: str) -> str:
    """The first of `fresh_names`."""
    return next(fresh_names(cell, name))


def moving_states(cell: Cell) -> tuple[State, ...]:
    """The states that are not clocks."""
    return tuple(s for s in cell.states if not s.clock)


def chosen_states(what: str, cell: Cell, states: Any) -> tuple[State, ...]:
    """The states of these names, in the cell's order; all but clocks for None.

    Raises:
        DeclarationError: a name that is none, or given twice.
    """
    moving = {s.name: s for s in moving_states(cell)}
    if states is None:
        return tuple(moving.values())
    listed = isinstance(states, Iterable) and not isinstance(states, str | bytes)
    names = list(states) if listed else states.split() if isinstance(states, str) else [states]
    strange = [name for name in names if not isinstance(name, str) or name not in moving]
    if strange:
        raise DeclarationError(
            f"{what}: states has {strange[0]!r}; {cell.name} has the states {', '.join(moving)}."
        )
    if not 0 < len(names) == len(set(names)):
        raise DeclarationError(
            f"{what}: states is {states!r}; names of {', '.join(moving)}, each once, were expected."
        )
    return tuple(s for name, s in moving.items() if name in names)


def mixed(
    cell: Cell, states: Iterable[State], mix: Callable[[State, Symbol, Symbol], Symbol]
) -> tuple[Node, ...]:
    """New states, some of them mixed with what the state was one step before.

    Args:
        cell: The cell.
        states: Which states.
        mix: From a state, its past and its new value to what is carried on.
    """
    names = {s.name for s in states}

    def one(state: State, new: Node) -> Node:
        if state.name not in names:
            return new
        return as_node(mix(state, symbol(state), Symbol(new)))

    return tuple(one(s, n) for s, n in zip(cell.states, cell.new, strict=True))


def _delayed(state: Node, lag: int) -> Node:
    return node("state", data=(state.data[0], lag), width=state.width)


def _shifted(read: Node, by: int, done: Mapping[Node, Node]) -> Node:
    """What a recurrent matrix reads, more steps back; gates in it stay those of this step."""
    found: dict[Node, Node] = {}
    for n in walk([read], lambda n: n.op in _STOPS):
        if n.op in _STOPS:
            found[n] = done[n]
        else:
            found[n] = _delayed(n, n.data[1] + by) if n.op == "state" else rebuild(n, found)
    return found[read]


def _with_delays(affine: Node, done: Mapping[Node, Node], delays: Delays) -> Node:
    """A gate whose recurrent matrices have other delays; a read's delays share its index."""
    pairs = list(zip(terms(affine), affine.args, strict=True))
    lags: dict[int, set[int]] = {}
    for term, _ in pairs:
        if term.kind == "recurrent":
            lags.setdefault(term.index, set()).add(term.lag)
    found: list[tuple[Term, Node]] = []
    for term, read in pairs:
        if term.kind != "recurrent":
            found.append((term, done[read]))
        elif term.lag == min(lags[term.index]):  # the shortest stands for all of its index
            wanted = sorted(delays(frozenset(lags[term.index])))
            reads = [_shifted(read, lag - term.lag, done) for lag in wanted]
            found += zip([replace(term, lag=lag) for lag in wanted], reads, strict=True)
    data = (gate_name(affine), has_bias(affine), tuple(term for term, _ in found))
    return node("affine", *(read for _, read in found), data=data, width=affine.width)


def relag(cell: Cell, elementwise: Callable[[int], int], delays: Delays) -> tuple[Node, ...]:
    """New states with every access to the past moved.

    Args:
        cell: The cell.
        elementwise: The lag of an access outside recurrent matrices, from the one it has.
        delays: The lags of the matrices that read one value, from those they have.
    """
    done: dict[Node, Node] = {}
    for n in walk(cell.new):
        if n.op == "state":
            done[n] = _delayed(n, elementwise(n.data[1]))
        else:
            done[n] = _with_delays(n, done, delays) if n.op == "affine" else rebuild(n, done)
    return tuple(done[root] for root in cell.new)


def stretched(cell: Cell, factor: int) -> tuple[Node, ...]:
    """New states with the lag of every access multiplied."""

    def change(n: Node) -> Node:
        if n.op == "state":
            return _delayed(n, factor * n.data[1])
        if n.op != "affine":
            return n
        matrices = tuple(replace(t, lag=factor * t.lag) for t in terms(n))
        data = (gate_name(n), has_bias(n), matrices)
        return node("affine", *n.args, data=data, width=n.width)

    return rewrite(cell.new, change)


def recurrent_reads(cell: Cell) -> tuple[Node, ...]:
    """What recurrent matrices read, each once."""
    gates = [n for n in walk(cell.new) if n.op == "affine"]
    pairs = [pair for n in gates for pair in zip(terms(n), n.args, strict=True)]
    return tuple({read: None for term, read in pairs if term.kind == "recurrent"})


def held_states(read: Node) -> tuple[str, ...]:
    """The names of the past states that a recurrent matrix reads."""
    leaves = walk([read], lambda n: n.op in _STOPS)
    return tuple({n.data[0]: None for n in leaves if n.op == "state"})


def with_reads(cell: Cell, change: Callable[[Node, Node], Node]) -> tuple[Node, ...]:
    """New states whose recurrent matrices read something else.

    Args:
        cell: The cell.
        change: From what was read, as it was and with everything below it changed.
    """
    done: dict[Node, Node] = {}
    for n in walk(cell.new):
        done[n] = rebuild(n, done)
        if n.op == "affine":
            pairs = zip(terms(n), n.args, strict=True)
            reads = [change(r, done[r]) if t.kind == "recurrent" else done[r] for t, r in pairs]
            done[n] = node("affine", *reads, data=n.data, width=n.width)
    return tuple(done[root] for root in cell.new)


def _is_between(affine: Node, term: Term, read: Node) -> bool:
    """Whether a matrix maps a vector of the step to another one."""
    return term.kind != "input" and 1 not in {affine.width, read.width}


def matrix_widths(cell: Cell) -> tuple[Width, ...]:
    """The widths of rows and columns of matrices between vectors of the step; not those on x."""
    found: dict[Width, None] = {}
    for n in walk(cell.new):
        for term, read in zip(terms(n), n.args, strict=True) if n.op == "affine" else ():
            found |= dict.fromkeys((n.width, read.width) if _is_between(n, term, read) else ())
    return tuple(found)


def with_masks(cell: Cell, params: Mapping[Width, str]) -> tuple[Node, ...]:
    """New states whose matrices between vectors are cut by a comparison: see `Term.masks`.

    Args:
        cell: The cell.
        params: The name of the param that is compared, by the width of rows or columns.
    """

    def cut(n: Node) -> tuple[Term, ...]:
        pairs = zip(terms(n), n.args, strict=True)
        return tuple(
            replace(term, masks=(*term.masks, (params[n.width], params[read.width])))
            if _is_between(n, term, read)
            else term
            for term, read in pairs
        )

    def change(n: Node) -> Node:
        if n.op != "affine":
            return n
        data = (gate_name(n), has_bias(n), cut(n))
        return node("affine", *n.args, data=data, width=n.width)

    return rewrite(cell.new, change) if params else cell.new


def with_clipped_adjoints(cell: Cell, bound: float, at: str) -> tuple[Node, ...]:
    """New states whose gradients are clipped by value at "gates" or at "states".

    What depends on params alone has no gradient of one step, so it is left alone.
    """
    timed: set[Node] = set()
    done: dict[Node, Node] = {}

    def clipped(n: Node) -> Node:
        return (
            node("clip_adjoint", done[n], data=(bound,), width=n.width) if n in timed else done[n]
        )

    for n in walk(cell.new):
        done[n] = rebuild(n, done)
        if n.op in {"x", "state", "extra"} or not timed.isdisjoint(n.args):
            timed.add(n)
        if at == "gates" and n.op == "affine":
            done[n] = clipped(n)
    pairs = zip(cell.states, cell.new, strict=True)
    return tuple(clipped(n) if at == "states" and not s.clock else done[n] for s, n in pairs)


@cure
def probed(cell: Cell) -> Cell:
    """The cell with something added to every state that is carried on: zeros, to see gradients.

        s_t + probe_s_t

    The gradient with respect to the extra input `probe_s` at step t is dE/ds_t, everything that
    comes after included: what is emitted at t and all later steps. The other new states of step t
    are held fixed, as in the Jacobian of the whole state: an LSTM's probe_c does not see that h_t
    was made from c_t.

    Args:
        cell: The cell.

    Returns:
        A cell with a data extra `probe_{state}` for every state that is not a clock.
    """
    probes: dict[str, Extra] = {}
    for state in moving_states(cell):
        name = fresh(cell, f"probe_{state.name}")
        probes[state.name] = Extra(name, width=state.width)

    def add(state: State, _past: Symbol, new: Symbol) -> Symbol:
        return new + symbol(probes[state.name])

    return replace(
        cell,
        name=f"probed({cell.name})",
        extras=(*cell.extras, *probes.values()),
        new=mixed(cell, moving_states(cell), add),
    )


def symbol(item: State | Param | Extra | float) -> Symbol:
    """Something declared as a value of the step; a state is that of one step before."""
    if isinstance(item, float | int):
        return Symbol(constant(item))
    op = type(item).__name__.lower()
    lag = (1,) if isinstance(item, State) else ()
    return Symbol(node(op, data=(item.name, *lag), width=item.width))
