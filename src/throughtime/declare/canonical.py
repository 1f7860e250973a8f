"""When are two cells the same? Their canonical graphs, and the pairing of their gates.

Names are dropped, arguments of commutative operations and the matrices of a gate are sorted by a
stable hash, a - b counts as a + (-b) (exact in IEEE arithmetic), and gates are told apart by
their use: colours are refined from the leaves up and from the roots down. There is no algebra:
n + z * (h - n) is another graph than (1 - z) * n + z * h.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from throughtime.declare.data import Extra, Param, State
from throughtime.declare.graph import COMMUTATIVE, Node, Term, constant, node, rewrite, terms, walk

if TYPE_CHECKING:
    from throughtime.declare.cell import Cell

ROUNDS = 4
Labels = dict[tuple[str, str], int]


def _digest(*parts: Any) -> str:
    # Python's own hash of text differs from process to process.
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _lowered(n: Node) -> Node:
    if n.op == "sub":
        minus = node("neg", n.args[1], width=n.args[1].width)
        return node("add", n.args[0], _lowered(minus), width=n.width)
    if n.op == "neg" and n.args[0].op == "constant":
        return constant(-n.args[0].data[0])
    return n


def _labels(cell: "Cell") -> Labels:
    """Where each named leaf stands in the declaration, in place of its name."""
    found = {("state", s.name): i for i, s in enumerate(cell.states)}
    found |= {("new", s.name): i for i, s in enumerate(cell.states)}
    found |= {("param", p.name): i for i, p in enumerate(cell.params)}
    return found | {("extra", e.name): i for i, e in enumerate(cell.extras)}


def _local(n: Node, labels: Labels, gates: dict[str, str]) -> tuple[Any, ...]:
    """What a node is by itself, without names (or with those in `gates`)."""
    if n.op == "affine":
        return (n.op, n.width, n.data[1], gates.get(n.data[0]))
    if n.data and (n.op, n.data[0]) in labels:
        return (n.op, n.width, labels[n.op, n.data[0]], n.data[1:])
    exact = tuple(float.hex(d) if isinstance(d, float) else d for d in n.data)
    return (n.op, n.width, exact)


def _term(term: Term, labels: Labels) -> tuple[Any, ...]:
    """What a matrix is, without names."""
    masks = {tuple(labels["param", name] for name in pair) for pair in term.masks}
    return (term.kind, term.lag, sorted(masks))


def _below(n: Node, colour: dict[Node, str], labels: Labels) -> list[Any]:
    """The colours of a node's arguments, in an order that does not depend on how it was written."""
    if n.op == "affine":
        pairs = zip(terms(n), n.args, strict=True)
        return sorted((*_term(t, labels), colour[a]) for t, a in pairs)
    found = [colour[a] for a in n.args]
    return sorted(found) if n.op in COMMUTATIVE else found


def _roots(cell: "Cell") -> tuple[Node, ...]:
    return rewrite((*cell.new, *cell.out), _lowered)


def _refined(cell: "Cell", gates: dict[str, str]) -> dict[Node, str]:
    """A colour a node; equal colours mean equal use and equal make, to WL's precision."""
    roots, labels = _roots(cell), _labels(cell)
    nodes = list(walk(roots))
    places: dict[Node, list[int]] = {}
    users: dict[Node, list[tuple[Node, Any]]] = {}
    for i, root in enumerate(roots):
        places.setdefault(root, []).append(i)
    for n in nodes:
        for i, arg in enumerate(n.args):
            place = "*" if n.op in COMMUTATIVE else i
            if n.op == "affine":
                place = _term(terms(n)[i], labels)
            users.setdefault(arg, []).append((n, place))
    colour = {n: _digest(_local(n, labels, gates)) for n in nodes}
    for _ in range(ROUNDS):
        up: dict[Node, str] = {}
        for n in nodes:
            up[n] = _digest(colour[n], _below(n, up, labels))
        down: dict[Node, str] = {}
        for n in reversed(nodes):
            above = sorted((down[user], str(place)) for user, place in users.get(n, []))
            down[n] = _digest(up[n], places.get(n), above)
        colour = down
    return colour


def graph_key(cell: "Cell") -> str:
    """A digest of the graph alone, the same in every process."""
    return _digest(len(cell.new), sorted(_refined(cell, {}).values()))


def _nameless(item: State | Param | Extra) -> str:
    fields = {k: getattr(item, k) for k in item.__dataclass_fields__ if k != "name"}
    return repr((type(item).__name__, fields))


def cell_key(cell: "Cell") -> str:
    """A digest of the graph and of the data of states, params and extras."""
    return _digest(cell.graph_key, *map(_nameless, (*cell.states, *cell.params, *cell.extras)))


def _written(cell: "Cell", gates: dict[str, str]) -> list[str]:
    """A digest of each root with gates named by `gates`: equal only for the same graph."""
    roots, labels = _roots(cell), _labels(cell)
    found: dict[Node, str] = {}
    for n in walk(roots):
        found[n] = _digest(_local(n, labels, gates), _below(n, found, labels))
    return [found[root] for root in roots]


def _alike(cell: "Cell", gates: dict[str, str]) -> dict[str, list[str]]:
    """The gates of each colour, in declared order, with those in `gates` told apart by name."""
    colour = {n.data[0]: c for n, c in _refined(cell, gates).items() if n.op == "affine"}
    found: dict[str, list[str]] = {}
    for gate in cell.gates:
        found.setdefault(colour[gate], []).append(gate)
    return found


def _paired(a: "Cell", b: "Cell", pairs: dict[str, str]) -> dict[str, str] | None:
    """Extend a pairing to all gates; where several gates of b look alike, try each in turn."""
    named_a, named_b = {gate: gate for gate in pairs}, {v: k for k, v in pairs.items()}
    of_a, of_b = _alike(a, named_a), _alike(b, named_b)
    if {c: len(gates) for c, gates in of_a.items()} != {c: len(g) for c, g in of_b.items()}:
        return None
    unclear = next((c for c, gates in of_a.items() if len(gates) > 1), None)
    if unclear is not None:
        tried = (_paired(a, b, pairs | {of_a[unclear][0]: gate}) for gate in of_b[unclear])
        return next((found for found in tried if found is not None), None)
    found = {gates[0]: of_b[c][0] for c, gates in of_a.items()}
    same = _written(a, {g: g for g in found}) == _written(b, {v: k for k, v in found.items()})
    return found if same else None


def match(a: "Cell", b: "Cell") -> dict[str, str] | None:
    """Pair the gates of two cells of one graph, so that weights can be carried across.

    Args:
        a: A cell.
        b: Another one, perhaps with other names, or its gates in another order.

    Returns:
        For each gate of a the gate of b that does the same; None if the graphs differ.
    """
    if a.graph_key != b.graph_key:
        return None
    found = _paired(a, b, {})
    return None if found is None else {gate: found[gate] for gate in a.gates}
