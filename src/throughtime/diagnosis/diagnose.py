"""How far back does a model learn, and what is wrong with it?"""

import math
import operator
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from throughtime import __version__
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.evaluation import Evaluation, Loss
from throughtime.diagnosis.training import Training
from throughtime.diagnosis.untouched import differentiable
from throughtime.errors import ConfigError
from throughtime.flow.capture import watching
from throughtime.flow.context import used_steps
from throughtime.flow.measure import measure
from throughtime.flow.monitor import Monitor
from throughtime.flow.resets import resetting
from throughtime.flow.schedule import Schedule
from throughtime.flow.threads import fitting_threads
from throughtime.flow.verdicts import judge, needed_lag
from throughtime.records.diagnosis import (
    ContextUse,
    DiagnosisRecord,
    LayerRecord,
    NeededLag,
    TrainingFacts,
)

__all__ = ["diagnose"]

_ONE_AT_A_TIME = threading.RLock()  # torch's generators belong to all threads


def diagnose(
    model: Any,
    batch: Any,
    loss: Loss,
    *,
    training: Any = None,
    needs_lag: int | NeededLag | None = None,
    rows: int = 8,
    seed: int = 0,
    exponents: int | str = 32,
    title: str | None = None,
) -> Diagnosis:
    """See how far back the recurrent layers of a model learn, and what keeps them from more.

        dE_t/ds_k = dE_t/ds_t J_t J_{t-1} ... J_{k+1},    J_t = ds_t/ds_{t-1}

    The model is examined in the mode it is in, and left as it was. Its recurrent layers (ours,
    torch.nn's, cells in a loop, or a callable step) are stepped through, which is checked against
    their own outputs.

    Args:
        model: A module with recurrent layers anywhere in it, or a step f(x, state) -> state.
        batch: Whatever `loss` takes.
        loss: Returns one number for (model, batch), computed as in training.
        training: A run folder, a `Monitor` or a `Training`; without it the loop is not examined.
        needs_lag: Steps over which the answer depends on the input; else context use is asked.
        rows: Rows of the batch on which gradients are followed.
        seed: Of everything drawn: which rows, and what dropout drops.
        exponents: How many Lyapunov exponents, or "all".
        title: What the report calls it.

    Returns:
        A `Diagnosis`; its findings are never empty.

    Raises:
        ConfigError: There is no recurrence in the model, the loss cannot be computed or is not
            deterministic, or an argument does not fit.
        ShapeError: The loss is no scalar.
        DataError: A weight is not finite.

    Source:
        Pascanu et al. 2013, eq. 3-5 (differs: the whole state of any cell); Engelken et al. 2020
        (differs: exponents of the transposed products, as in backpropagation); Khandelwal et al.
        2018 (differs: the state is reset or exchanged, the text is not cut).
    """
    options: dict[str, Any] = {
        "rows": _count("rows", rows),
        "seed": _count("seed", seed, least=0),
        "exponents": exponents if exponents == "all" else _count("exponents", exponents),
        "needs_lag": _stated(needs_lag),
    }
    case = Evaluation(model, batch, loss, options["seed"])
    with _ONE_AT_A_TIME, fitting_threads(model), torch.inference_mode(mode=False):
        record = _record(case, training, title or _named(model), **options)

    def again(other: Any, training: Any = None) -> Diagnosis:
        known: dict[str, Any] = options | {"needs_lag": record.needs_lag}
        return diagnose(other, batch, loss, training=training, title=title, **known)

    return Diagnosis(record, again)


def _named(model: Any) -> str:
    """What a model is called: a class, or a function."""
    return getattr(model, "__name__", type(model).__name__)


def _record(
    case: Evaluation,
    training: Any,
    title: str,
    *,
    needs_lag: NeededLag | None,
    rows: int,
    seed: int,
    exponents: int | str,
) -> DiagnosisRecord:
    """Everything that is measured and judged."""
    begun_s = time.perf_counter()
    facts, history = training_facts(training)
    full = case.plain_value()
    seen = _seen(case, rows, seed, exponents)
    mode = "train" if case.is_training else "eval"
    layers, is_finite = seen.layers, seen.is_finite
    context = _context_use(case, full, seen) if is_finite else None
    needed = needed_lag(needs_lag, context)
    findings, not_examined = judge(
        layers, context, facts, needed, is_finite=is_finite and math.isfinite(full)
    )
    return DiagnosisRecord(
        title=title,
        mode=mode,
        loss=full,
        findings=findings,
        not_examined=not_examined | seen.refused,
        layers=layers,
        needs_lag=needed,
        context=context,
        training=facts,
        history=history,
        elapsed_s=time.perf_counter() - begun_s,
        provenance={
            "throughtime": __version__,
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "rows": rows,
            "seed": seed,
        },
    )


def _count(name: str, value: Any, least: int = 1) -> int:
    """A whole number, of numpy's or torch's too."""
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if isinstance(value, bool) or found < least:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {least}.")
    return found


def _stated(needs_lag: int | NeededLag | None) -> NeededLag | None:
    if needs_lag is None or isinstance(needs_lag, NeededLag):
        return needs_lag
    return NeededLag(_count("needs_lag", needs_lag), "needs_lag")


class _Seen(NamedTuple):
    """What was measured while the loss was computed once.

    Attributes:
        layers: A record for each layer.
        refused: Why what could not be measured was not, by name.
        is_finite: Whether the loss and all errors that enter are numbers.
        schedule: Where in a sequence each call of a layer stands.
    """

    layers: list[LayerRecord]
    refused: dict[str, str]
    is_finite: bool
    schedule: Schedule


def _seen(case: Evaluation, rows: int, seed: int, exponents: int | str) -> _Seen:
    """Compute the loss once, and measure what the layers did."""
    with torch.enable_grad(), differentiable(case.model), watching(case.model) as watch:
        value = case.value(watch.model)
        schedule = watch.schedule()  # before a checkpoint computes anything again
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            passages = watch.passages(value, rows=rows, seed=seed)
            layers = [measure(p, exponents=exponents, seed=seed) for p in passages]
    if not passages:
        reasons = "; ".join(f"{name}: {why}" for name, why in watch.refused.items())
        raise ConfigError(f"no recurrent layer could be followed: {reasons}.")
    is_finite = bool(torch.isfinite(value.detach())) and all(
        bool(torch.isfinite(seeds).all()) for p in passages for seeds in p.seeds
    )
    return _Seen(layers, dict(watch.refused), is_finite, schedule)


@torch.enable_grad()  # a loss may ask for gradients itself
def _context_use(case: Evaluation, full: float, seen: _Seen) -> ContextUse:
    """The loss when all layers see the last n = 1, 2, 4, ... steps alone."""
    steps = max(layer.steps for layer in seen.layers)
    shown = [2**i for i in range(steps.bit_length()) if 2**i < steps]

    def losses(*, exchange: bool) -> list[float]:
        found: list[float] = []
        for n in shown:
            with resetting(case.model, n, seen.schedule, exchange=exchange) as model:
                found.append(float(case.value(model).detach()))
        return [*found, full]

    has_others = max(layer.rows for layer in seen.layers) > 1
    exchanged = losses(exchange=True) if has_others else None
    context = ContextUse([*shown, steps], losses(exchange=False), None, exchanged)
    return replace(context, uses_steps=used_steps(context))


def training_facts(training: Any) -> tuple[TrainingFacts | None, list[dict[str, Any]]]:
    """What is known of the training loop, and what a monitor saw of it."""
    if training is None:
        return None, []
    if isinstance(training, Training):
        return training.facts(), []
    if isinstance(training, Monitor):
        norms = training.gradient_norms
        facts = Training(clip_norm=training.clip_norm, gradient_norms=norms).facts()
        given = {"window_steps": training.window_steps, "state_carried": training.state_carried}
        return replace(facts, **given), list(training.history)
    if isinstance(training, str | Path):
        from throughtime.diagnosis.of_run import facts_of_run

        return facts_of_run(Path(training))
    raise ConfigError(
        f"training is a {type(training).__name__}; expected a run folder, a throughtime.Monitor "
        "or a throughtime.Training."
    )
