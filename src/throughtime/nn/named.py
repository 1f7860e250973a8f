"""Which layers replace torch.nn's? RNN, LSTM and GRU with its arguments, names and messages."""

from typing import Any, ClassVar, Unpack

import torch

from throughtime.cells import CATALOGUE
from throughtime.declare import Cell
from throughtime.declare.slots import Biases
from throughtime.errors import ConfigError
from throughtime.nn.options import Options
from throughtime.nn.recurrent import Recurrent

NONLINEARITIES = {"tanh": "rnn", "relu": "rnn_relu"}


def elman(nonlinearity: Any) -> Cell:
    """The plain recurrence with a nonlinearity, or an error that names the argument."""
    if nonlinearity not in NONLINEARITIES:
        raise ConfigError(
            f"nonlinearity={nonlinearity!r}; expected {' or '.join(map(repr, NONLINEARITIES))}."
        )
    return CATALOGUE[NONLINEARITIES[nonlinearity]]


class _DropIn(Recurrent):
    """What the three share: torch's two biases, and hooks that torch.nn's users know."""

    biases: ClassVar[Biases] = "two"

    @property
    def mode(self) -> str:
        """Torch's name of the recurrence: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU"."""
        return type(self).__name__


class RNN(_DropIn):
    """Drop-in for `torch.nn.RNN`: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu.

    Arguments in torch's order, then ours as in `Recurrent`, keyword-only.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        nonlinearity: "tanh" or "relu".
        bias, batch_first, dropout, bidirectional, device, dtype: As in torch.nn.RNN.
        options: Those of `Recurrent` that torch does not have, such as init and engine.

    Shape:
        As `Recurrent`; hx: [L * directions, B, H].

    Source:
        Elman 1990; torch.nn.RNN.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            elman(nonlinearity),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **options,
        )
        self.nonlinearity = nonlinearity

    @property
    def mode(self) -> str:
        """Torch's name of the recurrence."""
        return f"RNN_{self.nonlinearity.upper()}"


class LSTM(_DropIn):
    """Drop-in for `torch.nn.LSTM`; gates i, f, g, o.

        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);   h_t = sigmoid(o) tanh(c_t)

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias, batch_first, dropout, bidirectional, proj_size, device, dtype: As in torch.nn.LSTM.
        options: Those of `Recurrent` that torch does not have, such as init and engine.

    Shape:
        As `Recurrent`; hx: (h [L * directions, B, P or H], c [L * directions, B, H]).

    Source:
        Hochreiter & Schmidhuber 1997; forget gate Gers et al. 2000; torch.nn.LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            CATALOGUE["lstm_projection" if proj_size else "lstm"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            **options,
        )


class GRU(_DropIn):
    """Drop-in for `torch.nn.GRU`; gates r, z, n, the reset gate applied after the product.

        h_t = (1 - z) n + z h_{t-1};   n = tanh(W_in x + b_in + r (W_hn h_{t-1} + b_hn))

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias, batch_first, dropout, bidirectional, device, dtype: As in torch.nn.GRU.
        options: Those of `Recurrent` that torch does not have, such as init and engine.

    Shape:
        As `Recurrent`; hx: [L * directions, B, H].

    Source:
        Cho et al. 2014, arXiv:1406.1078; torch.nn.GRU. Differs: z keeps the past.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            CATALOGUE["gru"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **options,
        )


__all__ = ["GRU", "LSTM", "RNN", "elman"]
