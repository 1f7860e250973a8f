"""How does a gradient become an update?

In order: the joint norm is taken, a non-finite gradient meets its rule, elements are clipped by
value, then all of them by joint norm, and the optimiser steps with the scheduled learning rate.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

from throughtime.train.config import OptimiserConfig

__all__ = ["SimplifiedNesterov", "Step", "learning_rate", "make_optimiser", "take_step"]

# The second moment forgets in 100 updates, not 1,000: a run of minutes has few thousand of them.
_BETAS = (0.9, 0.99)

_MOMENTUM = {"nesterov": 0.9}

# As in the code of Chung et al. 2015, which takes 0.1 theta for a gradient that is not finite.
_SHRINK = 0.1

# How often Zaremba et al. 2014 halve the rate of their small network.
_HALVINGS = 9


class SimplifiedNesterov(torch.optim.Optimizer):
    """Nesterov's momentum, written for the point at which the gradient is taken.

    With Theta = theta + mu v, the parameters held are Theta, and
        v_t = mu_{t-1} v_{t-1} - lr_t g(Theta_{t-1})
        Theta_t = Theta_{t-1} + mu_t mu_{t-1} v_{t-1} - (1 + mu_t) lr_t g(Theta_{t-1})
    Kept is the look-ahead w = mu v = Theta - theta, so rate and momentum may change at any update
    (`torch.optim.SGD(nesterov=True)` agrees only while the rate stays the same).

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: mu, from 0 to below 1.
        weight_decay: L2 penalty, added to the gradient.

    Source:
        Bengio, Boulanger-Lewandowski & Pascanu 2012, arXiv:1212.0901, section 3.5.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for theta in group["params"]:
                if theta.grad is not None:
                    self._move(theta, theta.grad, group)
        return loss

    def _move(self, theta: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(theta, alpha=group["weight_decay"])
        state = self.state[theta]
        if not state:
            state["look_ahead"] = torch.zeros_like(theta)
        look_ahead = state["look_ahead"]
        look_ahead.sub_(gradient, alpha=group["lr"]).mul_(group["momentum"])
        theta.sub_(gradient, alpha=group["lr"]).add_(look_ahead)


def make_optimiser(config: OptimiserConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over `parameters`."""
    rate, decay = config.learning_rate, config.weight_decay
    momentum = _MOMENTUM.get(config.optimiser, 0.0) if config.momentum is None else config.momentum
    match config.optimiser:
        case "sgd":
            return torch.optim.SGD(parameters, rate, momentum, weight_decay=decay)
        case "nesterov":
            return SimplifiedNesterov(parameters, rate, momentum, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, momentum=momentum, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, rate, _BETAS, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, _BETAS, weight_decay=decay)


def learning_rate(config: OptimiserConfig, update: int, updates: int) -> float:
    """The learning rate of update `update` (from 0) of `updates`: a function of nothing else.

    It rises in a line over the warm-up, holds the full rate for a while, and falls: in a line or as
    half a cosine, towards zero, which the update after the last one would have, or halved nine
    times by then, little by little, where Zaremba et al. 2014 halve it after each of 9 passes.
    """
    warmup_updates = math.ceil(config.warmup * updates)
    if update < warmup_updates:
        return config.learning_rate * (update + 1) / warmup_updates
    held_updates = warmup_updates + math.ceil((config.hold or 0.0) * updates)
    if update < held_updates:
        return config.learning_rate
    progress = (update - held_updates) / (updates - held_updates)
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1.0 - progress)
        case "cosine":
            return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "exponential":
            return config.learning_rate * 0.5 ** (_HALVINGS * progress)


class Step(NamedTuple):
    """What became of one gradient."""

    gradient_norm: float
    """Joint norm of all gradients before any clipping."""
    is_clipped: bool
    """Whether clipping changed the gradient."""
    is_finite: bool
    """Whether it was finite; if not, the optimiser did not see it."""


def take_step(optimiser: torch.optim.Optimizer, config: OptimiserConfig) -> Step:
    """Clip the gradients that the parameters hold and update the parameters.

    A gradient with an infinite or NaN joint norm never reaches the optimiser or its moments. By
    the rule `shrink` every parameter is multiplied by 1 - 0.1 lr instead; by `random` the optimiser
    sees a random gradient of the norm that clips (1 without one); by `skip` and `stop` nothing
    changes here.

    Source:
        `random`: Goodfellow et al. 2016, section 10.11.1. `shrink`: the code of Chung et al. 2015.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(get_total_norm(gradients))
    if not math.isfinite(norm):
        if config.nonfinite == "shrink":
            _shrink(optimiser)
        if config.nonfinite == "random":
            _step_anywhere(optimiser, gradients, config.clip_norm or 1.0)
        return Step(norm, is_clipped=False, is_finite=False)
    is_clipped = False
    if config.clip_value:
        is_clipped = any(float(g.abs().max()) > config.clip_value for g in gradients if g.numel())
        clip_grad_value_(parameters, config.clip_value)
    if config.clip_norm:
        is_clipped |= float(clip_grad_norm_(parameters, config.clip_norm)) > config.clip_norm
    optimiser.step()
    return Step(norm, is_clipped, is_finite=True)


@torch.no_grad()
def _shrink(optimiser: torch.optim.Optimizer) -> None:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.mul_(1.0 - _SHRINK * group["lr"])


@torch.no_grad()
def _step_anywhere(optimiser: torch.optim.Optimizer, gradients: list[Tensor], norm: float) -> None:
    """Step along a random direction, drawn from torch's generator, by a gradient of this norm."""
    for gradient in gradients:
        gradient.normal_()
    factor = norm / float(get_total_norm(gradients))
    for gradient in gradients:
        gradient.mul_(factor)
    optimiser.step()
