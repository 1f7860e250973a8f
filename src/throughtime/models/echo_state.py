"""What can be learned from a recurrent network that never learns? A reservoir and its readout."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.cells import CATALOGUE
from throughtime.declare import Cell
from throughtime.declare.slots import slots
from throughtime.errors import ConfigError, DtypeError, ShapeError
from throughtime.models.language_model import Hx
from throughtime.nn import Recurrent
from throughtime.nn.arguments import check_input, check_size
from throughtime.nn.lengths import as_lengths

__all__ = ["EchoStateNetwork"]


class EchoStateNetwork(nn.Module):
    """A random recurrent layer that stays as drawn, and a linear readout found in closed form.

        h_t = tanh(U x_t + W h_{t-1} + b),    y_t = V [h_t; x_t] + c

    U, W and b are buffers. A share `connectivity` of the elements of W is drawn evenly from
    [-1, 1] and scaled to the spectral radius asked for, the others are zero; U and b are drawn
    evenly within +-`input_scale`. Only V and c are learned, by `fit`; before it they are zero.

    A reservoir is of use if it forgets where it started, so that h depends on the inputs alone
    (the echo state property). A largest singular value of W below one proves that for tanh; a
    spectral radius below one is the usual sign of it, and above one driven units may still have it.

    Args:
        input_size: I.
        hidden_size: H, units of the reservoir.
        output_size: O.
        spectral_radius: Largest absolute eigenvalue of W.
        input_scale: Size of U and b; larger is less linear and forgets faster.
        connectivity: Share of the elements of W that are not zero.
        cell: The recurrence, with one recurrent matrix W. `tt.leaky(cell, rate=0.3)` makes leaky
            integrators; the spectral radius is that of W, whatever leaks past it.
        engine: What runs the reservoir.

    Raises:
        ConfigError: an option is out of range, the cell has no or several recurrent matrices, or
            the matrix drawn has no cycle and cannot be scaled.

    Shape:
        x: [T, B, I]; y: [T, B, O]; hx: as the recurrent layer's

    Source:
        Jaeger 2001, "The echo state approach to analysing and training recurrent neural
        networks"; Lukoševičius 2012, "A practical guide to applying echo state networks";
        Goodfellow et al. 2016, sec. 10.8. Differs: y is not fed back.

    Example:
        >>> import torch
        >>> from throughtime.models import EchoStateNetwork
        >>> x = torch.rand(400, 1, 1)
        >>> three_steps_ago = x.roll(3, 0)
        >>> model = EchoStateNetwork(1, 50, 1, input_scale=0.2)
        >>> hx = model.fit(x[:300], three_steps_ago[:300], washout_steps=50)
        >>> y, hx = model(x[300:], hx)
        >>> bool((y - three_steps_ago[300:]).abs().max() < 0.05)
        True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        spectral_radius: float = 0.9,
        input_scale: float = 1.0,
        connectivity: float = 0.1,
        cell: Cell = CATALOGUE["rnn"],
        engine: str = "auto",
    ) -> None:
        super().__init__()
        self.spectral_radius = _check_number("spectral_radius", spectral_radius)
        self.input_scale = _check_number("input_scale", input_scale)
        self.connectivity = _check_number("connectivity", connectivity, most=1.0)
        check_size("output_size", output_size)
        self.reservoir = Recurrent(cell, input_size, hidden_size, engine=engine)
        self._matrix = f"{_recurrent_slot(cell)}_l0"
        for name, weight in list(self.reservoir.named_parameters()):
            delattr(self.reservoir, name)
            self.reservoir.register_buffer(name, weight.detach())
        self.readout = nn.Linear(self.reservoir.output_size + input_size, output_size)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw another reservoir, and forget the readout."""
        self.reservoir.reset_parameters()
        for slot in slots(self.reservoir.cell):
            weight = self.reservoir.get_buffer(f"{slot.name}_l0")
            nn.init.uniform_(weight, -self.input_scale, self.input_scale)
        self._draw(self.reservoir.get_buffer(self._matrix))
        for learned in self.readout.parameters():
            nn.init.zeros_(learned)

    def _draw(self, matrix: Tensor) -> None:
        drawn = torch.empty_like(matrix, dtype=torch.float64).uniform_(-1.0, 1.0)
        drawn *= torch.rand_like(drawn) < self.connectivity
        radius = float(torch.linalg.eigvals(drawn).abs().max())
        if radius == 0.0 and self.spectral_radius > 0.0:
            raise ConfigError(
                f"connectivity={self.connectivity} left the {len(matrix)} units without a cycle, "
                f"so no spectral_radius can be given to them; expected more connections or units."
            )
        matrix.copy_(drawn * (self.spectral_radius / radius if radius else 0.0))

    def forward(self, x: Tensor, hx: Hx = None, *, lengths: Any = None) -> tuple[Tensor, Hx]:
        """The predictions, zero past a row's length, and the state to carry on.

        Args:
            x: The inputs.
            hx: The state before the first step, as an earlier call returned it.
            lengths: Real steps of each row.

        Raises:
            ShapeError, DtypeError, DeviceError: an argument does not fit.
        """
        features, hx, real = self._features(x, hx, lengths)
        y = self.readout(features)
        return y if real is None else torch.where(real[..., None], y, 0.0), hx

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        y: Tensor,
        hx: Hx = None,
        *,
        washout_steps: int = 100,
        ridge: float = 1e-6,
        lengths: Any = None,
    ) -> Hx:
        """Set the readout to the ridge regression of y on the states, in float64.

            V, c = argmin  sum_t |V [h_t; x_t] + c - y_t|^2 + ridge |V|^2

        Args:
            x: The inputs.
            y: What to predict at each step.
            hx: The state before the first step.
            washout_steps: Steps at the start of each row that are run but not fitted, while the
                reservoir forgets where it started.
            ridge: Weight of the penalty; 0 takes the shortest V among the best.
            lengths: Real steps of each row.

        Returns:
            The state after the last step, to predict on from.

        Raises:
            ShapeError, DtypeError, DeviceError, ConfigError: an argument does not fit, no step is
                left, or a value that counts is not finite.
        """
        _check_number("ridge", ridge)
        check_size("washout_steps", washout_steps, least=0)
        features, hx, real = self._features(x, hx, lengths)
        self._check_target(x, y)
        counted = torch.arange(len(x), device=x.device)[:, None] >= washout_steps
        counted = counted.expand(x.shape[:2]) if real is None else counted & real
        if not counted.any():
            raise ConfigError(
                f"washout_steps={washout_steps} leaves no step to fit: x has T={len(x)} and "
                f"{x.shape[1]} rows; expected a smaller washout or longer rows."
            )
        weight, bias = _ridge(features[counted].double(), y[counted].double(), ridge)
        self.readout.weight.copy_(weight)
        self.readout.bias.copy_(bias)
        return hx

    def _features(self, x: Tensor, hx: Hx, lengths: Any) -> tuple[Tensor, Hx, Tensor | None]:
        """What the readout sees, [T, B, H + I], the last state, and which steps are real."""
        check_input("EchoStateNetwork", x, {3: "[T, B, I]"}, self.reservoir.input_size)
        lengths = as_lengths(lengths, x, validate=False)
        states, hx = self.reservoir(x, hx, lengths=lengths)
        features = torch.cat([states, x], -1)
        if lengths is None:
            return features, hx, None
        real = torch.arange(len(x), device=x.device)[:, None] < lengths
        return torch.where(real[..., None], features, 0.0), hx, real

    def _check_target(self, x: Tensor, y: Any) -> None:
        if not isinstance(y, Tensor) or not y.dtype.is_floating_point:
            kind = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise DtypeError(f"y is {kind}; expected a floating-point tensor [T, B, O].")
        expected = [*x.shape[:2], self.readout.out_features]
        if list(y.shape) != expected:
            raise ShapeError(f"y has shape {list(y.shape)}; expected [T, B, O], {expected}.")

    def extra_repr(self) -> str:
        """How the reservoir was drawn."""
        return (
            f"spectral_radius={self.spectral_radius}, input_scale={self.input_scale}, "
            f"connectivity={self.connectivity}"
        )


def _ridge(features: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The readout's matrix [O, F] and bias [O], from the normal equations of centred values."""
    mean, level = features.mean(0), y.mean(0)
    centred = features - mean
    # A matrix of F x F is solved on the CPU, where the driver that bears a singular one exists.
    gram, moments = (centred.T @ centred).cpu(), (centred.T @ (y - level)).cpu()
    if not (torch.isfinite(gram).all() and torch.isfinite(moments).all()):
        raise ConfigError(
            "x, hx or y holds values that are not finite; expected numbers at every step that is "
            "fitted, and before it."
        )
    gram.diagonal().add_(ridge)
    weight = torch.linalg.lstsq(gram, moments, driver="gelsd").solution.T.to(y.device)
    return weight, level - weight @ mean


def _check_number(name: str, value: float, most: float = math.inf) -> float:
    if not 0.0 <= value <= most or math.isinf(value):
        limit = "zero or more" if math.isinf(most) else f"from 0 to {most:g}"
        raise ConfigError(f"{name}={value}; expected a number, {limit}.")
    return float(value)


def _recurrent_slot(cell: Cell) -> str:
    """The name of a cell's only recurrent matrix."""
    found = [slot for slot in slots(cell) if slot.name.startswith("weight_hh")]
    if len(found) != 1 or len(found[0].pieces) != 1:
        gates = sum(len(slot.pieces) for slot in found)
        raise ConfigError(
            f"cell {cell.name} has {gates} recurrent matrices; expected one, whose spectral radius "
            f"can be set, such as rnn or tt.leaky(rnn, rate=0.3) has."
        )
    return found[0].name
