"""Which pictures does a page show, and what stands below each? None where there is nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from throughtime.records.diagnosis import ContextUse, DiagnosisRecord, LayerRecord, TimeMap
from throughtime.report.page_svg import inline_svg
from throughtime.report.page_words import counted, matching, sample
from throughtime.report.pictures import (
    plot_context_use,
    plot_error_by_lag,
    plot_path_share,
    plot_weight_by_lag,
)
from throughtime.report.pictures_gates import (
    keeping,
    plot_gate_ranges,
    plot_saturation,
    plot_time_constants,
)
from throughtime.report.pictures_maps import has_history, plot_history, plot_time_map
from throughtime.report.pictures_spectrum import plot_condition, plot_directions, plot_lyapunov
from throughtime.report.pictures_style import finite, positive, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "layer_panels", "model_panels"]

_SIZE, _PAIR, _STRIP = (4.7, 3.3), (4.7, 2.8), (4.7, 2.0)  # inches


@dataclass(frozen=True)
class Panel:
    """A picture with its caption.

    Attributes:
        svg: The picture.
        title: What it shows.
        caption: How to read it, and of how many numbers it is made.
    """

    svg: Markup
    title: str
    caption: str


def model_panels(
    record: DiagnosisRecord, others: Mapping[str, DiagnosisRecord], layers: int
) -> list[Panel]:
    """The first pictures: the error by lag of the first layers, and what the loss gains."""
    found = []
    for place in range(min(layers, len(record.layers))):
        found += _error(record, place, _beside(record, place, others))
    context, need = record.context, _need(record)
    if context is not None and np.isfinite(finite(context.loss)).any():
        beside = {name: o.context for name, o in others.items() if o.context is not None}
        own = _named(record, beside)
        found.append(
            _panel(
                "context",
                "What context is used",
                f"{_context_caption(context)} Where a curve is flat, older steps are not used, "
                f"whatever gradients arrive. {_size(record)}",
                lambda ax: plot_context_use(context, ax, needs_lag=need, others=beside, **own),
            )
        )
    return found


def layer_panels(
    record: DiagnosisRecord, place: int, others: Mapping[str, DiagnosisRecord], *, with_error: bool
) -> list[Panel]:
    """The pictures of one layer; its error by lag where that is not among the first ones."""
    beside = _beside(record, place, others)
    return [
        *(_error(record, place, beside) if with_error else []),
        *_history(record, place),
        *_maps(record, place),
        *_parts(record, place, beside),
        *_spectrum(record, place, beside),
        *_gates(record, place),
    ]


def _context_caption(context: ContextUse) -> str:
    text = (
        "The loss when all recurrent layers see the last n steps alone, so each point is a mean "
        "over steps that have seen 1 to n; what is used is told from how much more each adds."
    )
    if context.loss_exchanged is None:
        return text
    return (
        f"{text} Older states are reset, or exchanged with those of another sequence, which "
        "keeps what all sequences have in common; the lower curve counts."
    )


_Beside = Mapping[str, LayerRecord]


def _beside(
    record: DiagnosisRecord, place: int, others: Mapping[str, DiagnosisRecord]
) -> dict[str, LayerRecord]:
    """The layers of others that belong over one's own."""
    name = record.layers[place].name
    matched = {title: matching(other, place, name) for title, other in others.items()}
    return {title: found for title, found in matched.items() if found is not None}


def _named(record: DiagnosisRecord, beside: Mapping[str, object]) -> dict[str, str]:
    """What a legend calls a record's own curves where there are others: as these are called."""
    return {"label": short(record.title)} if beside else {}


def _error(record: DiagnosisRecord, place: int, beside: _Beside) -> list[Panel]:
    layer, need, own = record.layers[place], _need(record), _named(record, beside)
    if not np.isfinite(finite(layer.error_by_lag)).any():
        return []
    return [
        _panel(
            f"l{place}-error",
            f"Error by lag: {short(layer.name)}",
            "How much of an error comes back over how many steps, on a logarithmic axis. The "
            f"bound is no measurement: every error lies on or below it. {sample(layer)}",
            lambda ax: plot_error_by_lag(layer, ax, needs_lag=need, others=beside, **own),
        )
    ]


def _parts(record: DiagnosisRecord, place: int, beside: _Beside) -> list[Panel]:
    """What lags and states contribute."""
    layer, need, found = record.layers[place], _need(record), []
    own = _named(record, beside)
    if np.isfinite(positive(layer.weight_by_lag)).any():
        found.append(
            _panel(
                f"l{place}-weight",
                "What each lag adds to the gradient",
                "The norm of the part of dE/dW that came back over so many steps, W being the "
                f"recurrent matrices together, on a logarithmic axis. {sample(layer)}",
                lambda ax: plot_weight_by_lag(layer, ax, needs_lag=need, others=beside, **own),
            )
        )
    by_state = [positive(values) for values in layer.error_by_state.values()]
    if len(layer.states) > 1 and any(np.isfinite(values).any() for values in by_state):
        found.append(
            _panel(
                f"l{place}-path",
                "Which state carries the error",
                "The error by lag in each state by itself, on a logarithmic axis; its share is "
                f"the mean over lags of 1 step and more. {sample(layer)}",
                lambda ax: plot_path_share(layer, ax),
            )
        )
    return found


def _history(record: DiagnosisRecord, place: int) -> list[Panel]:
    layer = record.layers[place]
    kept = [entry for entry in record.history if entry.get("layer") == layer.name]
    if len(kept) < 2 or not has_history(kept, layer.name):
        return []  # one reading is no course
    return [
        _panel(
            f"l{place}-history",
            "Error by lag over training",
            "Colour: the share of the error at the first lag, as a decimal logarithm. Did memory "
            "grow? A horizon beyond the last lag is drawn there. "
            f"{counted(len(kept), 'readings')} of the gauge.",
            lambda ax: plot_history(kept, ax),
        )
    ]


def _maps(record: DiagnosisRecord, place: int) -> list[Panel]:
    layer = record.layers[place]
    found = []
    for name, title, what, which in (
        ("map", "Error from step t to step k", "||dE_t / ds_k||", layer.error_map),
        ("wmap", "Gradient of the weights from step k", "||part of dE_t/dW||", layer.weight_map),
    ):
        if _has_numbers(which):
            found.append(
                _panel(
                    f"l{place}-{name}",
                    title,
                    f"{counted(len(which.t), 'steps')} t at which an error enters, "
                    f"{counted(len(which.k), 'steps')} k, as a decimal logarithm. "
                    f"Blank: k lies after t, or nothing arrives. {sample(layer)}",
                    _map_drawer(which, what),
                    _SIZE if len(which.t) > 1 else _STRIP,
                )
            )
    return found


def _map_drawer(which: TimeMap, what: str) -> Callable[["Axes"], object]:
    return lambda ax: plot_time_map(which, ax, what=what)


def _spectrum(record: DiagnosisRecord, place: int, beside: _Beside) -> list[Panel]:
    layer, found, own = record.layers[place], [], _named(record, beside)
    if np.isfinite(finite(layer.lyapunov)).any():
        found.append(
            _panel(
                f"l{place}-lyapunov",
                "Lyapunov spectrum",
                f"{len(layer.lyapunov):,} of {layer.units:,} exponents of the driven layer: above "
                f"zero an error grows, below it shrinks. {sample(layer)}",
                lambda ax: plot_lyapunov(layer, ax, others=beside, **own),
            )
        )
    if np.isfinite(finite(layer.condition_log10)).any():
        found.append(
            _pair(
                f"l{place}-condition",
                "Rank of long products",
                "Left: the largest over the smallest singular value that was followed. Right: the "
                f"directions in which an error still comes back, of {_followed(layer)}. "
                f"{sample(layer)}",
                lambda ax: plot_condition(layer, ax),
                lambda ax: plot_directions(layer, ax),
            )
        )
    return found


def _gates(record: DiagnosisRecord, place: int) -> list[Panel]:
    layer, need, found = record.layers[place], _need(record), []
    if keeping(layer):
        found.append(
            _panel(
                f"l{place}-tau",
                "Time constants of the gates",
                "How many units keep for how long, on a logarithmic axis. A unit forgets to 37 % "
                f"in one time constant. {sample(layer)}",
                lambda ax: plot_time_constants(layer, ax, needs_lag=need),
            )
        )
    if layer.gates:
        found.append(
            _pair(
                f"l{place}-gates",
                "Gates: saturation and activation",
                "Left: activations within 0.02 of a bound, where gradients die. Right: the median "
                f"and 10 to 90 % over the units of a gate. {sample(layer)}",
                lambda ax: plot_saturation(layer, ax),
                lambda ax: plot_gate_ranges(layer, ax),
                height=min(_PAIR[1], 1.2 + 0.4 * len(layer.gates)),
            )
        )
    return found


def _followed(layer: LayerRecord) -> str:
    """How many directions were followed, of all."""
    return f"the {len(layer.lyapunov):,} that were followed, of {layer.units:,}"


def _panel(
    name: str,
    title: str,
    caption: str,
    draw: Callable[["Axes"], object],
    size: tuple[float, float] = _SIZE,
) -> Panel:
    def one(figure: "Figure") -> None:
        draw(figure.subplots())

    return Panel(inline_svg(one, f"{title}. {caption}", name, size), title, caption)


def _pair(
    name: str,
    title: str,
    caption: str,
    left: Callable[["Axes"], object],
    right: Callable[["Axes"], object],
    height: float = _PAIR[1],
) -> Panel:
    def both(figure: "Figure") -> None:
        axes = figure.subplots(1, 2)
        left(axes[0])
        right(axes[1])

    return Panel(inline_svg(both, f"{title}. {caption}", name, (_PAIR[0], height)), title, caption)


def _has_numbers(which: TimeMap) -> bool:
    return any(value is not None and np.isfinite(value) for row in which.log10 for value in row)


def _need(record: DiagnosisRecord) -> int | None:
    return None if record.needs_lag is None else record.needs_lag.steps


def _size(record: DiagnosisRecord) -> str:
    return sample(record.layers[0]) if record.layers else ""
