"""What is left of a cell whose lags share a divisor? The same cell with all lags divided by it."""

from dataclasses import replace
from math import gcd

from throughtime.declare.cell import Cell
from throughtime.declare.graph import Node, node, rewrite, terms, walk


def common_lag(cell: Cell) -> int:
    """The greatest common divisor of the lags of all past states that a step reads; at least 1."""
    return max(1, gcd(*(n.data[1] for n in walk(cell.new) if n.op == "state")))


def divided(cell: Cell, divisor: int) -> Cell:
    """The cell with every lag divided; its gates and the order of its matrices stay."""

    def shorter(n: Node) -> Node:
        if n.op == "state":
            name, lag = n.data
            return node("state", data=(name, lag // divisor), width=n.width)
        if n.op == "affine":
            name, bias, found = n.data[0], n.data[1], terms(n)
            found = tuple(replace(term, lag=term.lag // divisor) for term in found)
            return node("affine", *n.args, data=(name, bias, found), width=n.width)
        return n

    return replace(cell, new=rewrite(cell.new, shorter))
