"""How many threads does the instrument take?

It makes thousands of small products. A team of threads waits for its slowest member after each, and
where another program has the core of that member, for milliseconds: with two threads a diagnosis of
3 s took 90 s on a busy machine of two cores. One thread loses nothing where a model is small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["fitting_threads"]

_SMALL_PARAMETERS = 4_000_000  # an LSTM of 512 units in two layers: a product of 10 ms on a core


@contextmanager
def fitting_threads(model: Any) -> Iterator[None]:
    """One thread for a small model, as many as torch has for a large one."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    before = torch.get_num_threads()
    if before == 1 or sum(p.numel() for p in parameters) > _SMALL_PARAMETERS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
