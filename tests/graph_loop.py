"""What does a declared cell compute? Its graph, run one step after another, without cleverness.

No region is moved out of the loop and no two matrices are multiplied as one. `forward` runs the
step and emit, `bptt` their adjoints, without autograd. Neither knows layers: weights come by the
table of `declare.slots`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime.declare import Cell, Param, State
from throughtime.declare.adjoint import Backward
from throughtime.declare.graph import Node
from throughtime.declare.slots import Biases, Sizes, slots
from throughtime.engine.evaluate import evaluate

__all__ = ["Given", "Seen", "Weights", "bptt", "draw_given", "draw_like", "forward"]


@dataclass
class Given:
    """What goes in, or its gradients.

    Shape:
        x: [T, B, I]; histories, by state: [D, B, w], newest last; weights, by the name of the
        slot; params, by name: [w]; extras, by name: [T, B, w]
    """

    x: Tensor
    histories: dict[str, Tensor]
    weights: dict[str, Tensor]
    params: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """Every tensor by a name that says what it is."""
        groups = ("histories", "weights", "params", "extras")
        parts = {f"{g} {k}": v for g in groups for k, v in getattr(self, g).items()}
        return {"x": self.x} | parts

    def like_zeros(self) -> "Given":
        """Zeros of the same shapes."""
        groups = (self.histories, self.weights, self.params, self.extras)
        zeros = [{k: torch.zeros_like(v) for k, v in g.items()} for g in groups]
        return Given(torch.zeros_like(self.x), *zeros)


@dataclass
class Seen:
    """What comes out, or its adjoints.

    Shape:
        out: [T, B, O]; states, of every step: [T, B, w]; histories, the last D values: [D, B, w]
    """

    out: Tensor
    states: dict[str, Tensor]
    histories: dict[str, Tensor]

    def named(self) -> dict[str, Tensor]:
        """Every tensor by a name that says what it is."""
        groups = ("states", "histories")
        parts = {f"{g} {k}": v for g in groups for k, v in getattr(self, g).items()}
        return {"out": self.out} | parts


def draw_given(cell: Cell, sizes: Sizes, steps: int, batch: int, seed: int) -> Given:
    """Random float64 inputs, where `random_cells` expects them."""
    source = torch.Generator().manual_seed(seed)

    def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        even = torch.rand(shape, generator=source, dtype=torch.float64)
        return low + (high - low) * even

    def history(s: State) -> Tensor:
        drawn = draw(cell.depth, batch, sizes.of(s.width))
        return (drawn.abs() * 3.0).floor() if s.clock else drawn

    def param(p: Param) -> Tensor:
        bounded = p.low is not None
        low, high = (min(p.initial_values()), max(p.initial_values())) if bounded else (-1.0, 1.0)
        return draw(sizes.of(p.width), low=low, high=high)

    return Given(
        x=draw(steps, batch, sizes.input),
        histories={s.name: history(s) for s in cell.states},
        weights={s.name: draw(*s.shape(sizes)) for s in slots(cell)},
        params={p.name: param(p) for p in cell.params},
        extras={
            e.name: draw(steps, batch, sizes.of(e.width), low=0.0, high=2.0) for e in cell.extras
        },
    )


def draw_like(seen: Seen, seed: int) -> Seen:
    """Random adjoints of what came out."""
    source = torch.Generator().manual_seed(seed)

    def draw(a: Tensor) -> Tensor:
        return torch.randn(a.shape, generator=source, dtype=a.dtype)

    groups = (seen.states, seen.histories)
    return Seen(draw(seen.out), *({k: draw(v) for k, v in g.items()} for g in groups))


class Weights:
    """The matrix before each read of each gate, and each gate's biases, as views of the slots."""

    def __init__(
        self, cell: Cell, sizes: Sizes, weights: dict[str, Tensor], biases: Biases = "one"
    ) -> None:
        self.matrix: dict[tuple[str, int], Tensor] = {}
        self.bias: dict[str, list[Tensor]] = {}
        for slot in slots(cell, biases):
            rows = [sizes.of(piece.width) for piece in slot.pieces]
            for piece, part in zip(slot.pieces, weights[slot.name].split(rows), strict=True):
                if piece.place is None:
                    self.bias.setdefault(piece.gate, []).append(part)
                else:
                    self.matrix[piece.gate, piece.place] = part

    def product(self, n: Node, args: list[Tensor]) -> Tensor:
        """The value of an affine or transposed node."""
        if n.op == "transposed":
            return args[0] @ self.matrix[n.data]
        gate = n.data[0]
        products = [read @ self.matrix[gate, place].T for place, read in enumerate(args)]
        return sum(products) + sum(self.bias.get(gate, []))


class _Step:
    """The leaves of one step t, from the inputs and all states so far."""

    def __init__(self, cell: Cell, sizes: Sizes, given: Given, biases: Biases) -> None:
        self.sizes, self.given = sizes, given
        self.weights = Weights(cell, sizes, given.weights, biases)
        self.depth = cell.depth
        self.past = {s.name: list(given.histories[s.name]) for s in cell.states}
        self.seeds: dict[tuple[object, ...], Tensor] = {}
        self.t = 0

    def leaf(self, n: Node) -> Tensor:
        """The value of a leaf at step t; past[s][D + t] is the state that step t makes."""
        given, now = self.given, self.depth + self.t
        values = {
            "x": lambda: given.x[self.t],
            "state": lambda: self.past[n.data[0]][now - n.data[1]],
            "new": lambda: self.past[n.data[0]][now],
            "param": lambda: given.params[n.data[0]],
            "extra": lambda: given.extras[n.data[0]][self.t],
            "constant": lambda: given.x.new_full((), n.data[0]),
            "reciprocal_width": lambda: given.x.new_full((), 1.0 / self.sizes.of(n.data[0])),
            "seed": lambda: self.seeds[n.data],
        }
        return values[n.op]()

    def values(self, roots: list[Node]) -> list[Tensor]:
        """The values of some nodes at step t."""
        return evaluate(roots, self.sizes, self.leaf, self.weights.product)


def forward(cell: Cell, sizes: Sizes, given: Given, biases: Biases = "one") -> Seen:
    """Run a cell over a sequence."""
    step = _Step(cell, sizes, given, biases)
    steps, batch = given.x.shape[:2]
    out: list[Tensor] = []
    for step.t in range(steps):
        new = step.values(list(cell.new))
        for s, value in zip(cell.states, new, strict=True):
            step.past[s.name].append(value.expand(batch, sizes.of(s.width)))
        emitted = zip(cell.out, step.values(list(cell.out)), strict=True)
        out.append(torch.cat([v.expand(batch, sizes.of(n.width)) for n, v in emitted], -1))
    last = {name: torch.stack(past[-cell.depth :]) for name, past in step.past.items()}
    every = {name: torch.stack(past[cell.depth :]) for name, past in step.past.items()}
    return Seen(torch.stack(out), every, last)


def bptt(
    cell: Cell, sizes: Sizes, given: Given, seen: Seen, seeds: Seen, biases: Biases = "one"
) -> Given:
    """Backpropagate through time by the adjoint graph alone.

    Args:
        cell: The recurrence.
        sizes: What its symbolic widths are.
        given: What went in.
        seen: What `forward` made of it.
        seeds: The adjoints of what came out.
        biases: Which biases there are.

    Returns:
        The gradients of what went in; clocks have none.
    """
    step = _Step(cell, sizes, given, biases)
    for name, states in seen.states.items():
        step.past[name] += list(states)
    back = _Backward(cell, step, given.like_zeros(), biases)
    back.start(seeds)
    for step.t in reversed(range(given.x.shape[0])):
        back.step(seeds)
    for name, found in back.states.items():
        back.grads.histories[name] += torch.stack(found[: cell.depth])
    return back.grads


class _Backward:
    """The adjoint of every state so far, and the gradients it leads to."""

    def __init__(self, cell: Cell, step: _Step, grads: Given, biases: Biases) -> None:
        self.cell, self.at, self.grads = cell, step, grads
        self.target = Weights(cell, step.sizes, grads.weights, biases)
        moving = [s.name for s in cell.states if not s.clock]
        self.states = {name: [torch.zeros_like(v) for v in step.past[name]] for name in moving}

    def start(self, seeds: Seen) -> None:
        """Seed the states of every step and the last ones."""
        depth = self.cell.depth
        for name, total in self.states.items():
            for t, seed in enumerate(seeds.states[name]):
                total[depth + t] += seed
            for place, seed in enumerate(seeds.histories[name]):
                total[len(total) - depth + place] += seed

    def step(self, seeds: Seen) -> None:
        """Go back through emit and the step of time t."""
        at, cell, adjoint = self.at, self.cell, self.cell.adjoint()
        now = cell.depth + at.t
        widths = [at.sizes.of(n.width) for n in cell.out]
        for i, part in enumerate(seeds.out[at.t].split(widths, -1)):
            at.seeds["out", i] = part
        for (name, _), value in self._through(adjoint.emit).items():
            self.states[name][now] += value
        for name, total in self.states.items():
            at.seeds["new", name] = total[now]
        for (name, lag), value in self._through(adjoint.step).items():
            self.states[name][now - lag] += value

    def _through(self, back: Backward) -> dict[tuple[str, int], Tensor]:
        """Add up the gradients of one graph; return the adjoints of the states it reads."""
        at, grads = self.at, self.grads
        states = back.states | {(name, 0): n for name, n in back.new.items()}
        reads = [(g, p, n) for g in back.gates for p, n in enumerate(self.cell.affines[g].args)]
        groups = (back.gates, back.params, back.extras, states, {"x": back.x} if back.x else {})
        wanted = [n for group in groups for n in group.values()]
        found = iter(at.values([*wanted, *(n for _, _, n in reads)]))
        gates, params, extras, past, x = ({k: next(found) for k in group} for group in groups)
        for value in x.values():
            grads.x[at.t] += value
        for gate, place, _ in reads:
            read = next(found).expand(at.given.x.shape[1], -1)
            self.target.matrix[gate, place] += gates[gate].T @ read
        for gate, value in gates.items():
            for bias in self.target.bias.get(gate, []):
                bias += value.sum(0)
        for name, value in params.items():
            grads.params[name] += value.sum(0)
        for name, value in extras.items():
            grads.extras[name][at.t] += value
        return past
