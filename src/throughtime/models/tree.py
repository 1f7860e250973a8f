"""How does a network fold a sequence along a tree, in depth log T instead of T?"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from throughtime.errors import ConfigError
from throughtime.models.tree_plan import balanced, chain, plan
from throughtime.nn.arguments import autocast_products, check_input, check_same_kind, check_size

__all__ = ["TreeNetwork", "balanced", "chain"]

Composition = Literal["rnn", "lstm"]


class TreeNetwork(nn.Module):
    """A recursive network: a node is made of its two children, by the same weights everywhere.

        rnn     leaf h = V x + c,    node h = tanh(W [h_left; h_right] + b)
        lstm    leaf c = i u,        node c = i u + f_left c_left + f_right c_right,
                h = o tanh(c);  i, o, f_left, f_right are the sigmoids and u the tanh of
                W [h_left; h_right] + b, at leaves (without f) of V x + b'

    All nodes of one height, in all rows, are one matrix product; a balanced tree takes
    ceil(log2 T) of them. Over `chain(T)`, "rnn" is the simple recurrent network that starts from
    the first leaf and reads the others: h_t = tanh(W_left h_{t-1} + W_right (V x_t + c) + b).

    Args:
        input_size: I, features of a leaf; for symbols, those of an `nn.Embedding` before it.
        hidden_size: H, size of every node's vector.
        cell: How two children make a node, "rnn" or "lstm".

    Raises:
        ConfigError: a size is not positive, or the cell unknown.

    Shape:
        x: [T, B, I]; root: [B, H]; nodes: [2 T - 1, B, H], in each row n leaves, then n - 1 inner
        nodes, the root last, then zeros

    Source:
        Goodfellow et al. 2016, sec. 10.6; Socher et al. 2011, "Parsing natural scenes and natural
        language with recursive neural networks"; lstm: Tai et al. 2015, arXiv:1503.00075,
        eq. 9-14 with N = 2. Differs: leaves pass through V; there is no x at inner nodes, and
        leaves and inner nodes have biases of their own.

    Example:
        >>> import torch
        >>> from throughtime.models import TreeNetwork, balanced
        >>> model = TreeNetwork(4, 8)
        >>> root, nodes = model(torch.randn(5, 2, 4), [balanced(5), ((0, 1), 2)])
        >>> root.shape, nodes.shape
        (torch.Size([2, 8]), torch.Size([9, 2, 8]))
    """

    def __init__(self, input_size: int, hidden_size: int, cell: Composition = "rnn") -> None:
        super().__init__()
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        if cell not in get_args(Composition):
            raise ConfigError(f"cell={cell!r}; expected one of {', '.join(get_args(Composition))}.")
        self.cell: Composition = cell
        leaf, node = (3, 5) if cell == "lstm" else (1, 1)
        self.leaf = nn.Linear(input_size, leaf * hidden_size)
        self.node = nn.Linear(2 * hidden_size, node * hidden_size)

    def forward(self, x: Tensor, trees: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The vector of each row's root, and those of all nodes.

        Args:
            x: The leaves. Steps past the leaves of a row's tree may hold anything.
            trees: One a row, over leaves 0..n - 1, n <= T: nested pairs of positions such as
                ((0, 1), 2), or an integer array [n - 1, 2] with the children of each inner node,
                children before parents, where n + k is the k-th inner node.

        Raises:
            ShapeError, DtypeError: x or a tree does not fit.
        """
        check_input("TreeNetwork", x, {3: "[T, B, I]"}, self.input_size)
        autocasts = autocast_products(x, self.leaf.weight) is not None
        check_same_kind("TreeNetwork", x, self.leaf.weight, autocast=autocasts)
        steps, rows = x.shape[:2]
        order = plan(trees, steps, rows, x.device)
        every: list[Tensor] = []
        waiting: list[list[Tensor]] = [[] for _ in range(len(order.levels) + 1)]
        for level, (source, sent) in enumerate(order.levels):
            values = torch.cat(waiting[level]) if level else x.flatten(0, 1)
            values = values.index_select(0, source)
            made = self._compose(values.unflatten(0, (-1, 2))) if level else self._read(values)
            every.append(made[:, : self.hidden_size])
            parts = made.split([count for _, count in sent])
            for (above, _), part in zip(sent, parts, strict=True):
                waiting[above].append(part)
        computed = torch.cat([*every, every[0].new_zeros(1, self.hidden_size)])
        nodes = computed.index_select(0, order.places.flatten())
        return computed.index_select(0, order.roots), nodes.view(
            *order.places.shape, self.hidden_size
        )

    def _read(self, x: Tensor) -> Tensor:
        """Leaves, [N, H], or [N, 2 H] with h and c side by side."""
        made = self.leaf(x)
        if self.cell == "rnn":
            return made
        i, o, u = made.chunk(3, -1)
        return _remember(o, torch.sigmoid(i) * torch.tanh(u))

    def _compose(self, pairs: Tensor) -> Tensor:
        """Nodes of their children, [N, 2, H] or [N, 2, 2 H]."""
        made = self.node(pairs[..., : self.hidden_size].flatten(1))
        if self.cell == "rnn":
            return torch.tanh(made)
        i, o, u, f_left, f_right = made.chunk(5, -1)
        forget = torch.sigmoid(torch.stack([f_left, f_right], 1))
        kept = (forget * pairs[..., self.hidden_size :]).sum(1)
        return _remember(o, torch.sigmoid(i) * torch.tanh(u) + kept)

    def extra_repr(self) -> str:
        """The cell."""
        return f"cell={self.cell!r}"


def _remember(o: Tensor, c: Tensor) -> Tensor:
    return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)
