"""When can each value of a step be computed? Phases of gates, and four regions of nodes."""

from typing import TYPE_CHECKING

from throughtime.declare.graph import Node, gate_name, walk

if TYPE_CHECKING:
    from throughtime.declare.cell import Cell

ONCE, BEFORE, LOOP, AFTER = "once", "before", "loop", "after"
_RANK = {ONCE: 0, BEFORE: 1, LOOP: 2, AFTER: 3}
_LEAF = {"x": BEFORE, "extra": BEFORE, "state": LOOP, "new": AFTER}


def region_of(roots: tuple[Node, ...]) -> dict[Node, str]:
    """The region of every node below the roots.

    "once": from params alone, once a call. "before": from x and extras too, for all steps before
    the loop. "loop": from past states. "after": from new states, for all steps after the loop.
    """
    found: dict[Node, str] = {}
    for n in walk(roots):
        parts = [found[arg] for arg in n.args] + [_LEAF.get(n.op, ONCE)]
        found[n] = max(parts, key=_RANK.__getitem__)
    return found


def regions(cell: "Cell") -> dict[str, tuple[Node, ...]]:
    """Every node of a cell by its region; emit belongs after the loop as a whole."""
    step = region_of(cell.new)
    emitted = [n for n in walk(cell.out) if n not in step]
    found: dict[str, list[Node]] = {ONCE: [], BEFORE: [], LOOP: [], AFTER: emitted}
    for n, region in step.items():
        found[region].append(n)
    return {region: tuple(nodes) for region, nodes in found.items()}


def phases(cell: "Cell") -> tuple[tuple[str, ...], ...]:
    """The step's gates in groups: a gate whose reads hold another gate comes after it."""
    depth: dict[Node, int] = {}
    groups: dict[int, list[str]] = {}
    for n in walk(cell.new):
        below = max((depth[arg] for arg in n.args), default=0)
        depth[n] = below + (n.op == "affine")
        if n.op == "affine":
            groups.setdefault(depth[n], []).append(gate_name(n))
    order = {gate: i for i, gate in enumerate(cell.gates)}
    return tuple(tuple(sorted(groups[d], key=order.__getitem__)) for d in sorted(groups))
