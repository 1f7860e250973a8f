"""What is a cell? Its states, parameters, extra inputs and the graph of one step, as one value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from throughtime.declare import adjoint, canonical, flat, regions
from throughtime.declare.data import Extra, Param, State
from throughtime.declare.graph import Node, affines, walk
from throughtime.declare.symbols import Symbol, as_node
from throughtime.declare.trace import (
    Trace,
    as_results,
    bind,
    call_traced,
    check_own,
    leaf_symbols,
    settle_terms,
    widened,
)
from throughtime.errors import DeclarationError


@dataclass(frozen=True, eq=False)
class Cell:
    """One step of a recurrence, as a graph. Made by `cell`; never changed.

    Cells are equal when their canonical graphs and their data are: names do not count, nor the
    order of commutative arguments.

    Attributes:
        name: What it is called in messages.
        states: What is carried from step to step, in order; the first is the output by default.
        params: Vectors of parameters.
        extras: Elementwise inputs besides x.
        gates: The names of all pre-activations, in declared order.
        new: The graph of each next state, in order of `states`.
        out: The graphs of what the layer outputs, over the new states and x.
        source: Where it was published.
    """

    name: str
    states: tuple[State, ...]
    params: tuple[Param, ...]
    extras: tuple[Extra, ...]
    gates: tuple[str, ...]
    new: tuple[Node, ...]
    out: tuple[Node, ...]
    source: str = ""

    def __repr__(self) -> str:
        states = " ".join(s.name for s in self.states)
        return f"<cell {self.name}: states {states}; gates {' '.join(self.gates)}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self is other or self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (restore, (self.text,))

    def __copy__(self) -> "Cell":
        return self

    def __deepcopy__(self, memo: object) -> "Cell":
        return self

    @cached_property
    def text(self) -> str:
        """The cell as JSON text, flat and in order; `restore` reads it back."""
        return flat.write(self)

    @cached_property
    def graph_key(self) -> str:
        """A digest of the graph alone, equal in every process; engines share kernels by it."""
        return canonical.graph_key(self)

    @cached_property
    def key(self) -> str:
        """A digest of the graph and of the data of states, params and extras, without names."""
        return canonical.cell_key(self)

    @cached_property
    def affines(self) -> dict[str, Node]:
        """Every pre-activation by name, in declared order."""
        found = affines((*self.new, *self.out))
        return {gate: found[gate] for gate in self.gates}

    @cached_property
    def _lags(self) -> dict[str, int]:
        longest = {s.name: 1 for s in self.states}
        for n in walk(self.new):
            if n.op == "state":
                longest[n.data[0]] = max(longest[n.data[0]], n.data[1])
        return longest

    def lags(self) -> dict[str, int]:
        """The longest delay of each state, in steps."""
        return dict(self._lags)

    @cached_property
    def depth(self) -> int:
        """D: how many past values of every state are carried."""
        return max(self._lags.values())

    def phases(self) -> tuple[tuple[str, ...], ...]:
        """The gates in groups: one that reads another gate comes in a later group."""
        return regions.phases(self)

    def regions(self) -> dict[str, tuple[Node, ...]]:
        """Every node by when it can be computed: "once", "before", "loop", "after"."""
        return regions.regions(self)

    @cached_property
    def _adjoint(self) -> adjoint.Adjoint:
        return adjoint.derive(self)

    def adjoint(self) -> adjoint.Adjoint:
        """The backward pass of the step and of emit, as graphs of the same operations."""
        return self._adjoint


@lru_cache(maxsize=1024)
def restore(text: str) -> Cell:
    """Make the cell again that `Cell.text` describes; the same object for the same text."""
    return Cell(**flat.read(text))


@dataclass
class _Declared:
    states: tuple[State, ...]
    params: tuple[Param, ...]
    extras: tuple[Extra, ...]
    trace: Trace = field(default_factory=Trace)

    def symbols(self, *, in_emit: bool) -> dict[str, Symbol]:
        return leaf_symbols(self.states, self.params, self.extras, in_emit=in_emit)

    def new(self, step: Callable[..., Any]) -> tuple[Node, ...]:
        symbols = bind(step, self.symbols(in_emit=False), "the step")
        results = as_results(call_traced(step, symbols, self.trace))
        if len(results) != len(self.states):
            names = ", ".join(s.name for s in self.states)
            raise DeclarationError(
                f"the step returned {len(results)} values; it must return the next value of each "
                f"state, in order: {names}."
            )
        pairs = zip(self.states, results, strict=True)
        nodes = tuple(widened(value, s.width, f"state {s.name!r}") for s, value in pairs)
        check_own("the step", nodes, self.symbols(in_emit=False), self.trace.gates)
        self._check_clocks(nodes)
        return settle_terms(nodes, self.trace.gates)

    def out(self, emit: Callable[..., Any] | None) -> tuple[Node, ...]:
        symbols = self.symbols(in_emit=True)
        if emit is None:
            return (symbols[self.states[0].name].node,)
        self.trace.in_emit = True
        step_gates = len(self.trace.gates)
        results = as_results(call_traced(emit, bind(emit, symbols, "emit"), self.trace))
        nodes = tuple(as_node(value) for value in results)
        if not nodes:
            raise DeclarationError("emit returned nothing; it must return at least one value.")
        own_gates = self.trace.gates[step_gates:]
        check_own("emit", nodes, symbols, own_gates)
        unused = set(own_gates) - set(affines(nodes))
        if unused:
            raise DeclarationError(f"gate {min(unused)!r} is declared in emit but never used.")
        return nodes

    def _check_clocks(self, new: tuple[Node, ...]) -> None:
        clocks = {s.name for s in self.states if s.clock}
        fixed = {p.name for p in self.params if not p.trainable}
        for state, value in zip(self.states, new, strict=True):
            for n in walk([value]) if state.clock else ():
                own = n.op in {"state", "param"} and n.data[0] in clocks | fixed
                if n.op in {"x", "extra", "affine"} or (n.op in {"state", "param"} and not own):
                    raise DeclarationError(
                        f"clock {state.name!r} depends on {n.op} {n.data[0] if n.data else ''}; a "
                        f"clock may depend on clocks, numbers and untrainable params alone."
                    )


def _as_states(states: str | Iterable[str | State]) -> tuple[State, ...]:
    if callable(states):
        raise DeclarationError('@cell stands without states; write e.g. @cell("h c").')
    listed = states.split() if isinstance(states, str) else states
    found = tuple(s if isinstance(s, State) else State(s) for s in listed)
    if not found or all(s.clock for s in found):
        raise DeclarationError(
            f"a cell needs at least one state that is not a clock; got {states!r}, "
            f'where e.g. "h c" was expected.'
        )
    return found


def _all_of(kind: type, items: Iterable[Any]) -> tuple[Any, ...]:
    found = tuple(items) if isinstance(items, Iterable) else (items,)
    if isinstance(items, kind) or not all(isinstance(item, kind) for item in found):
        name = kind.__name__
        raise DeclarationError(f"{name.lower()}s is a sequence of {name}; got {items!r}.")
    return found


def cell(
    states: str | Iterable[str | State],
    *,
    params: Iterable[Param] = (),
    extras: Iterable[Extra] = (),
    emit: Callable[..., Any] | None = None,
    name: str | None = None,
    source: str = "",
) -> Callable[[Callable[..., Any]], Cell]:
    """Declare a recurrence: decorate a function that writes one step.

    The function is called once, with symbols, and its graph is the cell from then on. Arguments
    are bound by name: x, states, params, extras. It returns the next states, in order.

    Args:
        states: Names separated by blanks, or a sequence of names and `State`.
        params: Per-unit parameters.
        extras: Elementwise inputs.
        emit: Maps the new states (and x) to what the layer outputs; several values are
            concatenated. Default: the first state.
        name: Default: the function's name.
        source: Where the cell was published.

    Returns:
        A decorator that makes the `Cell`.

    Raises:
        DeclarationError: the equations cannot be a cell; the message says why.

    Example:
        >>> import throughtime as tt
        >>> @tt.cell("h", source="Elman 1990")
        ... def elman(x, h):
        ...     return tt.tanh(tt.affine("a", x, h))
        >>> elman
        <cell elman: states h; gates a>
    """
    parts = (_as_states(states), _all_of(Param, params), _all_of(Extra, extras))

    def declare(step: Callable[..., Any]) -> Cell:
        declared = _Declared(*parts)
        new = declared.new(step)
        out = declared.out(emit)
        called = name or getattr(step, "__name__", "cell")
        return Cell(
            name=called if called != "<lambda>" else "cell",
            states=declared.states,
            params=declared.params,
            extras=declared.extras,
            gates=tuple(declared.trace.gates),
            new=new,
            out=out,
            source=source,
        )

    return declare
