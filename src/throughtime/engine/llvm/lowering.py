"""What does one step compute, forward and backward, once matrices and masks are set apart?

A cell's graph is rewritten in four moves, each graph to graph:

1. *Masks.* Lengths hold a state past its row's end, resets renew what a step reads; both become
   `where` over two more inputs, so that nothing after this move knows of them.
2. *Once.* What depends on params alone is a value per unit, computed before the call.
3. *Adjoint.* The step is differentiated by `declare.adjoint`.
4. *Products.* The matrices that read x are left to one big product over all steps; what is left
   of a pre-activation is a `products` node. Every other leaf becomes `at` a place in memory.

Places are tuples, such as ("past", 0, 1) for state 0 one step back; no name of the user's is
among what the generated code sees.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from throughtime.declare.adjoint import Backward, backward
from throughtime.declare.graph import (
    COMPARISONS,
    Node,
    Width,
    constant,
    gate_name,
    node,
    rewrite,
    terms,
    walk,
)
from throughtime.engine.job import Job

__all__ = ["Place", "Root", "StepGraphs", "Variant", "lowered"]

Place = tuple[object, ...]
VALID, AGE = node("extra", data=(("mask", "valid"),)), node("extra", data=(("mask", "age"),))
_IMAGES = frozenset({"sigmoid", "tanh", "exp"})  # their derivatives need their values alone


class Root(NamedTuple):
    """A value that is kept: where, how wide, and whether it is added to what is there."""

    value: Node
    place: Place
    width: Width
    adds: bool = False


@dataclass(frozen=True)
class StepGraphs:
    """One step of a job as two graphs whose leaves are places.

    Attributes:
        forward: The next states.
        saved: What the backward pass needs besides states.
        backward: The adjoints of gates, past states, per-unit values and extras.
        once: The nodes computed before the call, from params alone; ("once", i) is the i-th.
    """

    forward: tuple[Root, ...]
    saved: tuple[Root, ...]
    backward: tuple[Root, ...]
    once: tuple[Node, ...]


class Variant(NamedTuple):
    """What kind of call a step is for.

    Attributes:
        lengths, reset: Whether there are such masks.
        learned: Whether the initial states are learned vectors.
        extras: The extras (by number) whose gradients are wanted.
    """

    lengths: bool = False
    reset: bool = False
    learned: bool = False
    extras: tuple[int, ...] = ()


def at(place: Place, width: int | str) -> Node:
    """The value at a place in memory."""
    return node("at", data=place, width=width)


def lowered(job: Job, variant: Variant) -> StepGraphs:
    """Lower a job's step."""
    cell = job.cell
    new = _masked(job, variant)
    new, once = _hoisted(new)
    seeds, moving = [], []
    for s, root in zip(cell.states, new, strict=True):
        if not s.clock:
            moving.append(root)
            seeds.append(node("seed", data=("new", s.name), width=s.width))
    found = backward(tuple(moving), tuple(seeds))
    lower = _Lowering(job)
    adjoints = list(_adjoints(job, found, variant))
    forward = [
        Root(n, ("after", i), s.width)
        for i, (n, s) in enumerate(zip(lower.forward(new), cell.states, strict=True))
    ]
    kept = _kept(new, [a.value for a in adjoints])
    gates = [gate_name(a) for a in kept]
    values = lower.forward(list(kept.values()))
    saved = [Root(v, ("saved", g), v.width) for v, g in zip(values, gates, strict=True)]
    known = {
        n: at(("after", i), s.width)
        for i, (n, s) in enumerate(zip(new, cell.states, strict=True))
        if n.args
    }
    known |= {n: at(("saved", g), n.width) for n, g in zip(kept.values(), gates, strict=True)}
    values = lower.backward([a.value for a in adjoints], known)
    back = [a._replace(value=v) for a, v in zip(adjoints, values, strict=True)]
    return StepGraphs(tuple(forward), tuple(saved), tuple(back), tuple(once))


def _adjoints(job: Job, found: Backward, variant: Variant) -> Iterator[Root]:
    """What the backward pass keeps: adjoints of gates, past states, per-unit values, extras."""
    cell = job.cell
    for gate, g in found.gates.items():
        yield Root(g, ("adjoint", gate), cell.affines[gate].width)
    states = {s.name: (i, s) for i, s in enumerate(cell.states) if not s.clock}
    for (name, lag), g in found.states.items():
        if name in states:
            i, state = states[name]
            yield Root(g, ("running", i, lag), state.width, adds=cell.depth > 1)
    read = {name for name, _ in found.states}
    for name, (i, state) in states.items():
        if name not in read and cell.depth == 1:
            yield Root(constant(0.0), ("running", i, 1), state.width)
    for name, g in found.params.items():
        yield Root(g, ("grad", *name), g.width, adds=True)
    for i in variant.extras:
        g = found.extras.get(cell.extras[i].name)
        if g is not None:
            yield Root(g, ("grad extra", i), g.width)


def _masked(job: Job, variant: Variant) -> tuple[Node, ...]:
    """The next states, with what lengths and resets do to them."""
    states = {s.name: s for s in job.cell.states}

    def renewed(n: Node) -> Node:
        if n.op != "state":
            return n
        state, lag = states[n.data[0]], n.data[1]
        fresh = constant(state.initial)
        if variant.learned and not state.clock:
            fresh = node("param", data=(("fresh", state.name),), width=state.width)
        young = node("lt", AGE, constant(lag))
        return node("where", young, fresh, n, width=n.width)

    new = job.cell.new
    if variant.reset:
        new = rewrite(new, renewed)
    if variant.lengths:
        real = node("gt", VALID, constant(0.0))
        old = [node("state", data=(s.name, 1), width=s.width) for s in job.cell.states]
        pairs = zip(new, old, strict=True)
        new = tuple(node("where", real, n, o, width=o.width) for n, o in pairs)
    return new


def _hoisted(roots: Sequence[Node]) -> tuple[tuple[Node, ...], list[Node]]:
    """The graphs with a param ("once", i) for all that depends on params alone; those values."""
    alone: set[Node] = set()
    found: dict[Node, Node] = {}
    done: dict[Node, Node] = {}

    def value(n: Node) -> Node:
        if n in alone and n.op in COMPARISONS:  # no number, so nothing that can be stored
            return node(n.op, *map(value, n.args), width=n.width)
        if n in alone and n.op != "constant":
            name = ("once", len(found))
            return found.setdefault(n, node("param", data=(name,), width=n.width))
        return done[n]

    for n in walk(roots):
        leaf = n.op in {"param", "constant", "reciprocal_width"}
        if n.op != "affine" and (leaf or (n.args and all(a in alone for a in n.args))):
            alone.add(n)
        if n not in alone or n.op == "constant":
            args = tuple(value(a) for a in n.args)
            done[n] = n if args == n.args else node(n.op, *args, data=n.data, width=n.width)
    return tuple(value(r) for r in roots), list(found)


def _kept(new: Sequence[Node], adjoints: Sequence[Node]) -> dict[Node, Node]:
    """What to save of each pre-activation that the adjoints need: it, or its image.

    A saved value costs a store and a load, a cache line's worth each; a transcendental some
    twenty instructions; anything else a few. So a sum of products is saved, since it cannot be
    computed again here, or in its place the one function of it that is all the adjoints read.
    What is itself a next state lies among the states; everything else is computed again.
    """
    affine = {n for n in walk(new) if n.op == "affine"}
    users: dict[Node, set[Node]] = {a: set() for a in affine}
    reached = list(walk(adjoints, stop=lambda n: n in affine or _image_of(n) in affine))
    for n in reached:
        for a in (n, *n.args):
            if a in affine:
                users[a].add(n)
            elif _image_of(a) in affine:
                users[a.args[0]].add(a)
    kept: dict[Node, Node] = {}
    for a, by in users.items():
        images = {n for n in by if _image_of(n) is a}
        if by:
            kept[a] = next(iter(images)) if by == images and len(images) == 1 else a
    return {a: kept[a] for a in walk(new) if a in kept and kept[a] not in new}


def _image_of(n: Node) -> Node | None:
    """The argument of a function whose derivative its value gives."""
    return n.args[0] if n.op in _IMAGES else None


class _Lowering:
    """Leaves become places, pre-activations sums of products."""

    def __init__(self, job: Job) -> None:
        self.states = {s.name: i for i, s in enumerate(job.cell.states)}
        self.extras = {e.name: i for i, e in enumerate(job.cell.extras)}
        pieces = [p for slot in job.slots for p in slot.pieces]
        self.biases = Counter(p.gate for p in pieces if p.place is None)  # torch has two a gate

    def forward(self, roots: Sequence[Node]) -> list[Node]:
        """Lower values of the step."""
        return self._lowered(roots, {})

    def backward(self, roots: Sequence[Node], known: Mapping[Node, Node]) -> list[Node]:
        """Lower adjoints, given the places of values of the step."""
        return _merged(self._lowered(roots, known))

    def _lowered(self, roots: Sequence[Node], known: Mapping[Node, Node]) -> list[Node]:
        done: dict[Node, Node] = dict(known)
        for n in walk(roots, stop=lambda n: n in known):
            if n not in done:
                done[n] = self._one(n, tuple(done[a] for a in n.args if a.op != "x"))
        return [done[r] for r in roots]

    def _one(self, n: Node, args: tuple[Node, ...]) -> Node:
        if n.op == "affine":
            return self._affine(n, args)
        if n.op == "transposed":
            return node("products", *args, data=((*n.data, True),), width=n.width)
        if n.op in {"now", "clip_adjoint"}:
            return args[0]
        if n.op == "seed":  # what comes from outside the recurrence, and from later steps
            i = self.states[n.data[1]]
            parts = at(("outer", i), n.width), at(("running", i), n.width)
            return node("add", *parts, width=n.width)
        place = self._place(n)
        return at(place, n.width) if place else node(n.op, *args, data=n.data, width=n.width)

    def _place(self, n: Node) -> Place | None:
        """Where the value of a leaf lies."""
        if n.op == "state":
            return ("past", self.states[n.data[0]], n.data[1])
        if n.op == "param":
            return n.data[0]
        if n.op == "extra":
            name = n.data[0]
            return name if isinstance(name, tuple) else ("extra", self.extras[name])
        return ("x",) if n.op == "x" else None

    def _affine(self, n: Node, reads: tuple[Node, ...]) -> Node:
        """A pre-activation: products here, what came from x, the bias."""
        gate, late = gate_name(n), [p for p, t in enumerate(terms(n)) if t.kind != "input"]
        parts: list[Node] = []
        if late:
            data = tuple((gate, place, False) for place in late)
            parts.append(node("products", *reads, data=data, width=n.width))
        if len(late) < len(terms(n)):
            parts.append(at(("input", gate), n.width))
        parts += [at(("bias", gate, j), n.width) for j in range(self.biases[gate])]
        total = parts[0]
        for part in parts[1:]:
            total = node("add", total, part, width=n.width)
        return total


def _merged(roots: list[Node]) -> list[Node]:
    """Sums in which several products occur, with one `products` node for all of them."""
    uses = Counter(a for n in walk(roots) for a in n.args)
    done: dict[Node, Node] = {}

    def summands(n: Node) -> list[Node]:
        return [s for a in n.args for s in (summands(a) if opens(a) else [a])]

    def opens(n: Node) -> bool:
        return n.op == "add" and uses[n] == 1

    for n in walk(roots):
        if n.op == "add":
            parts = summands(n)
            products = [p for p in parts if p.op == "products" and p.width == n.width]
            if len(products) > 1:
                done[n] = _total(
                    n, [done[p] for p in products], [done[p] for p in parts if p not in products]
                )
                continue
        args = tuple(done[a] for a in n.args)
        done[n] = n if args == n.args else node(n.op, *args, data=n.data, width=n.width)
    return [done[r] for r in roots]


def _total(n: Node, products: list[Node], rest: list[Node]) -> Node:
    reads = tuple(a for p in products for a in p.args)
    total = node("products", *reads, data=tuple(d for p in products for d in p.data), width=n.width)
    for part in rest:
        total = node("add", total, part, width=n.width)
    return total
