"""What does a layer start from? Initialisers, as data, that go on top of torch's.

    Identity         recurrent blocks c I, biases 0                 Le et al. 2015
    Orthogonal       recurrent blocks with Q'Q = I                  Saxe et al. 2014
    SpectralRadius   recurrent blocks of a spectral radius          Jaeger 2001; Pascanu et al. 2013
    Normal           all matrices N(0, std), biases 0
    Chrono           gates that keep for t_min to t_max steps       Tallec & Ollivier 2018
    ForgetBias       gates that keep by a bias                      Gers et al. 2000

A *block* is one gate's rows of a recurrent matrix. Which gates keep a state is read off the graph
(`declare.roles`), so Chrono raises an LSTM's f and lowers the z of the notes' GRU. Where a gate
has two biases, which are added, the first gets the value and the second 0.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from throughtime.declare.roles import Role, Roles, roles
from throughtime.errors import ConfigError, DtypeError
from throughtime.nn.layer_tensors import LayerTensors

__all__ = [
    "Chrono",
    "ForgetBias",
    "Glorot",
    "Identity",
    "Initialiser",
    "LayerTensors",
    "Normal",
    "Orthogonal",
    "SpectralRadius",
    "as_init",
    "fill",
    "parse_init",
]


@runtime_checkable
class Initialiser(Protocol):
    """Fills some tensors of a layer and leaves the others as they are."""

    def apply(self, layer: LayerTensors) -> None:
        """Fill them, without gradient."""
        ...


def _check_number(one: object, name: str, least: float = -math.inf) -> None:
    """Refuse a field of an initialiser that is no finite number, or below `least`."""
    value = getattr(one, name)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        limit = f" from {least:g}" if math.isfinite(least) else ""
        raise ConfigError(
            f"{type(one).__name__}: {name}={value!r}; expected a finite number{limit}."
        )


@dataclass(frozen=True)
class Identity:
    """Every square recurrent block is scale * I, every bias 0.

    Source:
        Le et al. 2015, arXiv:1504.00941, for relu units. Differs: input matrices stay torch's.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "scale")

    def apply(self, layer: LayerTensors) -> None:
        """Fill the square recurrent blocks and the biases."""
        for block in layer.recurrent_blocks(self, square=True):
            nn.init.eye_(block).mul_(self.scale)
        for bias in layer.biases():
            bias.zero_()


@dataclass(frozen=True)
class Orthogonal:
    """Every recurrent block is gain times a random matrix with orthonormal rows or columns.

    Source:
        Saxe et al. 2014, arXiv:1312.6120. Differs: a matrix for each gate.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "gain")

    def apply(self, layer: LayerTensors) -> None:
        """Fill the recurrent blocks."""
        for block in layer.recurrent_blocks(self):
            drawn = torch.empty(block.shape, dtype=torch.float64)  # QR knows no half precision
            block.copy_(nn.init.orthogonal_(drawn, self.gain))


@dataclass(frozen=True)
class SpectralRadius:
    """Every square recurrent block is normal, perhaps sparse, and scaled to a spectral radius.

    Attributes:
        radius: The largest absolute eigenvalue.
        nonzeros: How many units each unit sends to; None, or more than there are, means all.

    Source:
        Jaeger 2001; Pascanu et al. 2013, arXiv:1211.5063, "smart tanh": radius 0.95, and 15
        non-zeros, which are a unit's outgoing weights in the authors' code as here.
    """

    radius: float
    nonzeros: int | None = None

    def __post_init__(self) -> None:
        _check_number(self, "radius", 0.0)
        if self.nonzeros is not None and (type(self.nonzeros) is not int or self.nonzeros < 1):
            raise ConfigError(
                f"SpectralRadius: nonzeros={self.nonzeros!r}; expected a whole number from 1."
            )

    def apply(self, layer: LayerTensors) -> None:
        """Fill the square recurrent blocks."""
        for block in layer.recurrent_blocks(self, square=True):
            block.copy_(self._drawn(block.shape[0]))

    def _drawn(self, units: int) -> Tensor:
        drawn = torch.randn(units, units, dtype=torch.float64)
        if self.nonzeros is not None and self.nonzeros < units:
            order = torch.rand(units, units).argsort(0)  # in each column one of its own
            drawn[order >= self.nonzeros] = 0.0
        # Each unit sends to one at least, so there is a cycle, and an eigenvalue that is not 0.
        return drawn * (self.radius / torch.linalg.eigvals(drawn).abs().max())


@dataclass(frozen=True)
class Normal:
    """Every matrix is N(0, std), every bias 0.

    Source:
        Pascanu et al. 2013, arXiv:1211.5063: std 0.01 for sigmoid units, 0.1 for tanh.
    """

    std: float

    def __post_init__(self) -> None:
        _check_number(self, "std", 0.0)

    def apply(self, layer: LayerTensors) -> None:
        """Fill all matrices and biases."""
        for matrix in layer.matrices():
            matrix.normal_(0.0, self.std)
        for bias in layer.biases():
            bias.zero_()


@dataclass(frozen=True)
class Glorot:
    """Each gate's matrices are uniform in gain * [-b, b], b = sqrt(6 / (fan in + fan out)).

    Biases are 0. torch's own weights are smaller: through layers the signals, and the errors
    that come back, shrink at first, and a stack stays long where a model without memory is.

    Source:
        Glorot & Bengio 2010, eq. 16. Differs: a matrix for each gate, recurrent ones too; with
        Orthogonal behind it these are as in Keras.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "gain")

    def apply(self, layer: LayerTensors) -> None:
        """Fill all matrices and biases."""
        for block in layer.matrix_blocks():
            nn.init.xavier_uniform_(block, self.gain)
        for bias in layer.biases():
            bias.zero_()


@dataclass(frozen=True)
class Chrono:
    """Each unit starts with a memory of its own length, about t_min to t_max steps.

        b_keep = log u,  b_write = -b_keep,  u ~ U[t_min, t_max - 1]

    A unit whose gate sees the bias alone keeps u / (1 + u) of its state, so 1 + u steps is its
    time constant. Other gates, matrices and the rest stay as they are.

    Attributes:
        t_max: The longest time constant, in steps.
        t_min: One step less than the shortest.

    Source:
        Tallec & Ollivier 2018, arXiv:1804.11188, sec. 2. Differs: for every cell with a gate that
        keeps; where one state passes several such gates in a step, each gets its own draw.
    """

    t_max: float
    t_min: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "t_max")
        _check_number(self, "t_min")
        if not 0.0 < self.t_min <= self.t_max - 1.0:
            raise ConfigError(
                f"Chrono: t_max={self.t_max!r} and t_min={self.t_min!r}; expected "
                f"0 < t_min <= t_max - 1, in steps."
            )

    def apply(self, layer: LayerTensors) -> None:
        """Fill the biases of the gates that keep or write a state."""
        for role in _gated(self, layer):
            u = torch.empty(_offsets(self, layer, role.keep[0])[0].shape, dtype=torch.float64)
            bias = u.uniform_(self.t_min, self.t_max - 1.0).log()
            for gate in role.write:
                _set_bias(self, layer, gate, -bias)
            for gate in role.keep:
                _set_bias(self, layer, gate, bias)


@dataclass(frozen=True)
class ForgetBias:
    """Gates that keep a state start with this bias, so that they are open for value > 0.

    Source:
        Gers et al. 2000; value 1: Jozefowicz et al. 2015. Differs: for every cell with a gate
        that keeps; one that keeps by being small gets -value.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _check_number(self, "value")

    def apply(self, layer: LayerTensors) -> None:
        """Fill the biases of the gates that keep a state."""
        for role in _gated(self, layer):
            for gate in role.keep:
                _set_bias(self, layer, gate, torch.tensor(self.value))


def _gated(wanted_by: object, layer: LayerTensors) -> list[Roles]:
    """The states that a gate keeps, or an error."""
    found = [role for role in roles(layer.job.cell).values() if role.keep]
    if not found:
        raise ConfigError(
            f"init={wanted_by}: {layer.job.cell.name} has no gate that keeps a state; leave it "
            f"out, or take a cell that has one, such as lstm or gru."
        )
    return found


def _offsets(wanted_by: object, layer: LayerTensors, role: Role) -> list[Tensor]:
    found = layer.offsets(role[0])
    if not found:
        raise ConfigError(
            f"init={wanted_by}: gate {role[0]!r} of {layer.job.cell.name} has no bias here to "
            f"set; take bias=True and a cell whose gates have biases."
        )
    return found


def _set_bias(wanted_by: object, layer: LayerTensors, role: Role, value: Tensor) -> None:
    """Make a gate's biases add up to a value, given for a gate that acts where it is large."""
    first, *others = _offsets(wanted_by, layer, role)
    first.copy_((role[1] * value).expand(first.shape))
    for other in others:
        other.zero_()


PRESETS: dict[str, tuple[Initialiser, ...]] = {
    "pascanu-sigmoid": (Normal(0.01),),
    "pascanu-tanh": (Normal(0.1),),
    "pascanu-smart": (Normal(0.01), SpectralRadius(0.95, 15)),
}
_KINDS: dict[str, tuple[Callable[..., Initialiser], str]] = {
    "identity": (Identity, "identity[:SCALE]"),
    "glorot": (Glorot, "glorot[:GAIN]"),
    "orthogonal": (Orthogonal, "orthogonal[:GAIN]"),
    "spectral": (SpectralRadius, "spectral:RADIUS[:NONZEROS]"),
    "normal": (Normal, "normal:STD"),
    "chrono": (Chrono, "chrono:T_MAX[:T_MIN]"),
    "forget": (ForgetBias, "forget[:BIAS]"),
}


def parse_init(text: str) -> tuple[Initialiser, ...]:
    """Read initialisers from text.

    Args:
        text: Names with numbers behind colons, separated by commas: "orthogonal,forget:1".

    Returns:
        The initialisers, in order.

    Raises:
        ConfigError: no such text; the message lists what there is.

    Source:
        The names "pascanu-sigmoid", "pascanu-tanh" and "pascanu-smart": Pascanu et al. 2013,
        arXiv:1211.5063, sec. 4.1. Differs: there also of what reads the layer's output.

    Example:
        >>> parse_init("chrono:100")
        (Chrono(t_max=100, t_min=1.0),)
    """
    return tuple(one for part in text.split(",") for one in _parsed(text, part.strip()))


def _parsed(text: str, part: str) -> tuple[Initialiser, ...]:
    name, *values = part.split(":")
    if name in PRESETS and not values:
        return PRESETS[name]
    if name not in _KINDS:
        forms = ", ".join([*(form for _, form in _KINDS.values()), *PRESETS])
        raise ConfigError(f"init={text!r}: {part!r} is none; expected {forms}.")
    kind, form = _KINDS[name]
    try:
        return (kind(*map(_number, values)),)
    except (TypeError, ValueError) as error:
        reason = f" {error}" if isinstance(error, ConfigError) else ""
        raise ConfigError(f"init={text!r}: {part!r} does not fit {form}.{reason}") from None


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def as_init(init: Any) -> tuple[Initialiser, ...]:
    """The initialisers that a layer is given: None, one, several in order, or their text.

    Raises:
        DtypeError: something else came.
        ConfigError: a text that names none.
    """
    if init is None:
        return ()
    if isinstance(init, str):
        return parse_init(init)
    found = tuple(init) if isinstance(init, Sequence) else (init,)
    for one in found:
        if not isinstance(one, Initialiser) or isinstance(one, type):
            raise DtypeError(
                f"init has {one!r}; expected None, an initialiser such as "
                f"throughtime.nn.init.Orthogonal(), a sequence of them, or text such as "
                f"'orthogonal,forget:1'."
            )
    return found


def fill(init: Sequence[Initialiser], layer: LayerTensors) -> None:
    """Fill a layer's tensors, one initialiser after the other."""
    with torch.no_grad():
        for one in init:
            one.apply(layer)
