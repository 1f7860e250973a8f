"""How do options become the objects that train?"""

from pathlib import Path
from typing import get_args

import torch

from throughtime.cells import CATALOGUE
from throughtime.declare import Cell
from throughtime.errors import ConfigError
from throughtime.models import LanguageModel
from throughtime.train.config import Device, ModelConfig, TrainConfig
from throughtime.train.optimise import make_optimiser
from throughtime.train.state import TrainingState

__all__ = ["find_cell", "free_folder", "make_model", "make_state", "resolve_device"]

# One-hot vectors of a hundred characters need no more room; measured no worse than 128.
_SMALL_EMBEDDING = 64


def find_cell(name: str) -> Cell:
    """The cell of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in CATALOGUE:
        raise ConfigError(f"cell is {name!r}; expected one of {', '.join(sorted(CATALOGUE))}.")
    return CATALOGUE[name]


def resolve_device(name: Device) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises:
        ConfigError: It is none of these, or `cuda` and torch sees no GPU.
    """
    if name not in get_args(Device):
        raise ConfigError(f"device is {name!r}; expected one of {', '.join(get_args(Device))}.")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError("device is 'cuda', but torch sees no GPU. Give --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and has_gpu else "cpu")


def make_model(config: ModelConfig, unit: str, vocabulary_size: int) -> LanguageModel:
    """A new model, its weights drawn from torch's generator.

    Raises:
        ConfigError: The cell is unknown, or sizes do not fit each other.
    """
    cell = find_cell(config.cell)
    is_small = unit in {"char", "byte"} and not config.tied
    return LanguageModel(
        cell,
        vocabulary_size,
        config.hidden,
        config.layers,
        embedding_size=config.embedding or (_SMALL_EMBEDDING if is_small else config.hidden),
        proj_size=_projection(cell, config),
        dropout=config.dropout,
        tied=config.tied,
        cutoffs=config.adaptive,
        engine=config.engine,
    )


def _projection(cell: Cell, config: ModelConfig) -> int:
    is_projected = any(state.width == "projection" for state in cell.states)
    return config.projection or (max(1, config.hidden // 2) if is_projected else 0)


def make_state(config: TrainConfig, vocabulary_size: int, device: torch.device) -> TrainingState:
    """The state before the first update; the seed alone decides its weights."""
    torch.manual_seed(config.run.seed)
    model = make_model(config.model, config.data.unit, vocabulary_size).to(device).train()
    return TrainingState(model, make_optimiser(config.optimiser, model.parameters()))


def free_folder(name: str, cell: str) -> Path:
    """The first of runs/NAME-CELL-1, runs/NAME-CELL-2, ... that is not there."""
    number = 1
    while (path := Path("runs") / f"{name}-{cell}-{number}").exists():
        number += 1
    return path
