"""How is a node of a graph written on paper?"""

from throughtime.declare.graph import Node

DEPTH = 6  # deeper parts are left out: shared parts of a graph would repeat

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


def written(n: Node, depth: int = DEPTH) -> str:
    """A node as an equation: gates and new states by name, past states with their lag."""
    if n.op == "x":
        return "x"
    if n.op == "state":
        return n.data[0] if n.data[1] == 1 else f"ago({n.data[0]}, {n.data[1]})"
    if n.op == "constant":
        return f"{n.data[0]:g}"
    if n.op in {"new", "param", "extra", "affine"}:
        return n.data[0]
    if depth == 0:
        return "..."
    parts = [written(arg, depth - 1) for arg in n.args]
    if n.op in _SIGNS:
        return f"({parts[0]} {_SIGNS[n.op]} {parts[1]})"
    parts += [str(d) for d in n.data]
    return f"{n.op}({', '.join(parts)})"
