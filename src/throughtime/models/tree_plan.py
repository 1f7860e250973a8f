"""In which order are the nodes of many trees computed? By height, a whole level at once.

A tree is given as nested pairs of leaf positions, ((0, 1), 2), or as an array [n - 1, 2] of the
children of its inner nodes, where numbers below n are leaves and n + k is the k-th inner node, as
in a linkage matrix. A lone leaf is the tree 0, or an array without rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from throughtime.errors import ConfigError, DtypeError, ShapeError

__all__ = ["Level", "Plan", "balanced", "chain", "inner_nodes", "plan"]

Pair = tuple[int, int]


def balanced(leaves: int) -> Any:
    """The tree over so many leaves whose depth is least, ceil(log2(leaves)).

    Args:
        leaves: Number of leaves, in order from left to right.

    Returns:
        Nested pairs; for one leaf the leaf.

    Raises:
        ConfigError: not a positive number.

    Source:
        Goodfellow et al. 2016, sec. 10.6.

    Example:
        >>> balanced(5)
        ((0, 1), (2, (3, 4)))
    """
    _check_count(leaves)

    def between(first: int, last: int) -> Any:
        if last - first == 1:
            return first
        middle = (first + last) // 2
        return between(first, middle), between(middle, last)

    return between(0, leaves)


def chain(leaves: int) -> Any:
    """The tree that takes one leaf after the other, as a simple recurrent network does.

    Args:
        leaves: Number of leaves; its depth is one less.

    Returns:
        Nested pairs; for one leaf the leaf.

    Raises:
        ConfigError: not a positive number.

    Example:
        >>> chain(4)
        (((0, 1), 2), 3)
    """
    _check_count(leaves)
    tree: Any = 0
    for leaf in range(1, leaves):
        tree = (tree, leaf)
    return tree


def _check_count(leaves: int) -> None:
    if isinstance(leaves, bool) or not isinstance(leaves, int) or leaves < 1:
        raise ConfigError(f"leaves={leaves!r}; expected a whole number of at least one.")


class Level(NamedTuple):
    """The nodes of one height, leaves at height 0.

    Attributes:
        source: Of leaves: which step and row each is, t * B + b, [N]. Above: where the left and
            the right child of each stand among all values that came for this level, [2 N].
        sent: (height, count): how many of its values go to which level, in order; roots go to one
            above the highest.
    """

    source: Tensor
    sent: list[Pair]


class Plan(NamedTuple):
    """How the nodes of a batch of trees are computed.

    Attributes:
        levels: From the leaves upwards.
        places: Where each node stands among all nodes computed, level by level, [2 T - 1, B]; past
            the nodes of a row the number of all nodes.
        roots: Where the row's root stands among them, [B].
    """

    levels: list[Level]
    places: Tensor
    roots: Tensor


def plan(trees: Any, steps: int, rows: int, device: torch.device) -> Plan:
    """Order the nodes of a batch of trees.

    Every node has one parent, so a level is computed in the order in which its values are needed:
    first those for the next level, then those for the one after. All copying together is then
    linear in the number of nodes, for a chain as for a balanced tree.

    Args:
        trees: One tree a row.
        steps: T, the most leaves a row may have.
        rows: B.
        device: Where the indices are wanted.

    Raises:
        DtypeError: a tree is neither nested pairs nor an array of whole numbers.
        ShapeError: a wrong number of trees, or something that is no tree over leaves 0..n - 1.
    """
    if isinstance(trees, str) or not isinstance(trees, Sequence):
        raise DtypeError(f"trees is a {type(trees).__name__}; expected a list of one tree a row.")
    if len(trees) != rows:
        raise ShapeError(f"trees has {len(trees)} trees; expected {rows}, one for each row of x.")
    trees = list(trees)  # keeps what a lazy sequence makes, so that no id is used twice
    known: dict[int, list[Pair]] = {}  # a tree that many rows share is read once
    for b, tree in enumerate(trees):
        if id(tree) not in known:
            known[id(tree)] = inner_nodes(tree, f"trees[{b}]", steps)
    forest = _Forest([known[id(tree)] for tree in trees])
    places = np.full((max(2 * steps - 1, 0), rows), len(forest.height))
    places[forest.number, forest.row] = forest.place

    def there(indices: np.ndarray) -> Tensor:
        return torch.from_numpy(indices).to(device)

    levels = [Level(there(source), sent) for source, sent in forest.levels()]
    return Plan(levels, there(places), there(forest.place[forest.roots]))


class _Forest:
    """All nodes of all rows, numbered through: each row's leaves, then its inner nodes.

    Attributes:
        row, number: Where each node stands in the caller's eyes.
        height: Of each node; leaves have 0.
        needed: The height of each node's parent; of roots one above the highest.
        place: Where each stands in the order of computation: by height, then by who needs it.
        roots: The root of each row.
    """

    def __init__(self, forest: list[list[Pair]]) -> None:
        counts = np.array([2 * len(inner) + 1 for inner in forest], dtype=np.int64)
        first = np.cumsum(counts) - counts
        self.roots = first + counts - 1
        self.row = np.repeat(np.arange(len(forest)), counts)
        self.number = np.arange(counts.sum()) - np.repeat(first, counts)
        pairs = [pair for inner in forest for pair in inner]
        self.inner = np.flatnonzero(self.number > np.repeat(counts, counts) // 2)
        self.children = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        self.children += first[self.row[self.inner], None]
        self.height = _heights(self.inner, self.children, len(self.row))
        self.needed = np.full(len(self.row), self.height.max(initial=0) + 1)
        self.needed[self.children] = self.height[self.inner, None]
        self.place = _rank(np.lexsort((self.needed, self.height)))

    def levels(self) -> Iterator[tuple[np.ndarray, list[Pair]]]:
        """What `Level` says, from the leaves upwards."""
        ordered = np.argsort(self.place)
        arrival = _rank(np.lexsort((self.place, self.needed)))
        below = np.empty((len(self.row), 2), dtype=np.int64)
        below[self.inner] = arrival[self.children]
        came = np.searchsorted(np.sort(self.needed), np.arange(self.height.max(initial=0) + 2))
        ends = np.cumsum(np.bincount(self.height, minlength=1))[:-1]
        for height, nodes in enumerate(np.split(ordered, ends)):
            above, counts = np.unique(self.needed[nodes], return_counts=True)
            sent = list(zip(above.tolist(), counts.tolist(), strict=True))
            if height:
                yield (below[nodes] - came[height]).ravel(), sent
            else:
                yield self.number[nodes] * len(self.roots) + self.row[nodes], sent


def _heights(inner: np.ndarray, children: np.ndarray, count: int) -> np.ndarray:
    height = [0] * count
    for node, (left, right) in zip(inner.tolist(), children.tolist(), strict=True):
        height[node] = 1 + max(height[left], height[right])
    return np.array(height, dtype=np.int64)


def _rank(order: np.ndarray) -> np.ndarray:
    """Where each stands in an order: its inverse."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank


def inner_nodes(tree: Any, what: str, steps: int) -> list[Pair]:
    """The children of each inner node of a tree, children before parents, the root last.

    Args:
        tree: Nested pairs, or an array.
        what: Its name, for messages.
        steps: The most leaves it may have.

    Raises:
        DtypeError: neither nested pairs nor an array of whole numbers.
        ShapeError: no tree over leaves 0..n - 1.
    """
    if isinstance(tree, Tensor | np.ndarray):
        inner = _from_array(torch.as_tensor(tree), what)
        leaves = len(inner) + 1
    else:
        inner, leaves = _from_nested(tree, what, steps)
    if leaves > steps:
        raise ShapeError(f"{what} has {leaves} leaves; expected at most T={steps}, the steps of x.")
    return inner


def _from_array(tree: Tensor, what: str) -> list[Pair]:
    if tree.dtype.is_floating_point or tree.dtype.is_complex or tree.dtype == torch.bool:
        raise DtypeError(f"{what} has dtype {tree.dtype}; expected whole numbers (int64).")
    if tree.dim() != 2 or tree.shape[1] != 2:
        raise ShapeError(f"{what} has shape {list(tree.shape)}; expected [n - 1, 2] for n leaves.")
    inner = [(left, right) for left, right in tree.tolist()]
    leaves, seen = len(inner) + 1, set[int]()
    for number, children in enumerate(inner, leaves):
        for child in children:
            if not 0 <= child < number:
                raise ShapeError(
                    f"{what} gives node {number} the child {child}; expected 0 to {number - 1}: "
                    f"leaves below {leaves}, then inner nodes, children before parents."
                )
            if child in seen:
                raise ShapeError(f"{what} has node {child} twice; expected one parent a node.")
            seen.add(child)
    return inner


def _from_nested(tree: Any, what: str, steps: int) -> tuple[list[Pair], int]:
    """Children by number, and the number of leaves; without recursion, as chains are deep."""
    inner: list[Pair] = []
    found: list[int] = []
    done: list[int] = []
    todo: list[tuple[Any, bool]] = [(tree, False)]
    opened = 0
    while todo:
        node, is_open = todo.pop()
        if is_open:
            right, left = done.pop(), done.pop()
            inner.append((left, right))
            done.append(-len(inner))  # below zero until the number of leaves is known
        elif isinstance(node, tuple | list):
            opened += 1
            _check_pair(node, what, opened, steps)
            todo += [(node, True), (node[1], False), (node[0], False)]
        else:
            found.append(_leaf(node, what))
            done.append(found[-1])
    _check_leaves(found, what)
    above = len(found) - 1
    return [(_number(left, above), _number(right, above)) for left, right in inner], len(found)


def _number(child: int, above: int) -> int:
    return child if child >= 0 else above - child


def _check_pair(node: Sequence[Any], what: str, opened: int, steps: int) -> None:
    if len(node) != 2:
        raise ShapeError(f"{what} has a node of {len(node)} parts; expected pairs, (left, right).")
    if opened >= max(steps, 1):
        raise ShapeError(
            f"{what} has more than {steps} leaves; expected at most T={steps}, the steps of x."
        )


def _leaf(node: Any, what: str) -> int:
    if isinstance(node, bool) or not isinstance(node, int):
        raise DtypeError(
            f"{what} holds a {type(node).__name__}; expected nested pairs of leaf positions, such "
            "as ((0, 1), 2), or an array [n - 1, 2]."
        )
    return node


def _check_leaves(found: list[int], what: str) -> None:
    twice = [leaf for leaf, times in Counter(found).items() if times > 1]
    if twice:
        raise ShapeError(f"{what} has leaf {twice[0]} twice; expected each leaf once.")
    beyond = [leaf for leaf in found if not 0 <= leaf < len(found)]
    if beyond:
        raise ShapeError(
            f"{what} has the leaf {beyond[0]} among {len(found)}; expected each of 0 to "
            f"{len(found) - 1} once."
        )
