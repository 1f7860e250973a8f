"""How is a model cured that is no run of ours? Its own functions make and train it again."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.options import OF_THE_MODEL
from throughtime.errors import ConfigError
from throughtime.records.cure import CureRecord, side_of, trial_of

__all__ = ["Cured", "Trained", "cure"]


@dataclass(frozen=True)
class Trained:
    """What a training function may return instead of a score alone.

    Attributes:
        score: How well the model does; lower is better.
        training: What is known of the loop, as `diagnose` takes it.
    """

    score: float
    training: Any = None


@dataclass(frozen=True)
class Cured:
    """What came of a cure. Printed, it shows both sides.

    Attributes:
        record: Before and after, as plain values.
        model: The cured model, trained.
        diagnosis: Of it.
    """

    record: CureRecord
    model: nn.Module
    diagnosis: Diagnosis

    @property
    def is_cured(self) -> bool:
        """Whether the finding is gone, and the score no worse."""
        return self.record.best is not None

    def __rich__(self) -> Any:
        """Both sides, side by side."""
        from throughtime.report.cure import rendered_cure

        return rendered_cure(self.record)


def cure(
    make: Callable[..., nn.Module],
    train: Callable[..., float | Trained],
    diagnosis: Diagnosis,
    *,
    score: float | None = None,
    seed: int = 0,
) -> Cured:
    """Make and train a model again with the cure of its first finding, and diagnose it.

    Torch's generator is seeded alike before each model is made, and again before it is trained.

    Args:
        make: Returns a new model; is given the options of the cure that are of the model (cell,
            init, hidden), and none for the patient as it was. See `apply_options`.
        train: Trains a model in place and returns its score, lower being better, or a `Trained`;
            is given the other options (clip_norm, learning_rate, window_steps, ...).
        diagnosis: Of the patient; the cured model is diagnosed on the same batch and loss.
        score: What the patient scored, if it was trained from this seed; it is trained if absent.
        seed: Of weights and training.

    Raises:
        ConfigError: There is nothing to cure or no cure to apply, or the functions do not take
            the options that it needs.

    Example:
        >>> import torch, throughtime as tt
        >>> x, lag = torch.randn(40, 4, 3), 30
        >>> loss = lambda model, x: model(x)[0][-1].square().mean()
        >>> make = lambda **options: tt.apply_options(torch.nn.RNN(3, 8), options)
        >>> found = tt.diagnose(make(), x, loss, needs_lag=lag)
        >>> cured = tt.cure(make, lambda model: loss(model, x).item(), found)
        >>> cured.record.code, cured.record.trials[0].options
        ('vanishing', {'cell': 'gru', 'init': ['chrono:60']})
    """
    top = diagnosis.findings[0]
    if top.code == "healthy":
        raise ConfigError(f"there is nothing to cure. {top.sentence}")
    if not top.options:
        raise ConfigError(
            f"{top.code} has no cure that could be applied here. {top.sentence} Do this: {top.cure}"
        )
    of_model = {n: v for n, v in top.options.items() if n in OF_THE_MODEL}
    of_training = {n: v for n, v in top.options.items() if n not in OF_THE_MODEL}
    _check_takes(make, (), of_model, top.code)
    _check_takes(train, (None,), of_training, top.code)
    if score is None:
        score = _trained(train, _made(make, {}, seed), {}, seed).score
    before = side_of("as it was", score, diagnosis.record)
    model = _made(make, of_model, seed)
    found = _trained(train, model, of_training, seed)
    again = diagnosis.again(model, training=found.training)
    after = side_of("cured", found.score, again.record)
    trial = trial_of(top.options, _call(of_model, of_training), before, after)
    return Cured(CureRecord(top.code, "score", before, [trial]), model, again)


def _check_takes(
    function: Callable[..., Any], given: tuple[Any, ...], options: Mapping[str, Any], code: str
) -> None:
    """Refuse a function that does not know an option, before anything is trained."""
    try:
        inspect.signature(function).bind(*given, **options)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        needed = ", ".join(f"{n}={v!r}" for n, v in options.items()) or "no options"
        raise ConfigError(
            f"the cure of {code} calls {name} with {needed}, which it does not take ({error}). "
            f"Give {name} these parameters, with the patient's values as defaults, or **options."
        ) from error
    except ValueError:  # a builtin without a signature: the call itself will tell
        return


def _made(make: Callable[..., nn.Module], options: Mapping[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make(**options)


def _trained(
    train: Callable[..., float | Trained], model: nn.Module, options: Mapping[str, Any], seed: int
) -> Trained:
    torch.manual_seed(seed)
    found = train(model, **options)
    if isinstance(found, Trained):
        return found
    try:
        return Trained(float(found))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"train returned a {type(found).__name__}; expected its score, a number that is lower "
            "where the model is better, or a Trained with it."
        ) from error


def _call(of_model: Mapping[str, Any], of_training: Mapping[str, Any]) -> str:
    def listed(options: Mapping[str, Any]) -> list[str]:
        return [f"{name}={value!r}" for name, value in options.items()]

    made = f"make({', '.join(listed(of_model))})"
    return f"train({', '.join([made, *listed(of_training)])})"
