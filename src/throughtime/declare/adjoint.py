"""What is the backward pass of one step? A graph of the same operations, derived by rule.

For a step s_t = F(s_{t-1}, x_t) and the adjoints dE/ds_t entering as seeds, reverse accumulation
over the graph gives the adjoint of every pre-activation, past state, param, extra and x. The
gradient of a matrix M of gate a is then the sum over steps and rows of the outer product of a's
adjoint and what M reads; of a bias, the sum of a's adjoint.

Derivatives at ties and corners are torch's: half each for equal arguments of minimum and maximum,
the closed interval for clamp, 0 for relu and sign at 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from throughtime.declare.graph import COMPARISONS, Node, gate_name, node, walk
from throughtime.declare.symbols import (
    Condition,
    Symbol,
    clamp,
    cos,
    row_sum,
    sigmoid,
    sign,
    sin,
    where,
)

if TYPE_CHECKING:
    from throughtime.declare.cell import Cell

SOFTPLUS_LINEAR_ABOVE = 20.0  # torch's threshold: softplus(a) = a and its derivative 1 above it


@dataclass(frozen=True)
class Backward:
    """The adjoints of everything a graph depends on.

    Attributes:
        gates: Of each pre-activation that matters, by gate.
        states: Of each past state read, by (name, lag).
        new: Of each new state read (in emit), by name.
        params, extras: By name; for one row, to be summed over rows (and steps).
        x: Of the input; None if the graph does not read it.
    """

    gates: dict[str, Node]
    states: dict[tuple[str, int], Node]
    new: dict[str, Node]
    params: dict[str, Node]
    extras: dict[str, Node]
    x: Node | None


@dataclass(frozen=True)
class Adjoint:
    """The backward passes of a cell.

    Attributes:
        step: Seeded by node("seed", data=("new", state name)).
        emit: Seeded by node("seed", data=("out", position)).
    """

    step: Backward
    emit: Backward


Rule = Callable[[Symbol, list[Symbol], Symbol, Node], list[Symbol | None]]


def _tied(a: Symbol, b: Symbol, g: Symbol, a_wins: Condition) -> list[Symbol | None]:
    for_a = where(a == b, g / 2.0, where(a_wins, g, 0.0))
    for_b = where(a == b, g / 2.0, where(a_wins, 0.0, g))
    return [for_a, for_b]


def _clamp(g: Symbol, args: list[Symbol], _: Symbol, n: Node) -> list[Symbol | None]:
    low, high = n.data
    inside = g if low is None else where(args[0] >= low, g, 0.0)
    return [inside if high is None else where(args[0] <= high, inside, 0.0)]


def _clip_adjoint(g: Symbol, _args: list[Symbol], _y: Symbol, n: Node) -> list[Symbol | None]:
    return [clamp(g, -n.data[0], n.data[0])]


def _power(g: Symbol, args: list[Symbol], _: Symbol, n: Node) -> list[Symbol | None]:
    exponent = n.data[0]
    return [g * (float(exponent) * args[0] ** (exponent - 1)) if exponent else None]


def _expand(g: Symbol, _args: list[Symbol], _y: Symbol, _n: Node) -> list[Symbol | None]:
    return [row_sum(g)]


def _row_sum(g: Symbol, args: list[Symbol], _y: Symbol, _n: Node) -> list[Symbol | None]:
    width = args[0].node.width
    return [Symbol(node("expand", g.node, width=width)) if width != 1 else g]


# op -> (adjoint of the result, arguments, the result, its node) -> adjoints of the arguments
RULES: dict[str, Rule] = {
    "neg": lambda g, a, y, n: [-g],
    "sigmoid": lambda g, a, y, n: [g * (y * (1.0 - y))],
    "tanh": lambda g, a, y, n: [g * (1.0 - y * y)],
    "relu": lambda g, a, y, n: [where(y <= 0.0, 0.0, g)],
    "exp": lambda g, a, y, n: [g * y],
    "log": lambda g, a, y, n: [g / a[0]],
    "sqrt": lambda g, a, y, n: [g / (2.0 * y)],
    "sin": lambda g, a, y, n: [g * cos(a[0])],
    "cos": lambda g, a, y, n: [-(g * sin(a[0]))],
    "abs": lambda g, a, y, n: [g * sign(a[0])],
    "sign": lambda g, a, y, n: [None],
    "softplus": lambda g, a, y, n: [where(a[0] > SOFTPLUS_LINEAR_ABOVE, g, g * sigmoid(a[0]))],
    "add": lambda g, a, y, n: [g, g],
    "sub": lambda g, a, y, n: [g, -g],
    "mul": lambda g, a, y, n: [g * a[1], g * a[0]],
    "div": lambda g, a, y, n: [g / a[1], -(g * (y / a[1]))],
    "minimum": lambda g, a, y, n: _tied(a[0], a[1], g, a[0] < a[1]),
    "maximum": lambda g, a, y, n: _tied(a[0], a[1], g, a[0] > a[1]),
    "where": lambda g, a, y, n: [None, where(a[0], g, 0.0), where(a[0], 0.0, g)],
    "clamp": _clamp,
    "pow": _power,
    "expand": _expand,
    "row_sum": _row_sum,
    "now": lambda g, a, y, n: [g],
    "clip_adjoint": _clip_adjoint,
}


def _symbol(n: Node) -> Symbol:
    comparison = n.op in COMPARISONS
    return Condition(n) if comparison else Symbol(n)


def _fitted(value: Node, width: object) -> Node:
    """Sum over the units what was broadcast over them."""
    return row_sum(Symbol(value)).node if width == 1 and value.width != 1 else value


class _Accumulator:
    """The adjoint of every node so far."""

    def __init__(self) -> None:
        self.total: dict[Node, Node] = {}

    def add(self, target: Node, value: Node) -> None:
        value = _fitted(value, target.width)
        before = self.total.get(target)
        joined = value if before is None else node("add", before, value, width=value.width)
        self.total[target] = joined

    def spread(self, n: Node) -> None:
        """Hand a node's adjoint on to its arguments."""
        g = self.total[n]
        if n.op == "affine":
            for place, read in enumerate(n.args):
                data = (gate_name(n), place)
                self.add(read, node("transposed", g, data=data, width=read.width))
        elif n.op in RULES:
            found = RULES[n.op](Symbol(g), [_symbol(a) for a in n.args], Symbol(n), n)
            for arg, value in zip(n.args, found, strict=True):
                if value is not None:
                    self.add(arg, value.node)


def backward(roots: tuple[Node, ...], seeds: tuple[Node, ...]) -> Backward:
    """Derive the adjoints of all that the roots depend on, given the roots' adjoints."""
    accumulator = _Accumulator()
    for root, start in zip(roots, seeds, strict=True):
        accumulator.add(root, start)
    for n in reversed(list(walk(roots))):
        if n in accumulator.total:
            accumulator.spread(n)
    return _sorted(accumulator.total)


def _sorted(total: dict[Node, Node]) -> Backward:
    by_op: dict[str, dict[Node, Node]] = {}
    for n, g in total.items():
        by_op.setdefault(n.op, {})[n] = g

    def named(op: str) -> dict[str, Node]:
        return {n.data[0]: g for n, g in by_op.get(op, {}).items()}

    return Backward(
        gates=named("affine"),
        states={(n.data[0], n.data[1]): g for n, g in by_op.get("state", {}).items()},
        new=named("new"),
        params=named("param"),
        extras=named("extra"),
        x=next(iter(by_op.get("x", {}).values()), None),
    )


def derive(cell: "Cell") -> Adjoint:
    """The backward passes of a cell's step and emit; clocks have no gradient."""
    moving = [(s, n) for s, n in zip(cell.states, cell.new, strict=True) if not s.clock]
    clocks = {s.name for s in cell.states if s.clock}
    starts = tuple(node("seed", data=("new", s.name), width=s.width) for s, _ in moving)
    step = backward(tuple(n for _, n in moving), starts)
    states = {key: g for key, g in step.states.items() if key[0] not in clocks}
    outs = tuple(node("seed", data=("out", i), width=n.width) for i, n in enumerate(cell.out))
    emit = backward(cell.out, outs)
    new = {name: g for name, g in emit.new.items() if name not in clocks}
    return Adjoint(
        step=Backward(step.gates, states, step.new, step.params, step.extras, step.x),
        emit=Backward(emit.gates, emit.states, new, emit.params, emit.extras, emit.x),
    )


__all__ = ["Adjoint", "Backward", "backward", "derive"]
