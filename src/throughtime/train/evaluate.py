"""How well does a model predict a text?"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from throughtime.models import LanguageModel
from throughtime.tasks import Window
from throughtime.train.batch import as_tensors

__all__ = ["mean_nll_nats"]


@torch.no_grad()
def mean_nll_nats(
    model: LanguageModel, ids: NDArray[Any], starts: NDArray[Any], *, window_steps: int = 256
) -> float:
    """Mean negative log probability of every symbol of a text but its first, in nats.

    The text is one stream, B = 1: the state is carried from window to window (the window only
    bounds memory) and starts anew where a document starts. The model is left in the mode it had.

    Args:
        model: Language model.
        ids: Symbols of the text, in order.
        starts: Indices in `ids` where a document starts.
        window_steps: Symbols a call.

    Shape:
        ids: [T]; starts: [documents]
    """
    column = ids.astype(np.int64)[:, None]
    is_start = np.zeros(column.shape, np.bool_)
    is_start[starts] = True
    was_training = model.training
    model.eval()
    hx, sum_nats, last = None, 0.0, len(ids) - 1
    for begin in range(0, last, window_steps):
        end = min(begin + window_steps, last)
        window = Window(column[begin:end], column[begin + 1 : end + 1], is_start[begin:end])
        inputs, targets, reset = as_tensors(window, model.embedding.weight.device)
        nll_nats, hx = model.nll_nats(inputs, targets, hx, reset=reset)
        sum_nats += float(nll_nats.double().sum())
    model.train(was_training)
    return sum_nats / last if last > 0 else math.nan
