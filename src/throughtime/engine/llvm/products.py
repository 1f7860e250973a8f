"""How are the products over all steps at once computed?"""

import torch
from torch import Tensor

__all__ = ["outer", "product", "project"]


def project(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """out = x weight^T."""
    torch.mm(x, weight.t(), out=out)


def product(a: Tensor, weight: Tensor) -> Tensor:
    """a weight."""
    return torch.mm(a, weight)


def outer(a: Tensor, x: Tensor) -> Tensor:
    """a^T x."""
    return torch.mm(x.t(), a).t()
