"""How does a Python function become a graph? It is called once, with symbols."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from throughtime.declare.data import Extra, Param, State, check_name, check_width
from throughtime.declare.graph import LEAVES, Node, Term, Width, gate_name, node, rebuild, walk
from throughtime.declare.symbols import Symbol, as_node
from throughtime.errors import DeclarationError


@dataclass
class Trace:
    """The gates met so far, in declared order, and where the tracing stands."""

    gates: list[str] = field(default_factory=list)
    in_emit: bool = False


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def affine(name: str, *reads: Any, bias: bool = True, width: Width = "hidden") -> Any:
    """A pre-activation, the only place of a matrix.

        a = sum_k M_k read_k + b

    Args:
        name: The gate's name, or several separated by blanks for several gates of these reads.
        reads: x, or values of the step.
        bias: Whether b is there.
        width: The gate's width: "hidden", "projection" or a number.

    Returns:
        One value, or a tuple with one a name.

    Raises:
        DeclarationError: outside a step, without a read, a name used twice, or a read that is
            not x or a value of the step.
    """
    trace = _current.get()
    if trace is None:
        raise DeclarationError(
            "affine() was called outside a step; it belongs in a function under @cell(...)."
        )
    names = name.split() if isinstance(name, str) else []
    if not names or not reads:
        raise DeclarationError(
            f"affine({name!r}) got {len(reads)} reads; it needs a name and at least one read, "
            f'e.g. affine("a", x, h).'
        )
    check_width(f"gate {name!r}", width)
    sources = tuple(_read(name, read) for read in reads)
    gates = [_gate(trace, gate, sources, bias, width) for gate in names]
    return tuple(gates) if len(gates) > 1 else gates[0]


def _read(name: str, read: Any) -> Node:
    if not isinstance(read, Symbol):
        raise DeclarationError(
            f"affine({name!r}) reads {read!r} of type {type(read).__name__}; "
            f"it reads x or values of the step."
        )
    source = read.node if read.node.op == "x" else as_node(read)
    leaves = {n.op for n in walk([source]) if n.op in LEAVES}
    if leaves <= {"constant", "reciprocal_width"}:
        raise DeclarationError(f"affine({name!r}) reads a number; that is what its bias is for.")
    return source


def _gate(trace: Trace, name: str, reads: tuple[Node, ...], bias: bool, width: Width) -> Symbol:  # noqa: FBT001 (affine's own)
    check_name("gate", name)
    if name in trace.gates:
        raise DeclarationError(f"gate {name!r} is declared twice; each needs a name of its own.")
    trace.gates.append(name)
    kind = "output" if trace.in_emit else "inner"  # settled by `settle_terms` after the trace
    found = tuple(Term(kind, index=i) for i, _ in enumerate(reads, 1))
    return Symbol(node("affine", *reads, data=(name, bool(bias), found), width=width))


def ago(state: Any, lag: int) -> Symbol:
    """The state `lag` steps back; a bare state is lag 1.

    Raises:
        DeclarationError: not a bare state, or a lag that is not a positive integer.
    """
    if not isinstance(state, Symbol) or state.node.op != "state" or state.node.data[1] != 1:
        raise DeclarationError(f"ago() got {state!r}; it takes a bare state, e.g. ago(h, 5).")
    if isinstance(lag, bool) or not isinstance(lag, int) or lag < 1:
        raise DeclarationError(f"ago() got lag {lag!r}; a lag is a whole number of steps from 1.")
    return Symbol(node("state", data=(state.node.data[0], lag), width=state.node.width))


def bind(function: Callable[..., Any], symbols: dict[str, Symbol], what: str) -> dict[str, Symbol]:
    """Choose the symbols that a function's argument names ask for."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"{what} must be a plain Python function ({error}).") from None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return symbols
    for p in parameters:
        if p.kind in {p.VAR_POSITIONAL, p.POSITIONAL_ONLY} or p.name not in symbols:
            raise DeclarationError(
                f"{what} has the argument {p.name!r}; arguments are bound by name and may be: "
                f"{', '.join(symbols)}."
            )
    return {p.name: symbols[p.name] for p in parameters}


def leaf_symbols(
    states: Iterable[State], params: Iterable[Param], extras: Iterable[Extra], *, in_emit: bool
) -> dict[str, Symbol]:
    """The symbols by name that a step, or an emit, may ask for."""
    found = {"x": Symbol(node("x", width="input"))}

    def add(name: str, leaf: Node) -> None:
        if name in found:
            raise DeclarationError(
                f"the name {name!r} is used twice among states, params and extras."
            )
        found[name] = Symbol(leaf)

    for s in states:
        leaf = ("new", (s.name,)) if in_emit else ("state", (s.name, 1))
        add(s.name, node(leaf[0], data=leaf[1], width=s.width))
    for p in params:
        add(p.name, node("param", data=(p.name,), width=p.width))
    for e in extras:
        add(e.name, node("extra", data=(e.name,), width=e.width))
    return found


def call_traced(function: Callable[..., Any], symbols: dict[str, Symbol], trace: Trace) -> Any:
    """Call a function with symbols while `affine` records into the trace."""
    token = _current.set(trace)
    try:
        return function(**symbols)
    finally:
        _current.reset(token)


def as_results(result: Any) -> tuple[Any, ...]:
    """What a function returned, as a tuple."""
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def widened(value: Any, width: Width, what: str) -> Node:
    """The node of a result, broadcast to the width it must have."""
    result = as_node(value)
    if result.width == width:
        return result
    if result.width == 1:
        return node("expand", result, data=(), width=width)
    raise DeclarationError(f"{what} has width {width}, but its new value has width {result.width}.")


def check_own(
    what: str, roots: tuple[Node, ...], symbols: dict[str, Symbol], gates: Iterable[str]
) -> None:
    """Refuse values kept from another step, or from the step in emit."""
    own = {s.node for s in symbols.values()}
    seen: list[str] = []
    for n in walk(roots):
        bare = node("state", data=(n.data[0], 1), width=n.width) if n.op == "state" else n
        strange = bare.op in {"state", "new", "param", "extra"} and bare not in own
        if n.op == "affine":
            strange = gate_name(n) in seen or gate_name(n) not in gates
            seen.append(gate_name(n))
        if strange:
            raise DeclarationError(
                f"{what} uses {n.data[0]!r} of another step; a value lives in the one call of its "
                f"own step. Pass it on as a state."
            )


def past_states(read: Node, new: frozenset[Node]) -> list[int]:
    """The lags of past states that a read still holds, followed down to gates and new values."""

    def stop(n: Node) -> bool:
        return n.op in {"affine", "now"} or n in new

    return [n.data[1] for n in walk([read], stop) if n.op == "state" and n not in new]


def settled(affine_node: Node, new: frozenset[Node]) -> tuple[Term, ...]:
    """Decide for each read of a gate which kind of matrix stands before it."""
    seen: dict[str, int] = {}
    found: list[Term] = []
    for read in affine_node.args:
        lags = past_states(read, new)
        kind = "input" if read.op == "x" else "recurrent" if lags else "inner"
        seen[kind] = seen.get(kind, 0) + 1
        found.append(Term(kind, min(lags, default=0), seen[kind]))
    return tuple(found)


def settle_terms(roots: tuple[Node, ...], gates: Iterable[str]) -> tuple[Node, ...]:
    """Rebuild the step's graph with the kinds of its matrices settled.

    A matrix is recurrent if its read, followed down to gates, to new states and to now(...),
    still holds a past state. This is decided on the graph as traced, once.
    """
    new = frozenset(root for root in roots if root.op != "state")
    kinds = {n.data[0]: settled(n, new) for n in walk(roots) if n.op == "affine"}
    missing = [gate for gate in gates if gate not in kinds]
    if missing:
        raise DeclarationError(f"gate {missing[0]!r} is declared but never used.")
    done: dict[Node, Node] = {}
    for n in walk(roots):
        done[n] = rebuild(n, done)
        if n.op == "affine":
            name, bias, _ = n.data
            pairs = zip(kinds[name], n.args, strict=True)
            reads = [_held(r, done, new) if t.kind == "recurrent" else done[r] for t, r in pairs]
            done[n] = node("affine", *reads, data=(name, bias, kinds[name]), width=n.width)
    return tuple(done[root] for root in roots)


def _held(read: Node, done: Mapping[Node, Node], new: frozenset[Node]) -> Node:
    """What a recurrent matrix reads, with new states marked as computed in this step.

    Cures replace what a step returns; that these values were new states is then known no more.
    """

    def marked(n: Node) -> bool:
        return n in new and n.op not in {"affine", "now"} and bool(past_states(n, new - {n}))

    def stop(n: Node) -> bool:
        return n.op in {"affine", "now"} or marked(n)

    held: dict[Node, Node] = {}
    for n in walk([read], stop):
        if marked(n):
            held[n] = node("now", done[n], width=n.width)
        else:
            held[n] = done[n] if stop(n) else rebuild(n, held)
    return held[read]
