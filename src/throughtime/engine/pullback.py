"""How do gradients come back through a graph that autograd recorded?"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pulled_back(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    keep: bool = False,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """The gradients of leaves, given those of some outputs.

    Args:
        outputs: What was computed.
        leaves: What it was computed from; those without requires_grad get None.
        gradients: The gradient of each output, or None.
        keep: Whether the graph will be walked again.
        create_graph: Whether the result is itself differentiable.
    """
    pairs = [
        (o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad
    ]
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    if not pairs or not asked:
        return [None] * len(leaves)
    chosen, entering = zip(*pairs, strict=True)
    found = iter(
        torch.autograd.grad(
            chosen,
            asked,
            entering,
            retain_graph=keep or create_graph,
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [next(found) if leaf.requires_grad else None for leaf in leaves]
