"""What must a run remember to go on bit for bit?

The weights, the best ones so far, the optimiser's moments, the recurrent state that enters the
next window, torch's generators (dropout draws from them), and the number of updates done, from
which learning rate, data and stopping follow.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import CheckpointError
from throughtime.train.lesson import Hx

__all__ = ["TrainingState", "load_weights", "weights"]

_NUMBERS = (
    "update", "elapsed_s", "updating_s", "nonfinite_in_a_row", "best_score", "no_better_in_a_row"
)  # fmt: skip

Structure = list["Structure"] | str | None


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of `model` by name, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def load_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the parameters and buffers of `model`.

    Raises:
        CheckpointError: Names or shapes are not the model's.
    """
    own = weights(model)
    if own.keys() != tensors.keys():
        names = ", ".join(sorted(own.keys() ^ tensors.keys()))
        raise CheckpointError(
            f"the file's weights are not those of this model; they differ in {names}. "
            "Use the run folder that the file was written to."
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape or tensor.dtype != tensors[name].dtype:
            raise CheckpointError(
                f"{name} in the file is {tensors[name].dtype} {list(tensors[name].shape)}, but "
                f"the model's is {tensor.dtype} {list(tensor.shape)}. "
                "Use the run folder that the file was written to."
            )
        tensor.copy_(tensors[name])


@dataclass
class TrainingState:
    """All that an update reads and changes.

    Attributes:
        model: The model, in training mode while it trains.
        optimiser: Its optimiser, over all parameters.
        hx: Recurrent state that enters the next window; None for a new start.
        update: Updates done.
        elapsed_s: Time spent in the loop so far, over all parts of the run.
        updating_s: The part of it spent in updates: not in validating and saving.
        nonfinite_in_a_row: Updates since the last finite gradient.
        best_score: Of all validations so far.
        no_better_in_a_row: Validations since then.
        best: The weights of that validation by name, if they are kept.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    hx: Hx = None
    update: int = 0
    elapsed_s: float = 0.0
    updating_s: float = 0.0
    nonfinite_in_a_row: int = 0
    best_score: float = math.inf
    no_better_in_a_row: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def validated(self, score: float, *, keep: bool) -> None:
        """Take note of a validation, and keep the weights if it is the best so far."""
        is_better = score < self.best_score
        self.no_better_in_a_row = 0 if is_better else self.no_better_in_a_row + 1
        if is_better:
            self.best_score = score
            if keep:
                self.best = {n: t.detach().clone() for n, t in weights(self.model).items()}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by a name in one of model, best, optimiser, hx, rng."""
        moments = self.optimiser.state_dict()["state"]
        found = {f"model.{name}": tensor for name, tensor in weights(self.model).items()}
        found |= {
            f"optimiser.{index}.{name}": tensor
            for index, named in moments.items()
            for name, tensor in named.items()
            if tensor is not None
        }
        found |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        found |= _leaves("hx", self.hx)
        found["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: tensor.detach() for name, tensor in found.items()}

    def meta(self) -> dict[str, Any]:
        """Everything else, as JSON."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return numbers | {"hx": _structure(self.hx)}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take over what `tensors` and `meta` of another state gave.

        Raises:
            CheckpointError: They are not those of a state like this one.
        """
        load_weights(self.model, _under("model.", tensors))
        self._restore_moments(_under("optimiser.", tensors))
        self.best = {n: t.to(self.device) for n, t in _under("best.", tensors).items()}
        self.hx = _rebuild("hx", meta["hx"], tensors, self.device)
        for name in _NUMBERS:
            setattr(self, name, meta[name])
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)

    def _restore_moments(self, tensors: dict[str, Tensor]) -> None:
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, kind = name.partition(".")
            moments.setdefault(int(index), {})[kind] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _leaves(name: str, value: Hx) -> dict[str, Tensor]:
    if value is None:
        return {}
    if isinstance(value, Tensor):
        return {name: value}
    parts = [_leaves(f"{name}.{index}", part) for index, part in enumerate(value)]
    return {key: tensor for part in parts for key, tensor in part.items()}


def _structure(value: Hx) -> Structure:
    """None, "tensor", or ["tuple" or "list", structure of each part]: JSON has no tuples."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else "tensor"
    kind = "tuple" if isinstance(value, tuple) else "list"
    return [kind, *(_structure(part) for part in value)]


def _rebuild(
    name: str, structure: Structure, tensors: dict[str, Tensor], device: torch.device
) -> Hx:
    if structure is None:
        return None
    if isinstance(structure, str):
        return tensors[name].to(device)
    kind, *parts = structure
    rebuilt = [_rebuild(f"{name}.{i}", part, tensors, device) for i, part in enumerate(parts)]
    return tuple(rebuilt) if kind == "tuple" else rebuilt
