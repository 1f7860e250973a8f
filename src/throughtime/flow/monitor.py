"""How far back does a model learn while it trains? A gauge, read now and then.

At an update that is due, hooks keep what the recurrent modules read, and the error that comes back
to what they gave. They change nothing: the update is the same to the bit. After the backward pass a
few rows of every module are run again under the instrument (`flow.capture`), with the error that
came as their loss.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import ConfigError
from throughtime.flow.backward import arrivals
from throughtime.flow.lags import Lags, chosen_steps
from throughtime.flow.overheard import Overheard, overhearing
from throughtime.flow.passage import Passage
from throughtime.flow.threads import fitting_threads
from throughtime.flow.torch_modules import CELLS, LAYERS
from throughtime.nn.stack import Stack

__all__ = ["Monitor", "Reading"]

_STARTS = 4  # steps whose errors are followed; a diagnosis follows 32


@dataclass(frozen=True)
class Reading:
    """What the gauge showed of one layer after an update.

    Attributes:
        update: Updates before it.
        layer: Its name in the model.
        horizon_steps: The largest lag at which the median error is 1 % of that at lag 0 or more.
        is_horizon_beyond: Whether it is so at the largest lag there is.
        lags: At which lags the error was read.
        error_at_lags: The median share of its value at lag 0 that is left there.
        clipped_share: Of the updates since the last reading; None if nothing was noted.
    """

    update: int
    layer: str
    horizon_steps: int
    is_horizon_beyond: bool
    lags: list[int]
    error_at_lags: list[float]
    clipped_share: float | None = None


class Monitor:
    """A light gauge of how far back a model learns, for any training loop.

    Put each update's forward and backward pass into `with monitor:`. It is read after 200 updates
    or 10 s, whichever is first, but never so often that it takes more than `most_share` of the
    time. `print(monitor)` shows the last reading and what it cost.

    Args:
        model: The model that trains.
        lags: At which the error is noted.
        every_updates: After so many updates it is read.
        every_s: Or after so many seconds.
        rows: Rows of the batch that are followed.
        most_share: Of the time that it may take.
        clip_norm: What gradients are clipped to, for the share that is; see `noted`.
        window_steps, state_carried: Of the loop, as in `Training`, for `diagnose(training=)`.
        told: Called with each reading.

    Raises:
        ConfigError: The model has no recurrent module, or a number is not positive.

    Example:
        >>> import torch, throughtime as tt
        >>> model = torch.nn.LSTM(3, 8)
        >>> monitor = tt.Monitor(model, lags=(1, 4))
        >>> with monitor:
        ...     model(torch.randn(12, 2, 3))[0].square().mean().backward()
        >>> monitor.readings[-1].layer
        'LSTM'
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lags: Sequence[int] = (1, 4, 16, 64, 256),
        every_updates: int = 200,
        every_s: float = 10.0,
        rows: int = 4,
        most_share: float = 0.05,
        clip_norm: float | None = None,
        window_steps: int | None = None,
        state_carried: bool | None = None,
        told: Callable[[list[Reading]], None] | None = None,
    ) -> None:
        for name, value in (("every_updates", every_updates), ("every_s", every_s), ("rows", rows)):
            if not value > 0:
                raise ConfigError(f"{name} is {value}; expected a number above 0.")
        self._modules = recurrent_modules(model)
        self.lags, self.rows = tuple(lags), rows
        self.every_updates, self.every_s, self.most_share = every_updates, every_s, most_share
        self.clip_norm, self.window_steps, self.state_carried = (
            clip_norm, window_steps, state_carried
        )  # fmt: skip
        self.told = told
        self.readings: list[Reading] = []
        self.gradient_norms: list[float] = []
        self.updates = 0
        self.cost_s = 0.0
        self._norms_read = 0
        self._begun_s = self._read_s = time.perf_counter()
        self._read_update: int | None = None
        self._last_cost_s = 0.0
        self._heard: list[Overheard] = []
        self._open: Any = None

    @property
    def is_due(self) -> bool:
        """Whether the next update is to be read."""
        if self._read_update is None:
            return True
        now_s = time.perf_counter()
        is_late = (
            self.updates - self._read_update >= self.every_updates
            or now_s - self._read_s >= self.every_s
        )
        affordable_s = self.most_share * (now_s - self._begun_s)
        return is_late and self.cost_s + self._last_cost_s <= affordable_s

    def __enter__(self) -> "Monitor":
        """Begin an update."""
        if self.is_due:
            begun_s = time.perf_counter()
            self._open = overhearing(self._modules)
            self._heard = self._open.__enter__()
            self._last_cost_s = time.perf_counter() - begun_s
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """End it, after its backward pass."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.__exit__(kind, *rest)
            if kind is None:
                self._read()
            self._heard = []
        self.updates += 1

    def noted(self, gradient_norm: Tensor | float) -> None:
        """Note the joint norm of an update's gradients, before clipping."""
        self.gradient_norms.append(float(gradient_norm))

    def _read(self) -> None:
        begun_s = time.perf_counter()
        found: list[Reading] = []
        with torch.random.fork_rng(_devices(self._modules)):
            for heard in self._heard:
                with fitting_threads(heard.module):
                    found += [self._reading(passage) for passage in heard.passages(self.rows)]
        self._norms_read = len(self.gradient_norms)
        self._read_update, self._read_s = self.updates, time.perf_counter()
        self._last_cost_s += self._read_s - begun_s
        self.cost_s += self._last_cost_s
        self.readings += found
        if self.told is not None and found:
            self.told(found)

    @torch.no_grad()
    def _reading(self, passage: Passage) -> Reading:
        starts = chosen_steps(passage, _STARTS)
        lags = Lags(passage, starts)
        for arrival in arrivals(passage, starts):
            lags.add(arrival)
        found = lags.summary()
        shown = [lag for lag in self.lags if lag < len(found.error)]
        first = found.error[0]
        return Reading(
            update=self.updates,
            layer=passage.name,
            horizon_steps=found.horizon_steps,
            is_horizon_beyond=found.is_horizon_beyond,
            lags=shown,
            error_at_lags=[found.error[lag] / first if first else 0.0 for lag in shown],
            clipped_share=self._clipped_share(),
        )

    def _clipped_share(self) -> float | None:
        norms = self.gradient_norms[self._norms_read :]
        if not norms or not self.clip_norm:
            return None
        return sum(not norm <= self.clip_norm for norm in norms) / len(norms)

    @property
    def history(self) -> list[dict[str, Any]]:
        """All readings as plain values, oldest first."""
        return [asdict(reading) for reading in self.readings]

    @property
    def cost_share(self) -> float:
        """What it took of the time since it was made."""
        return self.cost_s / max(time.perf_counter() - self._begun_s, 1e-9)

    def __repr__(self) -> str:
        shown = {r.layer: in_words(r) for r in self.readings}  # the last one of each layer
        cost = f"gauge {self.cost_share:.1%} of the time"
        return "; ".join([*(f"{layer}: {text}" for layer, text in shown.items()), cost])


def in_words(reading: Reading) -> str:
    """A reading on part of a line."""
    least = "at least " if reading.is_horizon_beyond else ""
    text = f"memory horizon {least}{reading.horizon_steps} steps"
    if reading.lags:
        text += f", error at lag {reading.lags[-1]}: {reading.error_at_lags[-1]:.0e} of lag 0"
    if reading.clipped_share is not None:
        text += f", clipped {reading.clipped_share:.0%}"
    return text


def recurrent_modules(model: nn.Module) -> Mapping[str, nn.Module]:
    """The recurrent modules of a model by name, outermost ones alone.

    Raises:
        ConfigError: There are none.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") or not outer for outer in found)
        if isinstance(module, (Stack, *LAYERS, *CELLS)) and not inside:
            found[name] = module
    if not found:
        raise ConfigError(
            f"found no recurrent layer in {type(model).__name__}; looked for throughtime's layers, "
            "nn.RNN, nn.LSTM, nn.GRU and their cells."
        )
    return {name or type(module).__name__: module for name, module in found.items()}


def _devices(modules: Mapping[str, nn.Module]) -> list[int]:
    parameters = [p for module in modules.values() for p in module.parameters()]
    return sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
