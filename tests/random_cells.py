"""Which cells has nobody thought of? Random declarations, the same for the same seed everywhere.

`random_cell(seed)` uses the public API alone and needs no torch. Every operation of a step turns
up: mixed widths, lags 1 to 3, gates that read gates and new states, params, extras, clocks,
matrices in emit. About half of the cells have no sum over units and no value of width 1.

Values stay finite by construction. Each carries an interval that holds it, for any x, for states
in [-1, 1] (where a step leaves them), params inside their bounds or [-2, 2], extras in [0, 2];
an operation is only applied where its result is finite and its slope moderate.
"""

import math
import operator
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from throughtime.declare import (
    Bernoulli,
    Cell,
    Extra,
    Param,
    State,
    Uniform,
    absolute,
    affine,
    ago,
    cell,
    clamp,
    cos,
    exp,
    layer_norm,
    log,
    maximum,
    minimum,
    now,
    relu,
    row_mean,
    row_sum,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    where,
)

__all__ = ["random_cell"]

Width = str | int
Interval = tuple[float, float]

ANYWHERE, SMALL, POSITIVE = "anywhere", "small", "positive"
LARGEST = 8.0  # of what enters products and quotients
SMALLEST = 0.2  # of divisors and of what log and sqrt take


def within(low: float, high: float) -> Callable[[float, float], Interval]:
    return lambda a, b: (low, high)


def monotonic(function: Callable[[float], float]) -> Callable[[float, float], Interval]:
    return lambda a, b: (min(function(a), function(b)), max(function(a), function(b)))


# what it takes, the operation, the interval of its result from that of its argument
UNARY = (
    (ANYWHERE, operator.neg, monotonic(operator.neg)),
    (ANYWHERE, sigmoid, within(0.0, 1.0)),
    (ANYWHERE, tanh, within(-1.0, 1.0)),
    (ANYWHERE, sin, within(-1.0, 1.0)),
    (ANYWHERE, cos, within(-1.0, 1.0)),
    (ANYWHERE, sign, within(-1.0, 1.0)),
    (ANYWHERE, relu, monotonic(lambda e: max(0.0, e))),
    (ANYWHERE, absolute, lambda a, b: (0.0, max(abs(a), abs(b)))),
    (ANYWHERE, softplus, lambda a, b: (0.0, max(abs(a), abs(b)) + math.log(2.0))),
    (ANYWHERE, lambda v: clamp(v, -0.5, 0.75), within(-0.5, 0.75)),
    (ANYWHERE, lambda v: clamp(v, min=-0.25), monotonic(lambda e: max(-0.25, e))),
    (ANYWHERE, lambda v: clamp(v, max=0.5), monotonic(lambda e: min(0.5, e))),
    (SMALL, exp, monotonic(math.exp)),
    (SMALL, lambda v: v**0, within(1.0, 1.0)),
    (SMALL, lambda v: v**1, monotonic(lambda e: e)),
    (SMALL, lambda v: v**2, within(0.0, 4.0)),
    (SMALL, lambda v: v**3, within(-8.0, 8.0)),
    (POSITIVE, log, monotonic(math.log)),
    (POSITIVE, sqrt, monotonic(math.sqrt)),
    (POSITIVE, lambda v: v**-1, monotonic(lambda e: 1.0 / e)),
    (POSITIVE, lambda v: v**-2, monotonic(lambda e: e**-2.0)),
)
# the operation on symbols, on numbers
BINARY = (
    (operator.add, operator.add),
    (operator.sub, operator.sub),
    (operator.mul, operator.mul),
    (operator.mul, operator.mul),
    (operator.truediv, operator.truediv),
    (minimum, min),
    (maximum, max),
)
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
SQUASHES = (tanh, tanh, tanh, sin, sigmoid)


@dataclass(frozen=True)
class Value:
    """A symbol or number, an interval that holds it, its width, the gates it depends on."""

    symbol: Any
    low: float
    high: float
    width: Width
    gates: frozenset[str] = frozenset()

    def made(self, symbol: Any, interval: Interval, width: Width | None = None) -> "Value":
        """What was made from this value."""
        width = self.width if width is None else width
        return replace(self, symbol=symbol, low=interval[0], high=interval[1], width=width)

    def within(self, limit: float) -> bool:
        """Whether it surely lies within a limit."""
        return max(abs(self.low), abs(self.high)) <= limit


def joined(symbol: Any, interval: Interval, *values: Value) -> Value:
    """What was made from several values."""
    wide = [v.width for v in values if v.width != 1]
    gates = frozenset().union(*(v.gates for v in values))
    return Value(symbol, *interval, wide[0] if wide else 1, gates)


class Maker:
    """Draws the parts of one cell."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.sums = rng.random() < 0.5
        self.widths: tuple[Width, ...] = ("hidden", "hidden", "hidden", "projection", 3)
        if self.sums:
            self.widths += (1,)
        self.pool: list[Value] = []
        self.declared: list[str] = []
        self.states = [State(f"s{i}", rng.choice(self.widths)) for i in range(rng.randint(1, 3))]
        if rng.random() < 0.15:
            width = 1 if self.sums else "hidden"
            self.states.append(State("tick", width, clock=True))
        self.params = [self._param(i) for i in range(rng.randint(0, 2))]
        self.extras = [self._extra(i) for i in range(rng.choice((0, 0, 1)))]

    def _param(self, i: int) -> Param:
        width = self.rng.choice(self.widths)
        if self.rng.random() < 0.5:
            return Param(f"p{i}", init=Uniform(-1.0, 1.0), width=width)
        return Param(f"p{i}", init=Uniform(0.5, 1.5), low=0.25, high=2.0, width=width)

    def _extra(self, i: int) -> Extra:
        width = self.rng.choice(self.widths)
        if self.rng.random() < 0.5:
            return Extra(f"e{i}", width=width)
        per = self.rng.choice(("step", "sequence"))
        return Extra(f"e{i}", sample=Bernoulli(0.5, 2.0), eval=1.0, per=per, width=width)

    def cell(self) -> Cell:
        """The cell."""
        emit = self.emit if self.rng.random() < 0.6 else None
        declare = cell(
            self.states, params=self.params, extras=self.extras, emit=emit, name="random"
        )
        return declare(self.step)

    # What a step is called with, and its matrices.

    def _start(self, symbols: dict[str, Any], *, in_emit: bool) -> None:
        self.x = Value(symbols["x"], -math.inf, math.inf, "input")
        self.pool = []
        for state in self.states:
            interval = (0.0, 2.0) if state.clock else (-1.0, 1.0)
            longer = [] if in_emit else self.rng.sample((2, 3), self.rng.choice((0, 0, 1, 2)))
            bare = symbols[state.name]
            for value in (bare, *(ago(bare, lag) for lag in longer)):
                self.pool.append(Value(value, *interval, state.width))
        for p in self.params:
            self.pool.append(Value(symbols[p.name], p.low or -2.0, p.high or 2.0, p.width))
        self.pool += [Value(symbols[e.name], 0.0, 2.0, e.width) for e in self.extras]

    def _gates(self, count: int, reads: list[Value], width: Width) -> list[Value]:
        """Pre-activations of the same reads."""
        names = [f"g{len(self.declared) + i}" for i in range(count)]
        self.declared += names
        plain = [r.symbol for r in reads]
        if reads[-1].width != "input" and self.rng.random() < 0.1:
            plain[-1] = now(plain[-1])
        made = affine(" ".join(names), *plain, bias=self.rng.random() < 0.8, width=width)
        below = frozenset().union(*(r.gates for r in reads))
        symbols = made if count > 1 else [made]
        return [
            Value(symbol, -math.inf, math.inf, width, below | {name})
            for name, symbol in zip(names, symbols, strict=True)
        ]

    def _new_gates(self) -> list[Value]:
        reads = self.rng.sample(self.pool, min(self.rng.randint(0, 2), len(self.pool)))
        if not reads or self.rng.random() < 0.6:
            reads.insert(0, self.x)
        return self._gates(self.rng.choice((1, 1, 2)), reads, self.rng.choice(self.widths))

    # Making a value fit for an operation.

    def _squashed(self, a: Value) -> Value:
        return a.made(self.rng.choice(SQUASHES)(a.symbol), (-1.0, 1.0))

    def _bounded(self, a: Value, limit: float = LARGEST) -> Value:
        return a if a.within(limit) else self._squashed(a)

    def _positive(self, a: Value) -> Value:
        if a.low >= SMALLEST and a.within(LARGEST):
            return a
        return a.made(sigmoid(a.symbol) + 0.25, (0.25, 1.25))

    def _fitted(self, a: Value, width: Width) -> Value:
        """The value in another width: as its mean over the units, or through a matrix."""
        if a.width in {width, 1}:
            return a
        if self.sums and self.rng.random() < 0.5:
            return a.made(row_mean(a.symbol), (a.low, a.high), 1)
        return self._gates(1, [a], width)[0]

    def _partner(self, a: Value) -> Value:
        """A value that may stand beside this one, or a number."""
        fits = [v for v in self.pool if v.width == a.width or 1 in {v.width, a.width}]
        if not fits or self.rng.random() < 0.15:
            number = self.rng.choice((-1.5, -0.5, 0.0, 0.5, 1.0, 2.0))
            return Value(number, number, number, 1)
        return self.rng.choice(fits)

    # Operations.

    def _unary(self) -> Value:
        a = self.rng.choice(self.pool)
        if self.sums and self.rng.random() < 0.2:
            return self._over_units(self._bounded(a))
        needs, function, interval = self.rng.choice(UNARY)
        if needs == SMALL:
            a = self._bounded(a, 2.0)
        if needs == POSITIVE:
            a = self._positive(a)
        return a.made(function(a.symbol), interval(a.low, a.high))

    def _over_units(self, a: Value) -> Value:
        kind = self.rng.choice(("sum", "mean", "norm"))
        if kind == "norm":  # at most sqrt(width); eps keeps slopes moderate
            found = layer_norm(a.symbol, gain=0.5, shift=0.1, eps=0.1)
            return a.made(found, (-math.inf, math.inf))
        if kind == "mean":
            return a.made(row_mean(a.symbol), (a.low, a.high), 1)
        return a.made(row_sum(a.symbol), (-math.inf, math.inf), 1)

    def _binary(self) -> Value:
        a = self.rng.choice(self.pool)
        b = self._partner(a)
        if self.rng.random() < 0.25:
            return self._where(a, b)
        if self.rng.random() < 0.5:
            a, b = b, a
        function, plain = self.rng.choice(BINARY)
        a, b = self._bounded(a), self._bounded(b)
        if function is operator.truediv:
            b = self._positive(b)
        ends = [plain(p, q) for p in (a.low, a.high) for q in (b.low, b.high)]
        return joined(function(a.symbol, b.symbol), (min(ends), max(ends)), a, b)

    def _where(self, a: Value, b: Value) -> Value:
        width = a.width if b.width == 1 else b.width
        c = self.rng.choice([v for v in self.pool if v.width in {width, 1}])
        d = self._partner(replace(c, width=width))
        compare = self.rng.choice(COMPARISONS)
        if compare in {operator.eq, operator.ne}:  # of signs, or ties would never turn up
            c, d = (v.made(sign(v.symbol), (-1.0, 1.0)) for v in (c, d))
        chosen = where(compare(c.symbol, d.symbol), a.symbol, b.symbol)
        return joined(chosen, (min(a.low, b.low), max(a.high, b.high)), a, b, c, d)

    # The whole.

    def _grow(self, rounds: int) -> None:
        for _ in range(rounds):
            draw = self.rng.random()
            if draw < 0.25:
                self.pool += self._new_gates()
            else:
                self.pool.append(self._unary() if draw < 0.6 else self._binary())

    def _result(self, state: State, past: Any) -> Value:
        """The next value of a state: a recent value, often mixed with the past by a gate."""
        recent = [v for v in self.pool if v.width in {state.width, 1}][-3:] or [self.pool[-1]]
        new = self._squashed(self._fitted(self.rng.choice(recent), state.width))
        if self.rng.random() < 0.4:
            return new
        gate = self._fitted(self.rng.choice(self.pool), state.width)
        keep = sigmoid(gate.symbol)
        old = Value(past, -1.0, 1.0, state.width)
        return joined(keep * past + (1.0 - keep) * new.symbol, (-1.0, 1.0), old, new, gate)

    def _using_all(self, results: list[Value], gates: list[str]) -> list[Value]:
        """Let the first result depend on every gate; an unused one would be refused."""
        while missing := [g for g in gates if not any(g in r.gates for r in results)]:
            loose = next(v for v in self.pool if missing[-1] in v.gates)
            part = self._squashed(self._fitted(loose, results[0].width))
            half = 0.5 * results[0].symbol + 0.5 * part.symbol
            results[0] = joined(half, (-1.0, 1.0), results[0], part)
        return results

    def step(self, **symbols: Any) -> tuple[Any, ...]:
        """One step."""
        self._start(symbols, in_emit=False)
        self.pool += self._gates(1, [self.x, self.rng.choice(self.pool)], "hidden")
        results = []
        for state in (s for s in self.states if not s.clock):
            self._grow(self.rng.randint(2, 7))
            results.append(self._result(state, symbols[state.name]))
            self.pool.append(results[-1])  # a matrix that reads it is inner
        found = [r.symbol for r in self._using_all(results, self.declared)]
        if self.states[-1].clock:
            k = symbols["tick"]
            found.append(where(k + 1.0 >= 3.0, 0.0, k + 1.0))
        return tuple(found)

    def emit(self, **symbols: Any) -> tuple[Any, ...]:
        """What the layer outputs."""
        before = len(self.declared)
        self._start(symbols, in_emit=True)
        self._grow(self.rng.randint(1, 5))
        count = self.rng.choice((1, 1, 2))
        results = [self._squashed(v) for v in self.rng.choices(self.pool, k=count)]
        own_gates = self.declared[before:]
        return tuple(r.symbol for r in self._using_all(results, own_gates))


def random_cell(seed: int) -> Cell:
    """A cell that only the seed decides."""
    return Maker(seed).cell()
