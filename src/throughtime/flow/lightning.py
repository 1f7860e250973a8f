"""How far back does a model learn while Lightning trains it? `Monitor`, as a callback.

In the order of Lightning 2 a batch goes through

    on_train_batch_start, training_step, zero_grad, backward, on_after_backward,
    on_before_optimizer_step, clipping, the optimizer's step, on_train_batch_end

and of batches whose gradients are accumulated only the last goes through the second line.
So the gauge listens from the first hook to the second, and notes norms in the third, where they are
unscaled and not clipped yet.
"""

import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import ConfigError
from throughtime.flow.monitor import Monitor, Reading

__all__ = ["LightningMonitor"]

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_MOST_PENDING = 256  # norms that wait on the device; each that is fetched waits for the device


class LightningMonitor:
    """A `Monitor` for Lightning: `Trainer(callbacks=[LightningMonitor(lags=(1, 16))])`.

    Each reading is logged under `memory_horizon_steps/<layer>` and `error_at_lag_<L>/<layer>`, and
    stays until the next one. `monitor` is the gauge of the fit, None before the first; its readings
    are all there, and `diagnose(training=callback.monitor)` reads it. When the fit ends the last
    reading and what the gauge cost are printed.

    Of batches whose gradients are accumulated the first is read, so that one update counts once. In
    manual optimisation a batch counts as an update, and what is read is its first backward pass
    that reaches a recurrent layer; each optimizer's step notes a norm.

    Args:
        options: Those of `Monitor`. Without a clip_norm it is the trainer's gradient_clip_val,
            unless values are clipped and not the norm.

    Raises:
        ConfigError: Neither package of Lightning is installed, or an option is wrong; when the fit
            starts: the model has no recurrent module.
    """

    def __new__(cls, **_options: Any) -> "LightningMonitor":
        """Make it a callback of the Lightning that is there, which is no dependency of ours."""
        return object.__new__(_as_callback(cls, _callbacks()))

    def __init__(self, **options: Any) -> None:
        super().__init__()
        # What is wrong with them is said here, not when the fit starts. On "meta" nothing is drawn.
        Monitor(nn.RNN(1, 1, device="meta"), **options)
        self.options = options
        self.monitor: Monitor | None = None
        self._gauge: _Gauge | None = None
        self._is_listening = self._is_fresh = False
        self._values: dict[str, float] = {}
        self._norms: list[Tensor] = []

    def __reduce__(self) -> Any:
        """Processes that are spawned get one with the same options."""
        return partial(type(self).__mro__[1], **self.options), ()

    # --- What Lightning calls ---------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """A fit, a gauge: here the weights and the step of a checkpoint are back."""
        options = {"clip_norm": _clip_norm(trainer), **self.options, "told": self._told}
        self.monitor = self._gauge = _Gauge(pl_module, **options)
        self._gauge.updates = trainer.global_step
        self._values = {}

    def on_train_batch_start(
        self, trainer: Any, _pl_module: nn.Module, _batch: Any, batch_idx: int
    ) -> None:
        """Begin an update, where one begins."""
        # As Lightning itself decides when to zero the gradients.
        if self._gauge is None or batch_idx % trainer.accumulate_grad_batches:
            return
        if self._gauge.is_due or len(self._norms) >= _MOST_PENDING:
            self._note()
        self._gauge.__enter__()
        self._is_listening = True

    def on_after_backward(self, _trainer: Any, _pl_module: nn.Module) -> None:
        """Read it, if this pass brought errors; of several passes in a batch another may."""
        if self._gauge is not None and self._gauge.has_heard:
            self._end()

    def on_before_optimizer_step(
        self, _trainer: Any, _pl_module: nn.Module, optimizer: Any
    ) -> None:
        """Take the norm of the gradients, not clipped yet; to look at it can wait."""
        if self._gauge is None:
            return
        begun_s = time.perf_counter()
        groups = optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        if gradients:
            self._norms.append(nn.utils.get_total_norm(gradients).detach())
        self._gauge.cost_s += time.perf_counter() - begun_s

    def on_train_batch_end(
        self, _trainer: Any, pl_module: Any, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        """Log what is new. Lightning keeps it for the epoch, so an epoch begins with the last."""
        self._end(_NothingHeardError())
        if self._is_fresh or batch_idx == 0:
            self._is_fresh = False
            for name, value in self._values.items():
                pl_module.log(name, value, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, _trainer: Any, _pl_module: nn.Module) -> None:
        """A model that ends an epoch in its `on_train_batch_start` never ends the batch."""
        self._end(_NothingHeardError())

    def on_train_end(self, _trainer: Any, _pl_module: nn.Module) -> None:
        """Note what was not."""
        self._note()

    def on_exception(self, _trainer: Any, _pl_module: nn.Module, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._end(exception)
        self._note()

    def on_fit_end(self, trainer: Any, _pl_module: nn.Module) -> None:
        """Say what was read last and what it cost."""
        if self._gauge is not None:
            trainer.print(f"throughtime: {self._gauge!r}")

    # --- What it does then ------------------------------------------------------------------------

    def _end(self, error: BaseException | None = None) -> None:
        if self._gauge is not None and self._is_listening:
            self._is_listening = False
            self._gauge.__exit__(None if error is None else type(error), error, None)

    def _told(self, readings: list[Reading]) -> None:
        self._is_fresh = True
        for reading in readings:
            self._values |= _values(reading)
        if self.options.get("told") is not None:
            self.options["told"](readings)

    def _note(self) -> None:
        """Hand the norms that wait to the gauge."""
        waiting, self._norms = self._norms, []
        if self._gauge is not None and waiting:
            for norm in torch.stack(waiting).tolist():
                self._gauge.noted(norm)


class _NothingHeardError(Exception):
    """A batch was over before any error came back to a recurrent layer."""


class _Gauge(Monitor):
    """A monitor that tells whether an update has something to read yet."""

    @property
    def has_heard(self) -> bool:
        """Whether an error came back to a recurrent layer."""
        return any(call.errors for one in self._heard for call in one.calls)


def _values(reading: Reading) -> dict[str, float]:
    """What is logged of a reading."""
    shares = zip(reading.lags, reading.error_at_lags, strict=True)
    return {
        f"memory_horizon_steps/{reading.layer}": float(reading.horizon_steps),
        **{f"error_at_lag_{lag}/{reading.layer}": share for lag, share in shares},
    }


def _clip_norm(trainer: Any) -> float | None:
    """What the trainer clips the norm to; it may clip values instead."""
    return None if trainer.gradient_clip_algorithm == "value" else trainer.gradient_clip_val


@cache
def _as_callback(cls: type, callbacks: Sequence[type]) -> type:
    """The class as one of callbacks, too."""
    return type(cls.__name__, (cls, *callbacks), {"__module__": cls.__module__})


def _callbacks() -> tuple[type, ...]:
    """`Callback` of the Lightning that was imported, of both if both were, else of one installed.

    Raises:
        ConfigError: There is none.
    """
    loaded = [name for name in _PACKAGES if sys.modules.get(name) is not None]
    for name in _PACKAGES if not loaded else ():
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in {name, name.partition(".")[0]}:
                raise  # it is there, and something that it needs is not
        else:
            loaded = [name]
            break
    if not loaded:
        raise ConfigError(
            "found neither lightning nor pytorch_lightning, and LightningMonitor is a callback of "
            "theirs; pip install pytorch-lightning, or use Monitor in a loop of your own."
        )
    return tuple(sys.modules[name].Callback for name in loaded)
