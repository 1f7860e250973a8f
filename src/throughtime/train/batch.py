"""How does a window of a text come to the model?"""

import torch
from torch import Tensor

from throughtime.tasks import Window

__all__ = ["as_tensors"]


def as_tensors(window: Window, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """The inputs, the targets and the reset mask of a window, on a device.

    The mask is None where no document begins, which is known here without waiting for a device,
    and leaves the choice of the engine free.

    Shape:
        [W, B] each
    """
    inputs = torch.from_numpy(window.inputs).to(device)
    targets = torch.from_numpy(window.targets).to(device)
    reset = torch.from_numpy(window.reset).to(device) if window.reset.any() else None
    return inputs, targets, reset
