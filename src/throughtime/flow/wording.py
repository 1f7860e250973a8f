"""How is a finding told? A sentence with its numbers, a line that cures, a way to be wrong."""

from collections.abc import Callable, Mapping
from typing import Any

from throughtime.flow.remedies import Facts, Options

__all__ = ["cure_in_python", "explained", "falsify", "sentence"]

Values = Mapping[str, Any]


def explained(code: str) -> str:
    """Why a finding is not judged beside another one."""
    return f"it may follow from {code}: cure that first, and diagnose again"


def sentence(code: str, layer: str | None, values: Values) -> str:
    """What was found, in plain words."""
    return _SENTENCES[code]({**values, "layer": layer})


def falsify(code: str, values: Values) -> str:
    """What to do to see whether the finding is wrong."""
    return _FALSIFY[code].format_map(values)


def _non_finite(v: Values) -> str:
    if "updates" in v:
        return (
            f"The gradients of {v['value']:.0%} of {v['updates']} updates were infinite or NaN "
            f"(limit {v['threshold']:.0%})."
        )
    return f"Not every number is finite: {v['wrong']} holds NaN or infinities."


def _exploding(v: Values) -> str:
    return (
        f"The error grows on its way back through {v['layer']}: {v['growth']:.3g} times a step, to "
        f"{v['value']:.2g} times itself {v['lag']} steps back (limit {v['threshold']:.0e})."
    )


def _state_not_carried(v: Values) -> str:
    return (
        f"Each window of {v['window']} steps starts from an empty state, but {_lag_in_words(v)}: "
        "nothing older than the window's first step can be known."
    )


def _lag_in_words(v: Values) -> str:
    if v["why"] == "needed":
        return f"the answer needs {v['lag']} steps"
    return f"the loss still falls with {v['lag']} steps of context"


def _truncated(v: Values) -> str:
    return (
        f"The error reaches {v['reach']} steps back and the window cuts it after {v['window']}, "
        f"but {_lag_in_words(v)}."
    )


def _saturated(v: Values) -> str:
    return (
        f"{v['value']:.0%} of the activations of {v['layer']} lie within 0.02 of a bound (limit "
        f"{v['threshold']:.0%}): their derivative is near zero, and they hardly learn."
    )


def _dead_units(v: Values) -> str:
    return (
        f"{v['value']:.0%} of the {v['units']} units of {v['layer']} are constant over "
        f"{v['steps']} steps of {v['rows']} rows (limit {v['threshold']:.0%}): they carry nothing."
    )


def _forgetting(v: Values) -> str:
    return (
        f"The gates of {v['layer']} keep a state for {v['value']:.3g} steps (a tenth of the units "
        f"have that time constant or more), under a third of the {v['lag']} that "
        f"are needed; the error is down to 1 % after {v['reach']} steps."
    )


def _rank_collapse(v: Values) -> str:
    return (
        f"Of the {v['units']} units of {v['layer']} the error comes back over {v['at']} steps in "
        f"{v['value']:.0f} direction alone: one number of what it held can be learnt, where "
        f"{v['lag']} steps are needed."
    )


def _vanishing(v: Values) -> str:
    text = (
        f"The error is down to 1 % after {v['value']:.0f} steps, in {v['layer']}, where it reaches "
        f"farthest; the answer needs {v['lag']}."
    )
    factor = v["factor"]
    if factor is None:
        return text
    if factor < 1.0:
        return f"{text} The bound proves it: at most {factor:.3g} times as much is left a step."
    return f"{text} The bound, {factor:.3g} a step, is not below one and proves nothing."


def _clipped_always(v: Values) -> str:
    norm = "" if v["median"] is None else f"; the median norm is {v['median']:.3g}"
    return (
        f"{v['value']:.0%} of {v['updates']} updates were clipped to norm {v['norm']:g} (limit "
        f"{v['threshold']:.0%}){norm}: every step has the same length, on the flat too."
    )


def _unused_context(v: Values) -> str:
    return (
        f"The error arrives {v['lag']} steps back, but more than {v['value']:.0f} steps of context "
        f"gain nothing: the loss is {v['without']:.4g} without context, {v['loss']:.4g} with all."
    )


def _healthy(v: Values) -> str:
    at_least = "at least " if v["is_beyond"] else ""
    text = (
        f"Nothing of the list was found, over lags up to {v['steps'] - 1}; the error reaches back "
        f"{at_least}{v['value']:.0f} steps"
    )
    needed, left = v["needed"], v["not_examined"]
    text += "." if needed is None else f", {needed.steps} are needed by {needed.source}."
    return f"{text} Not judged: {', '.join(left)}." if left else text


_SENTENCES: dict[str, Callable[[Values], str]] = {
    "non_finite": _non_finite,
    "exploding": _exploding,
    "state_not_carried": _state_not_carried,
    "truncated": _truncated,
    "saturated": _saturated,
    "dead_units": _dead_units,
    "forgetting": _forgetting,
    "rank_collapse": _rank_collapse,
    "vanishing": _vanishing,
    "clipped_always": _clipped_always,
    "unused_context": _unused_context,
    "healthy": _healthy,
}

_FALSIFY = {
    "non_finite": "Compute the loss once in float64: if it is finite there, the model is sound and "
    "float32 too narrow.",
    "exploding": "Train with the gradients not clipped and watch their norms: if none is a hundred "
    "times the median, the finding is wrong.",
    "state_not_carried": "Pass the last state of each window to the next one without training "
    "again: if the loss does not fall, what lies before the window is not needed.",
    "truncated": "Train as long with windows of twice as many steps: if the loss is no lower, the "
    "window was not what limits.",
    "saturated": "Divide what the gates add up by ten and train on: if that learns no faster, "
    "saturation was not what held it.",
    "dead_units": "Remove the constant units: if the loss changes, they were not dead. Diagnose on "
    "other rows: what is constant on these may move there.",
    "forgetting": "Train the same model where the answers lie {reach} steps back: if it fails "
    "there too, its gates are not to blame.",
    "rank_collapse": "Diagnose with another seed and batch: if more directions come back there, "
    "the finding is of these rows alone.",
    "vanishing": "Train the same model where the answers lie {value:.0f} steps back at most: it "
    "should learn there, and not at {lag}. If it learns {lag}, the finding is wrong.",
    "clipped_always": "Train as long with ten times the norm: if the loss is no lower, clipping "
    "did no harm.",
    "unused_context": "Score the model on data whose answers are only found {lag} steps back: if "
    "it answers, it uses them. If the data do not need that lag, say so with needs_lag.",
    "healthy": "Diagnose on another batch, longer and with more rows, and say what lag the data "
    "need: what lies beyond was not seen.",
}


def cure_in_python(code: str, options: Options, layer: str | None, facts: Facts) -> str:
    """The cure as one line of Python, for a model that is no run of ours."""
    if code == "healthy":
        return "nothing to cure"
    lines = [
        *([_new_cell(options, layer or "rnn")] if "cell" in options else []),
        *([_restart(options)] if "init" in options and "cell" not in options else []),
        *([_CARRY] if "state_carried" in options else []),
        *([f"window_steps = {options['window_steps']}"] if "window_steps" in options else []),
        *([_clip(options)] if "clip_norm" in options else []),
    ]
    if code == "non_finite":
        lines.append("optimiser.param_groups[0]['lr'] /= 10")
    wanted = f"# train on, for longer than now, where answers need more than {facts.lag} steps"
    return "; ".join(lines) or wanted


_CARRY = "output, hx = model(x, hx); hx = tt.nn.detach(hx)"


def _new_cell(options: Options, layer: str) -> str:
    init = f", init={','.join(options['init'])!r}" if "init" in options else ""
    return f"model.{layer} = tt.Recurrent(tt.cells.{options['cell']}, I, H{init})"


def _restart(options: Options) -> str:
    return f"tt.apply_options(model, {{'init': {options['init']!r}}})"


def _clip(options: Options) -> str:
    return f"torch.nn.utils.clip_grad_norm_(model.parameters(), {options['clip_norm']:g})"
