"""How are layers that exist given another start? Initialisers on top of the weights they have."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from throughtime.errors import ConfigError
from throughtime.nn.init import Initialiser, as_init, fill
from throughtime.nn.layer_tensors import LayerTensors
from throughtime.nn.masks import used
from throughtime.nn.named import GRU, LSTM, RNN
from throughtime.nn.recurrent import Recurrent
from throughtime.nn.runs import layer_tensors
from throughtime.nn.single import GRUCell, LSTMCell, RNNCell

__all__ = ["restart"]

_LAYERS = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}
_CELLS = {nn.RNNCell: RNNCell, nn.LSTMCell: LSTMCell, nn.GRUCell: GRUCell}
_OWN_CELLS = (RNNCell, LSTMCell, GRUCell)


@torch.no_grad()
def restart(module: nn.Module, init: Any) -> list[str]:
    """Apply initialisers to all recurrent layers within a module, ours and torch's, in place.

    What an initialiser does not set stays as it is: Chrono sets the biases of the gates that keep
    and write, Orthogonal the recurrent matrices.

    Args:
        module: A layer, or a model with layers anywhere in it.
        init: As of `Recurrent`.

    Returns:
        The names of the layers that were changed.

    Raises:
        ConfigError: There is no recurrent layer, or one cannot take the initialiser.

    Example:
        >>> import torch, throughtime as tt
        >>> lstm = torch.nn.LSTM(3, 4)
        >>> restart(torch.nn.Sequential(lstm), "chrono:50")
        ['0']
        >>> bool((lstm.bias_ih_l0[4:8] >= 0).all())
        True
    """
    initialisers = as_init(init)
    kinds = (Recurrent, *_OWN_CELLS, *_LAYERS, *_CELLS)
    found = [(name, part) for name, part in module.named_modules() if isinstance(part, kinds)]
    if not found:
        raise ConfigError(
            f"{type(module).__name__} has no recurrent layer of ours or of torch.nn to start anew."
        )
    for _, part in found:
        _restart(part, initialisers)
    return [name or type(part).__name__ for name, part in found]


def _restart(part: nn.Module, init: Sequence[Initialiser]) -> None:
    if isinstance(part, Recurrent):
        _restart_layers(part, init)
    elif isinstance(part, _OWN_CELLS):
        _restart_cell(part, init)
    else:
        twin = _twin(part)
        twin.load_state_dict(part.state_dict())
        _restart(twin, init)
        part.load_state_dict(twin.state_dict())


def _restart_layers(layers: Recurrent, init: Sequence[Initialiser]) -> None:
    for run in layers._runs:  # pyright: ignore[reportPrivateUsage] (of this package)
        fill(init, layer_tensors(layers, layers.cell, run))
        for name, parts in run.masks.items():
            weight = getattr(layers, name)
            weight.copy_(used(layers, weight, parts))


def _restart_cell(cell: Any, init: Sequence[Initialiser]) -> None:
    weights = tuple(getattr(cell, name) for name in cell._names.weights)
    fill(init, LayerTensors(cell._jobs[None], weights, {}))


def _twin(part: Any) -> nn.Module:
    """Our layer with the sizes and the tensors' names of one of torch's."""
    like = next(iter(part.parameters()))
    sizes = {"bias": part.bias, "device": like.device, "dtype": like.dtype}
    if hasattr(part, "nonlinearity"):
        sizes["nonlinearity"] = part.nonlinearity
    # Its own weights are drawn for nothing: nobody's random numbers are to be used up by that.
    with torch.random.fork_rng(devices=[]):
        for theirs, ours in _CELLS.items():
            if isinstance(part, theirs):
                return ours(part.input_size, part.hidden_size, **sizes)
        ours = next(ours for theirs, ours in _LAYERS.items() if isinstance(part, theirs))
        if part.proj_size:
            sizes["proj_size"] = part.proj_size
        return ours(
            part.input_size,
            part.hidden_size,
            part.num_layers,
            bidirectional=part.bidirectional,
            **sizes,
        )
