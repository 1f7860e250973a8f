"""What is a traced step made of? Nodes of a small typed graph, and walks over them.

A node is immutable and shared: two equal expressions are one node. Its width is symbolic
("input", "hidden", "projection" or a number; 1 broadcasts), because a cell is declared before
its sizes are known.

Leaves: x, state (name, lag), new (name), param, extra, constant, reciprocal_width, seed.
Products: affine (the only place of a matrix) and, in adjoints, transposed.
Everything else is one of the pointwise operations or the row sum of OPERATIONS.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Width = str | int
Kind = Literal["input", "recurrent", "inner", "output"]

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
BINARY = ("add", "sub", "mul", "div", "minimum", "maximum")
UNARY = (
    "neg",
    "sigmoid",
    "tanh",
    "relu",
    "exp",
    "log",
    "sqrt",
    "sin",
    "cos",
    "abs",
    "sign",
    "softplus",
)
OPERATIONS = (
    *UNARY,
    *BINARY,
    *COMPARISONS,
    "pow",
    "clamp",
    "where",
    "row_sum",
    "expand",
    "now",
    "clip_adjoint",
)
COMMUTATIVE = frozenset({"add", "mul", "minimum", "maximum", "eq", "ne"})
LEAVES = frozenset({"x", "state", "new", "param", "extra", "constant", "reciprocal_width", "seed"})


@dataclass(frozen=True)
class Term:
    """One matrix of a pre-activation.

    Attributes:
        kind: "input" reads x, "recurrent" a past state, "inner" values of this step alone,
            "output" stands in `emit`.
        lag: The shortest delay of what a recurrent matrix reads, in steps; 0 otherwise.
        index: Which recurrent (or inner) read of its gate this is, from 1; delays added to a
            read share its index.
        masks: Pairs of params (one value a row, one a column): an element is used only where the
            column's value is at least the row's, in each pair. Layers see to it.
    """

    kind: Kind = "inner"
    lag: int = 0
    index: int = 1
    masks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Node:
    """One value of the graph; compare with `is`.

    Attributes:
        op: What computes it.
        args: The nodes it is computed from.
        data: What else the operation needs: names, lags, constants, an `Affine`.
        width: Its symbolic width.
    """

    op: str
    args: tuple["Node", ...]
    data: tuple[Any, ...]
    width: Width

    def __repr__(self) -> str:  # not the whole graph below it: shared parts would repeat
        return f"<{self.op} {self.data} of width {self.width}>"

    def __deepcopy__(self, memo: object) -> "Node":
        return self

    def __copy__(self) -> "Node":
        return self


_shared: "weakref.WeakValueDictionary[tuple[Any, ...], Node]" = weakref.WeakValueDictionary()


def node(op: str, *args: Node, data: tuple[Any, ...] = (), width: Width = 1) -> Node:
    """Return the one node with these contents."""
    exact = tuple(float.hex(d) if isinstance(d, float) else d for d in data)  # -0.0 is not 0.0
    # The arguments' identities are safe keys: the node found under them keeps them alive.
    key = (op, tuple(map(id, args)), exact, width)
    found = _shared.get(key)
    if found is None:
        found = _shared.setdefault(key, Node(op, args, data, width))
    return found


def constant(value: float) -> Node:
    """A number, exact to the bit."""
    return node("constant", data=(float(value),))


def gate_name(affine: Node) -> str:
    """The name of a pre-activation."""
    return affine.data[0]


def has_bias(affine: Node) -> bool:
    """Whether a pre-activation has a bias."""
    return affine.data[1]


def terms(affine: Node) -> tuple[Term, ...]:
    """The matrices of a pre-activation, one for each of its reads."""
    return affine.data[2]


def walk(roots: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> Iterator[Node]:
    """Every node below the roots once, arguments before users; nothing below a `stop` node."""
    seen: set[int] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        current, done = stack.pop()
        if done:
            yield current
        elif id(current) not in seen:
            seen.add(id(current))
            stack.append((current, True))
            if not (stop and stop(current)):
                stack.extend((arg, False) for arg in reversed(current.args))


def rebuild(old: Node, done: Mapping[Node, Node]) -> Node:
    """A node with its arguments replaced."""
    args = tuple(done[arg] for arg in old.args)
    return old if args == old.args else node(old.op, *args, data=old.data, width=old.width)


def rewrite(roots: Iterable[Node], change: Callable[[Node], Node]) -> tuple[Node, ...]:
    """Rebuild the graphs bottom up; `change` gets each node with its arguments rebuilt."""
    roots = tuple(roots)
    done: dict[Node, Node] = {}
    for old in walk(roots):
        done[old] = change(rebuild(old, done))
    return tuple(done[root] for root in roots)


def affines(roots: Iterable[Node]) -> dict[str, Node]:
    """The pre-activations below the roots, by name."""
    return {gate_name(n): n for n in walk(roots) if n.op == "affine"}
