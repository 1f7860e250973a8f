"""How do options become the objects that train?"""

from pathlib import Path
from typing import Any, get_args

import torch

from throughtime.cells.notation import parse_cell
from throughtime.declare import Cell
from throughtime.errors import ConfigError
from throughtime.models import LanguageModel, SequenceModel
from throughtime.nn.init import parse_init
from throughtime.tasks.task import Task
from throughtime.train.config import Device, ModelConfig

__all__ = ["free_folder", "make_language_model", "make_sequence_model", "resolve_device"]

# One-hot vectors of a hundred characters need no more room; measured no worse than 128.
_SMALL_EMBEDDING = 64


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


def make_language_model(config: ModelConfig, unit: str, vocabulary_size: int) -> LanguageModel:
    """A new model of a text, its weights drawn from torch's generator.

    Raises:
        ConfigError: The cell is unknown, or sizes do not fit each other.
    """
    assert config.hidden is not None, "settled before"
    is_small = unit in {"char", "byte"} and not config.tied
    return LanguageModel(
        parse_cell(config.cell),
        vocabulary_size,
        config.hidden,
        config.layers,
        embedding_size=config.embedding or (_SMALL_EMBEDDING if is_small else config.hidden),
        embedding_range=config.embedding_range,
        tied=config.tied,
        cutoffs=config.adaptive,
        dropout=config.dropout or 0.0,
        **_layer_options(config),
    )


def make_sequence_model(config: ModelConfig, task: Task) -> SequenceModel:
    """A new model of a task: weights from torch's generator, the output bias from the task.

    Raises:
        ConfigError: The cell is unknown, or sizes do not fit each other.
    """
    assert config.hidden is not None, "settled before"
    model = SequenceModel(
        parse_cell(config.cell),
        task.input_size,
        task.output_size,
        config.hidden,
        config.layers,
        answer=task.answer,
        dropout=config.dropout or 0.0,
        **_layer_options(config),
    )
    bias = task.output_bias()
    if bias is not None:
        with torch.no_grad():
            model.head.bias.copy_(torch.from_numpy(bias))
    return model


def _layer_options(config: ModelConfig) -> dict[str, Any]:
    """What `Recurrent` is told besides its sizes."""
    return {
        "proj_size": _projection(parse_cell(config.cell), config),
        "engine": config.engine,
        "init": tuple(one for text in config.init for one in parse_init(text)) or None,
        "connections": config.connections,
        "weight_drop": config.weight_drop,
        "activation_l1": config.activation_l1,
        "omega": config.omega,
    }


def _projection(cell: Cell, config: ModelConfig) -> int:
    is_projected = any(state.width == "projection" for state in cell.states)
    return config.projection or (max(1, (config.hidden or 0) // 2) if is_projected else 0)


def free_folder(name: str, cell: str) -> Path:
    """The first of runs/NAME-CELL-1, runs/NAME-CELL-2, ... that is not there."""
    number, slug = 1, "".join(c if c.isalnum() else "-" for c in cell).strip("-")
    while (path := Path("runs") / f"{name}-{slug}-{number}").exists():
        number += 1
    return path
