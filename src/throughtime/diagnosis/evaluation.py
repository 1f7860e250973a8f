"""How is the user's loss computed again and again, without leaving a trace?"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import ConfigError, DataError, ShapeError, ThroughtimeError

__all__ = ["Evaluation", "Loss"]

Loss = Callable[[Any, Any], Tensor]

_SAME = 1e-5  # of two evaluations, relative: threads may add up in another order


class Evaluation:
    """A model, a batch and the user's loss on it.

    Every evaluation draws the same random numbers and sees the same buffers, and all of torch's
    generators, buffers and gradients are as before when it ends.

    Args:
        model: A module, or a callable step.
        batch: Whatever the loss takes.
        loss: Gives a scalar for the model and the batch.

    Raises:
        ConfigError: The loss is not callable, or the model is neither module nor callable.
        DataError: A weight is not finite.
    """

    def __init__(self, model: Any, batch: Any, loss: Loss) -> None:
        if not callable(loss):
            raise ConfigError(
                f"loss is a {type(loss).__name__}; expected a function of model and batch that "
                "returns a scalar tensor, such as lambda model, batch: model(batch).mean()."
            )
        if not callable(model):
            raise ConfigError(
                f"model is a {type(model).__name__}; expected a torch.nn.Module, or a step "
                "f(x, state) -> state."
            )
        self.model, self.batch, self.loss = model, batch, loss
        _check_weights(model)

    def value(self, model: Any = None) -> Tensor:
        """The loss, with its graph if gradients are on.

        Raises:
            ShapeError: It is no scalar.
            ConfigError: It could not be computed.
        """
        target = self.model if model is None else model
        with _unchanged(self.model):
            try:
                found = self.loss(target, self.batch)
            except ThroughtimeError:
                raise
            except Exception as error:
                raise ConfigError(
                    f"the loss could not be computed: {type(error).__name__}: {error}. Call "
                    "loss(model, batch) yourself; the batch must fit the model."
                ) from error
        if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
            raise ShapeError(
                f"loss(model, batch) returned {_described(found)}; expected one floating-point "
                "number, a scalar tensor. Take its mean or sum."
            )
        return found.reshape(())

    @torch.no_grad()
    def plain_value(self) -> float:
        """The loss as a number, computed twice.

        Raises:
            ConfigError: The two differ.
        """
        first, second = float(self.value()), float(self.value())
        is_same = abs(first - second) <= _SAME * max(abs(first), abs(second))
        if math.isfinite(first) and math.isfinite(second) and not is_same:
            raise ConfigError(
                f"loss(model, batch) is not deterministic: it gave {first:.7g}, then {second:.7g} "
                "with the same random numbers from torch. Let it keep no state from call to call, "
                "read the same batch, and draw from torch's generators alone."
            )
        return first


def _described(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor {list(found.shape)} of {found.dtype}"
    return f"a {type(found).__name__}"


def _check_weights(model: Any) -> None:
    if not isinstance(model, nn.Module):
        return
    for name, tensor in model.named_parameters():
        wrong = int((~torch.isfinite(tensor.detach())).sum())
        if wrong:
            raise DataError(
                f"the weights {name} hold {wrong} values that are infinite or NaN, of "
                f"{tensor.numel()}: nothing can be measured through them. Load weights from before "
                "that, and train on with clipped gradients or a lower learning rate."
            )


@contextlib.contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Restore torch's generators and the model's buffers afterwards."""
    buffers = dict(model.named_buffers()) if isinstance(model, nn.Module) else {}
    kept = {name: buffer.detach().clone() for name, buffer in buffers.items()}
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in buffers.items():
                    buffer.copy_(kept[name])
