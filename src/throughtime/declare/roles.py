"""Which gates keep a state, and which write to it? Read off the graph, whatever the names.

A new state is taken apart into a sum of products. The products that hold a past value of the
state say how much is kept, the others how much is written, and the factors of either that are the
sigmoid of a gate, or one minus it, are what decides.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from throughtime.declare.cell import Cell
from throughtime.declare.graph import Node, gate_name, has_bias, walk

__all__ = ["Role", "Roles", "roles"]

Role = tuple[str, int]
_SAME = frozenset({"now", "expand", "clip_adjoint"})  # the value of their argument
_MOST_PRODUCTS = 256  # beyond that a product of sums is left as it is


class Roles(NamedTuple):
    """The gates of one state.

    Attributes:
        keep: Which gates keep the state, each with the sign of its pre-activation: ("f", 1) keeps
            where f is large, ("z", -1) where z is small.
        write: Which gates let something new in, likewise, one for each product; none where no
            gate keeps.
    """

    keep: tuple[Role, ...] = ()
    write: tuple[Role, ...] = ()


@lru_cache(maxsize=256)
def roles(cell: Cell) -> dict[str, Roles]:
    """Which gates keep each state of a cell and which write to it.

    A gate is named by its pre-activation; where that has no bias, but a param is added to it, as
    behind a layer norm, by the param. An LSTM's output gate has no part: no past value of the
    hidden state is in a product with it.

    Args:
        cell: The cell; cures are looked through.

    Returns:
        For each state that is not a clock its roles, in the order of the equations; empty ones
        where nothing that is kept has a gate.

    Example:
        >>> import throughtime as tt
        >>> roles(tt.cells.gru)
        {'h': Roles(keep=(('z', 1),), write=(('z', -1),))}
    """
    pairs = zip(cell.states, cell.new, strict=True)
    return {s.name: _roles_of(cell, s.name, new) for s, new in pairs if not s.clock}


def _roles_of(cell: Cell, state: str, new: Node) -> Roles:
    keep: list[Role] = []
    written: list[list[Role]] = []
    for factors in _products(new):
        found = [role for role in map(_role, factors) if role is not None]
        if any(n.op == "state" and n.data[0] == state for n in factors):
            keep += found
        else:
            written.append(found)
    kept = tuple(dict.fromkeys(r for r in keep if _opposite(r) not in keep))
    if not kept:
        return Roles()
    gates = (_writing(cell, kept, found) for found in written)
    return Roles(kept, tuple(dict.fromkeys(gate for gate in gates if gate is not None)))


def _writing(cell: Cell, kept: tuple[Role, ...], found: list[Role]) -> Role | None:
    """Which gate of a product writes: one that keeps when it does not, else the first declared.

    The candidate may be a sigmoid too, and what this step wrote before may be kept by a gate.
    """
    order = {name: i for i, name in enumerate((*cell.gates, *(p.name for p in cell.params)))}
    new = [role for role in found if role not in kept]
    new.sort(key=lambda role: (_opposite(role) not in kept, order[role[0]]))
    return new[0] if new else None


def _products(n: Node) -> list[tuple[Node, ...]]:
    """The products that a value is the sum of, as factors; their signs are dropped."""
    if n.op in {"neg", *_SAME}:
        return _products(n.args[0])
    if _role(n) is not None:
        return [(n,)]
    if n.op in {"add", "sub", "where"}:  # either side of a `where` may be the value
        args = n.args[1:] if n.op == "where" else n.args
        return [factors for arg in args for factors in _products(arg)]
    if n.op == "mul":
        left, right = map(_products, n.args)
        if len(left) * len(right) <= _MOST_PRODUCTS:
            return [a + b for a in left for b in right]
    if n.op == "div":
        return _products(n.args[0])
    return [(n,)]


def _role(n: Node) -> Role | None:
    """The gate whose sigmoid a factor is, 1, or one minus it, -1."""
    if n.op in _SAME:
        return _role(n.args[0])
    if n.op == "sigmoid":
        return _gate(n.args[0])
    rest = _taken_from_one(n)
    role = None if rest is None else _role(rest)
    return None if role is None else _opposite(role)


def _taken_from_one(n: Node) -> Node | None:
    """The value v of 1 - v, 1 + (-v) or -v + 1."""
    if n.op == "sub" and _is_one(n.args[0]):
        return n.args[1]
    if n.op == "add":
        for one, minus in (n.args, n.args[::-1]):
            if _is_one(one) and minus.op == "neg":
                return minus.args[0]
    return None


def _is_one(n: Node) -> bool:
    return n.op == "constant" and n.data[0] == 1.0


def _opposite(role: Role) -> Role:
    return (role[0], -role[1])


def _gate(argument: Node) -> Role | None:
    """What a sigmoid's argument is called by, and its sign."""
    parts = list(_summands(argument, 1))
    biased = [(gate_name(n), sign) for n, sign in parts if n.op == "affine" and has_bias(n)]
    shifts = [(n.data[0], sign) for n, sign in parts if n.op == "param"]
    bare = [(gate_name(n), 1) for n in walk([argument]) if n.op == "affine"]
    found = [*biased, *shifts, *bare] if bare else []
    return found[0] if found else None


def _summands(n: Node, sign: int) -> Iterable[tuple[Node, int]]:
    """The parts of a sum with their signs."""
    if n.op in _SAME:
        yield from _summands(n.args[0], sign)
    elif n.op == "neg":
        yield from _summands(n.args[0], -sign)
    elif n.op in {"add", "sub"}:
        yield from _summands(n.args[0], sign)
        yield from _summands(n.args[1], -sign if n.op == "sub" else sign)
    else:
        yield n, sign
