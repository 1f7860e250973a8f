"""How large can an error become at most? (beta_W beta_h)^L, and what takes its place in any cell.

A bound below one proves that errors vanish; one above one proves nothing.

For the plain recurrence the step Jacobian is U diag(f'), so its norm is at most beta_W, the largest
singular value of U, times beta_h, the largest slope of f. In any other graph the norm of the
derivative of every node with respect to a past state is bounded from those of its arguments:

    f(a)     sup |f'| |da|             M a      largest singular value of M times |da|
    a + b    |da| + |db|               a b      max |b| |da| + max |a| |db|
    a / b    |da| / min |b| + max |a| / min b^2 |db|
    where    sqrt(|da|^2 + |db|^2), as no unit takes both; so for minimum and maximum

Largest and smallest values are those of the passage, all steps and rows: the bound holds for what
was measured. With B_d the bound of the Jacobian at delay d, an error at lag L is at most rho^L
times that at lag 0, where rho solves sum_d B_d rho^-d = 1; rho is B_1 where nothing is delayed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from throughtime.declare.graph import COMPARISONS, LEAVES, Node, gate_name, terms, walk
from throughtime.flow.cell_steps import CellSteps
from throughtime.flow.seen import looked_through

__all__ = ["bound_factor", "largest_singular_value", "only_matrix", "step_bounds"]

Bounds = dict[tuple[str, int], float]
_STEEPEST = {"neg": 1.0, "sigmoid": 0.25, "tanh": 1.0, "relu": 1.0, "sin": 1.0, "cos": 1.0}
_STEEPEST |= {"abs": 1.0, "sign": 0.0, "softplus": 1.0, "clamp": 1.0, "now": 1.0}
_STEEPEST |= {"clip_adjoint": 1.0}


def only_matrix(steps: CellSteps) -> Tensor | None:
    """The recurrent matrix, if the cell has exactly one."""
    found = [
        steps.matrices[gate, place]
        for gate, affine in steps.job.cell.affines.items()
        for place, term in enumerate(terms(affine))
        if term.kind == "recurrent"
    ]
    return found[0] if len(found) == 1 else None


def largest_singular_value(matrix: Tensor) -> float:
    """The spectral norm; infinite if an element is no finite number."""
    if not matrix.isfinite().all():
        return math.inf
    return torch.linalg.matrix_norm(matrix.double(), 2).item()


def bound_factor(steps: CellSteps, real: Tensor) -> float | None:
    """What an error grows by a step at most, to the power of the lag; None if nothing bounds it.

    Args:
        steps: The cell's steps.
        real: Which of them lie within their row's length.

    Shape:
        real: [T, B]
    """
    by_lag: dict[int, Tensor] = {}
    order = {name: i for i, name in enumerate(steps.states)}
    for new, bounds in step_bounds(steps, real).items():
        for (past, lag), bound in bounds.items():
            if past in order:  # a clock has no error
                size = len(order)
                block = by_lag.setdefault(lag, torch.zeros(size, size, dtype=torch.float64))
                block[order[new], order[past]] = bound
    if not all(block.isfinite().all() for block in by_lag.values()):
        return None
    return _root({lag: _norm(block) for lag, block in by_lag.items()})


def _norm(matrix: Tensor) -> float:
    """The largest singular value; of a single number, exactly that."""
    return matrix.item() if matrix.numel() == 1 else largest_singular_value(matrix)


def _root(norms: Mapping[int, float]) -> float:
    """The rho with sum_d B_d rho^-d = 1, from above."""
    moving = {lag: b for lag, b in norms.items() if b > 0.0}
    if not moving:
        return 0.0
    if len(moving) == 1:
        lag, bound = next(iter(moving.items()))
        return bound if lag == 1 else bound ** (1.0 / lag)
    low, high = 0.0, max(1.0, sum(moving.values()))  # at `high` the sum is 1 at most
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        if middle in {low, high}:
            break
        logs = (math.log(b) - lag * math.log(middle) for lag, b in moving.items())
        enough = sum(math.exp(min(v, 1.0)) for v in logs) <= 1.0
        low, high = (low, middle) if enough else (middle, high)
    return high


def step_bounds(steps: CellSteps, real: Tensor) -> dict[str, Bounds]:
    """A bound of ||d new state / d past state||_2 for every new state, by (past state, lag).

    Args:
        steps: The cell's steps.
        real: Which of them lie within their row's length.
    """
    cell = steps.job.cell
    moving = [(s.name, n) for s, n in zip(cell.states, cell.new, strict=True) if not s.clock]
    nodes = list(walk([n for _, n in moving]))
    seen = looked_through(steps, _needed(nodes), real)
    walker = _Walker(steps, {n: (v.size_low, v.size_high) for n, v in seen.items()})
    for n in nodes:
        walker.found[n] = walker.bounds(n)
    return {name: walker.found[n] for name, n in moving}


def _needed(nodes: Sequence[Node]) -> list[Node]:
    """The nodes whose values some rule asks for."""
    ops = {"mul", "div", "exp", "log", "sqrt", "pow"}
    args = {a: None for n in nodes if n.op in ops for a in n.args}
    return list(args)


class _Walker:
    """Bounds of the derivatives of nodes, arguments before users."""

    def __init__(self, steps: CellSteps, ranges: Mapping[Node, tuple[float, float]]) -> None:
        self.steps, self.sizes, self.ranges = steps, steps.job.sizes, ranges
        self.found: dict[Node, Bounds] = {}
        self.norms: dict[tuple[str, int], float] = {}

    def bounds(self, n: Node) -> Bounds:
        """The bound of one node."""
        if n.op == "state":
            return {(n.data[0], n.data[1]): 1.0}
        if n.op in LEAVES or n.op in COMPARISONS:
            return {}
        if n.op == "affine":
            return _total(self._times(a, self._norm(n, i)) for i, a in enumerate(n.args))
        if n.op == "row_sum":
            return self._times(n.args[0], math.sqrt(self.sizes.of(n.args[0].width)))
        if n.op in {"where", "minimum", "maximum"}:
            return _either(*[self._spread(a, n) for a in n.args[-2:]])
        return _total(
            _scaled(self._spread(a, n), slope)
            for a, slope in zip(n.args, self._slopes(n), strict=True)
        )

    def _times(self, n: Node, factor: float) -> Bounds:
        return _scaled(self.found[n], factor)

    def _spread(self, n: Node, to: Node) -> Bounds:
        """Of a value that is broadcast to all units of a wider one."""
        narrow = n.width == 1 and to.width != 1
        return self._times(n, math.sqrt(self.sizes.of(to.width)) if narrow else 1.0)

    def _slopes(self, n: Node) -> Sequence[float]:
        """The steepest slope of an operation in each of its arguments."""
        if n.op in _STEEPEST:
            return [_STEEPEST[n.op]]
        if n.op in {"add", "sub"}:
            return [1.0, 1.0]
        if n.op == "expand":
            return [1.0]  # its width makes it a broadcast
        return _SLOPES[n.op](n, [self.ranges[a] for a in n.args])

    def _norm(self, affine: Node, place: int) -> float:
        key = (gate_name(affine), place)
        if key not in self.norms:
            matrix = self.steps.matrices[key]
            self.norms[key] = largest_singular_value(matrix)
        return self.norms[key]


Range = tuple[float, float]


def _power(n: Node, ranges: Sequence[Range]) -> list[float]:
    exponent = n.data[0]
    end = ranges[0][1 if exponent >= 1 else 0]
    if exponent in {0, 1}:
        return [float(exponent)]
    if end == 0.0:
        return [0.0 if exponent > 1 else math.inf]
    return [abs(exponent) * _exp((exponent - 1) * math.log(end))]


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf


def _over(a: float, b: float) -> float:
    return a / b if b else math.inf


_SLOPES: dict[str, Callable[[Node, Sequence[Range]], Sequence[float]]] = {
    "mul": lambda _, r: [r[1][1], r[0][1]],
    "div": lambda _, r: [_over(1.0, r[1][0]), _over(r[0][1], r[1][0] ** 2)],
    "exp": lambda _, r: [_exp(r[0][1])],
    "log": lambda _, r: [_over(1.0, r[0][0])],
    "sqrt": lambda _, r: [_over(0.5, math.sqrt(r[0][0]))],
    "pow": _power,
}


def _scaled(bounds: Bounds, factor: float) -> Bounds:
    return {key: b * factor if b and factor else 0.0 for key, b in bounds.items()}


def _total(parts: Iterable[Bounds]) -> Bounds:
    total: Bounds = {}
    for part in parts:
        for key, bound in part.items():
            total[key] = total.get(key, 0.0) + bound
    return total


def _either(a: Bounds, b: Bounds) -> Bounds:
    return {key: math.hypot(a.get(key, 0.0), b.get(key, 0.0)) for key in a | b}
