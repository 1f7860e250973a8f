"""How is the user's loss computed again and again, without leaving a trace?"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.untouched import untouched
from throughtime.errors import ConfigError, DataError, ShapeError, ThroughtimeError

__all__ = ["Evaluation", "Loss"]

Loss = Callable[[Any, Any], Tensor]

_SAME = 1e-5  # of two evaluations, relative: threads may add up in another order


class Evaluation:
    """A model, a batch and the user's loss on it.

    Every evaluation draws the same random numbers and begins with the same model, which is as
    before when it ends.

    Args:
        model: A module, or a callable step.
        batch: Whatever the loss takes.
        loss: Gives a scalar for the model and the batch.
        seed: Of all that is drawn.

    Attributes:
        is_training: Whether the model was in training mode when the loss was computed last.

    Raises:
        ConfigError: The loss is not callable, the model is neither module nor callable, the batch
            can be read but once, or weights are not there yet.
        DataError: A weight is not finite.
    """

    def __init__(self, model: Any, batch: Any, loss: Loss, seed: int = 0) -> None:
        if not callable(loss):
            raise ConfigError(
                f"loss is of type {type(loss).__name__}; expected a function of model and batch "
                "that returns a scalar tensor, such as lambda model, batch: model(batch).mean()."
            )
        if not callable(model):
            raise ConfigError(
                f"model is of type {type(model).__name__}; expected a torch.nn.Module, or a step "
                "f(x, state) -> state."
            )
        if isinstance(batch, Iterator):
            raise ConfigError(
                f"batch is of type {type(batch).__name__}, which can be read once; the loss is "
                "computed many times. Take one batch of it: next(batch)."
            )
        self.model, self.batch, self.loss, self.seed = model, batch, loss, seed
        self.is_training = False
        _check_weights(model)

    def value(self, model: Any = None) -> Tensor:
        """The loss, with its graph if gradients are on.

        Args:
            model: What stands for the model; itself if absent.

        Raises:
            ShapeError: It is no scalar.
            ConfigError: It could not be computed.
        """
        target = self.model if model is None else model
        with untouched(self.model, self.seed):
            try:
                found = self.loss(target, self.batch)
            except ThroughtimeError:
                raise
            except Exception as error:
                raise ConfigError(_failed(error, is_watched=model is not None)) from error
            self.is_training = bool(getattr(self.model, "training", False))
        if not isinstance(found, Tensor) or found.numel() != 1 or not found.is_floating_point():
            raise ShapeError(
                f"loss(model, batch) returned {_described(found)}; expected one floating-point "
                "number, a scalar tensor. Take its mean or sum."
            )
        return found.reshape(())

    @torch.enable_grad()
    def plain_value(self) -> float:
        """The loss as a number, computed twice; a loss may ask for gradients itself.

        Raises:
            ConfigError: The two differ.
        """
        first, second = float(self.value().detach()), float(self.value().detach())
        is_same = abs(first - second) <= _SAME * max(abs(first), abs(second))
        if math.isfinite(first) and math.isfinite(second) and not is_same:
            raise ConfigError(
                f"loss(model, batch) is not deterministic: it gave {first:.7g}, then {second:.7g} "
                "with the same random numbers from torch, numpy and Python. Let it keep no state "
                "from call to call, read the same batch, and draw from their global generators."
            )
        return first


def _failed(error: Exception, *, is_watched: bool) -> str:
    """Why the loss could not be computed, in one line."""
    reason = " ".join(str(error).split()).rstrip(".") or "no reason given"
    told = f"{type(error).__name__}: {reason}"
    if is_watched:  # without being watched it could
        return (
            f"the loss could be computed, but not while the model was watched: {told}. Something "
            "in it does not bear to be hooked; diagnose a model without that part."
        )
    return (
        f"the loss could not be computed: {told}. Call loss(model, batch) yourself; the batch must "
        "fit the model."
    )


def _described(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor {list(found.shape)} of {found.dtype}"
    return f"a {type(found).__name__}"


def _check_weights(model: Any) -> None:
    if not isinstance(model, nn.Module):
        return
    for name, tensor in model.named_parameters():
        if nn.parameter.is_lazy(tensor):
            raise ConfigError(
                f"the weights {name} have no shape yet. Call the model once on a batch, then "
                "diagnose it."
            )
        if tensor.is_meta:
            raise ConfigError(
                f"the weights {name} are on the meta device, which holds no numbers. Load the "
                'model\'s weights, or make them: model.to_empty(device="cpu"), and initialise it.'
            )
        wrong = int((~torch.isfinite(tensor.detach())).sum())
        if wrong:
            raise DataError(
                f"the weights {name} hold {wrong} values that are infinite or NaN, of "
                f"{tensor.numel()}: nothing can be measured through them. Load weights from before "
                "that, and train on with clipped gradients or a lower learning rate."
            )
