"""How is a cell written as text? Flat and in order, as JSON; floats are exact."""

import json
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from throughtime.declare.data import Bernoulli, Blocks, Extra, Param, State, Uniform
from throughtime.declare.graph import Node, Term, node, walk
from throughtime.errors import DeclarationError

if TYPE_CHECKING:
    from throughtime.declare.cell import Cell

FORMAT = 1
_CLASSES = {c.__name__: c for c in (State, Param, Extra, Uniform, Blocks, Bernoulli, Term)}


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        fields = {k: _encode(getattr(value, k)) for k in asdict(value)}
        return {"class": type(value).__name__, **fields}
    return [_encode(v) for v in value] if isinstance(value, tuple | list) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {k: _decode(v) for k, v in value.items() if k != "class"}
        return _CLASSES[value["class"]](**fields)
    return tuple(_decode(v) for v in value) if isinstance(value, list) else value


def write(cell: "Cell") -> str:
    """The cell as JSON text."""
    nodes = list(walk((*cell.new, *cell.out)))
    place = {id(n): i for i, n in enumerate(nodes)}
    rows = [[n.op, [place[id(a)] for a in n.args], _encode(n.data), n.width] for n in nodes]
    content = {
        "format": FORMAT,
        "name": cell.name,
        "source": cell.source,
        "states": _encode(cell.states),
        "params": _encode(cell.params),
        "extras": _encode(cell.extras),
        "gates": cell.gates,
        "nodes": rows,
        "new": [place[id(n)] for n in cell.new],
        "out": [place[id(n)] for n in cell.out],
    }
    return json.dumps(content, separators=(",", ":"))


def read(text: str) -> dict[str, Any]:
    """The fields of the cell that `write` described."""
    content = json.loads(text)
    if content.get("format") != FORMAT:
        raise DeclarationError(
            f"this text of a cell has format {content.get('format')!r}; this version reads "
            f"format {FORMAT}."
        )
    nodes: list[Node] = []
    for op, args, data, width in content["nodes"]:
        nodes.append(node(op, *(nodes[i] for i in args), data=_decode(data), width=width))
    return {
        "name": content["name"],
        "source": content["source"],
        "states": _decode(content["states"]),
        "params": _decode(content["params"]),
        "extras": _decode(content["extras"]),
        "gates": tuple(content["gates"]),
        "new": tuple(nodes[i] for i in content["new"]),
        "out": tuple(nodes[i] for i in content["out"]),
    }
