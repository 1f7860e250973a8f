"""Which modules take a single step? RNNCell, LSTMCell and GRUCell, as in torch.nn."""

from typing import Any

import torch
from torch import Tensor, nn

from throughtime import engine as engines
from throughtime.cells import CATALOGUE
from throughtime.declare import Cell
from throughtime.declare.slots import Sizes
from throughtime.engine.dispatch import check_name
from throughtime.errors import DeviceError, DtypeError, ShapeError
from throughtime.nn.arguments import (
    autocast_products,
    check_input,
    check_layers,
    check_options,
    check_same_kind,
)
from throughtime.nn.init import as_init, fill
from throughtime.nn.layer_tensors import LayerTensors
from throughtime.nn.named import elman
from throughtime.nn.parameters import names_of, register
from throughtime.nn.plain import plain_step
from throughtime.nn.runs import PRODUCT_DTYPES


class _SingleStep(nn.Module):
    """One step of a cell of torch's, with torch's parameter names."""

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: Any,
        dtype: torch.dtype | None,
        engine: str,
        init: Any,
    ) -> None:
        super().__init__()
        check_layers(cell, input_size, hidden_size, 1, 0)
        check_options({"bias": bias}, 0.0, dtype)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.cell, self.engine, self.init = cell, check_name(engine), as_init(init)
        sizes, biases = (Sizes(input_size, hidden_size, hidden_size), "two" if bias else "none")
        self._jobs = {p: engines.Job(cell, sizes, biases, products=p) for p in PRODUCT_DTYPES}
        self._prepare()
        self._names = names_of(cell, biases, "", learned=False)
        like = torch.empty(0, device=device, dtype=dtype)
        register(self, cell, sizes, biases, self._names, like)
        self.reset_parameters()

    def _prepare(self) -> None:
        """Plan every job now, so that torch.compile need not trace the planning."""
        for job in self._jobs.values():
            engines.prepare(job)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Prepare a copied or loaded module as a new one is."""
        super().__setstate__(state)
        self._prepare()

    def reset_parameters(self) -> None:
        """Initialise evenly in +-1/sqrt(H), as torch; then as `init` says."""
        weights = tuple(getattr(self, name) for name in self._names.weights)
        for weight in weights:
            nn.init.uniform_(weight, -(self.hidden_size**-0.5), self.hidden_size**-0.5)
        fill(self.init, LayerTensors(self._jobs[None], weights, {}))

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults."""
        bias = "" if self.bias else ", bias=False"
        init = f", init={self.init!r}" if self.init else ""
        return f"{self.input_size}, {self.hidden_size}{bias}{init}"

    def _step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """The next states; x [B, I] or [I], states alike."""
        own = vars(self)
        size, job, names = own["hidden_size"], own["_jobs"][None], own["_names"].weights
        found = plain_step(self, job, names, x, states, (own["input_size"], size))
        return self._unusual_step(x, states) if found is None else found

    def _unusual_step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """As `_step`, for whatever may have come."""
        name = type(self).__name__
        weights = tuple(getattr(self, n) for n in self._names.weights)
        check_input(name, x, {1: "[I]", 2: "[B, I]"}, self.input_size)
        products = autocast_products(x, weights[0])
        check_same_kind(name, x, weights[0], autocast=products is not None)
        rows = x.unsqueeze(0) if x.dim() == 1 else x
        shape = (*x.shape[:-1], self.hidden_size)
        like = weights[0]
        given = tuple(
            _checked(s, f"hx[{i}]" if len(states) > 1 else "hidden", shape, like, products)
            for i, s in enumerate(states)
        )
        lifted = tuple(s.reshape(1, rows.shape[0], self.hidden_size) for s in given)
        inputs = engines.Inputs(rows.unsqueeze(0), lifted, (), weights, (), ())
        _, *new = engines.run(self._jobs[products], inputs, self.engine)
        return tuple(s.reshape(shape) for s in new)


def _checked(
    state: Any, what: str, shape: tuple[int, ...], like: Tensor, products: str | None
) -> Tensor:
    """A given state in the right kind, or zeros."""
    hx = what if what.startswith("hx") else "hx"
    if state is None:
        return like.new_zeros(shape)
    if not isinstance(state, Tensor):
        raise DtypeError(f"{hx} is a {type(state).__name__}; expected a tensor {list(shape)}.")
    if tuple(state.shape) != shape:
        raise ShapeError(f"{_misfit(state, what, shape)} ({hx} has shape {list(state.shape)}).")
    if state.dtype != like.dtype and not (products and state.dtype.is_floating_point):
        raise DtypeError(f"{hx} has dtype {state.dtype}; expected {like.dtype}, the weights'.")
    if state.device != like.device:
        raise DeviceError(f"{hx} is on {state.device}; expected {like.device}, where x is.")
    return state.to(like.dtype)


def _misfit(state: Tensor, what: str, shape: tuple[int, ...]) -> str:
    """Why a state does not fit, in torch's words."""
    if state.dim() not in {1, 2}:
        return f"Expected {what} to be 1D or 2D, got {state.dim()}D instead"
    i = what[3:-1] if what.startswith("hx") else 0  # torch counts them hidden0, hidden1
    if state.dim() == len(shape) and state.shape[-1] == shape[-1]:
        return f"Input batch size {shape[0]} doesn't match hidden{i} batch size {state.shape[0]}"
    if state.dim() == len(shape):
        got, expected = state.shape[-1], shape[-1]
        return f"hidden{i} has inconsistent hidden_size: got {got}, expected {expected}"
    return f"Expected {what} of shape {list(shape)}, got {list(state.shape)}"


class RNNCell(_SingleStep):
    """Drop-in for `torch.nn.RNNCell`: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    Shape:
        input: [B, I] or [I]; hx and the result: [B, H] or [H]

    Source:
        Elman 1990; torch.nn.RNNCell.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        engine: str = "auto",
        init: Any = None,
    ) -> None:
        cell = elman(nonlinearity)
        super().__init__(cell, input_size, hidden_size, bias, device, dtype, engine, init)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """The sizes, and what differs from the defaults."""
        relu = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + relu

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next hidden state; hx is zeros if None."""
        return self._step(input, (hx,))[0]


class GRUCell(_SingleStep):
    """Drop-in for `torch.nn.GRUCell`; gates r, z, n as in `GRU`.

    Shape:
        input: [B, I] or [I]; hx and the result: [B, H] or [H]

    Source:
        Cho et al. 2014, arXiv:1406.1078; torch.nn.GRUCell. Differs: z keeps the past.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        engine: str = "auto",
        init: Any = None,
    ) -> None:
        super().__init__(
            CATALOGUE["gru"], input_size, hidden_size, bias, device, dtype, engine, init
        )

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next hidden state; hx is zeros if None."""
        return self._step(input, (hx,))[0]


class LSTMCell(_SingleStep):
    """Drop-in for `torch.nn.LSTMCell`; gates i, f, g, o as in `LSTM`.

    Shape:
        input: [B, I] or [I]; hx and the result: (h, c), each [B, H] or [H]

    Source:
        Hochreiter & Schmidhuber 1997; Gers et al. 2000; torch.nn.LSTMCell.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        engine: str = "auto",
        init: Any = None,
    ) -> None:
        super().__init__(
            CATALOGUE["lstm"], input_size, hidden_size, bias, device, dtype, engine, init
        )

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next hidden and cell state; hx is zeros if None."""
        if hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            kind = f"a {type(hx).__name__}" + (
                f" of shape {list(hx.shape)}" if isinstance(hx, Tensor) else ""
            )
            raise DtypeError(f"LSTMCell: hx is {kind}; expected a tuple of two tensors, (h, c).")
        h, c = self._step(input, tuple(hx) if hx is not None else (None, None))
        return h, c
