"""In which words are a plan and a result told to people?"""

import signal

from throughtime.flow.monitor import Reading
from throughtime.report.lines import duration, printable, shell_command
from throughtime.train.explicit import explicit_command
from throughtime.train.lesson import Score
from throughtime.train.loop import Ending
from throughtime.train.score import in_words
from throughtime.train.watch import Plan, Result

__all__ = ["head", "metric", "number", "passes", "plan_rows", "result_rows", "updates_of"]

_POWER_FROM = 1e7  # a loss that broke loose, in as little room as others
_METRICS = {"bits_per_char": "bits/char", "perplexity": "perplexity"}
_BASELINES = {"ngram5": "order-5 n-gram", "memoryless": "a model without memory"}


def updates_of(plan: Plan) -> int:
    """The number of updates, which a plan has settled."""
    assert plan.config.run.updates is not None, "a plan is made after the updates are settled"
    return plan.config.run.updates


def number(value: float) -> str:
    """A score in a table: three digits behind the point, fewer for large ones, more for small."""
    if value < 0.1 or value >= _POWER_FROM:
        return f"{value:.2g}"
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def metric(plan: Plan) -> str:
    """The unit of the scores of a run."""
    return _METRICS.get(plan.lesson.metric, plan.lesson.metric)


def head(plan: Plan) -> str:
    """The head of the table of a run."""
    rate = plan.lesson.steps + "/s"
    return f"  update   passes    train    valid {rate:>10}     left    memory"


def units(plan: Plan) -> str:
    """What the columns of the table are in."""
    return f"train and valid in {metric(plan)}; memory: steps back that an error reaches"


def horizon(reading: Reading | None) -> str:
    """How far back the model learns, in steps; a plus where that is as far as was seen."""
    if reading is None:
        return ""
    return f"{reading.horizon_steps:,}{'+' if reading.is_horizon_beyond else ''}"


def passes(plan: Plan, update: int) -> str:
    """How often the data has been read after an update; nothing where it is generated."""
    lesson = plan.lesson
    if lesson.steps_per_pass is None:
        return ""
    return f"{update * lesson.steps_per_update / lesson.steps_per_pass:.1f}"


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """What is about to happen, a name and a text a row."""
    rows = [
        *plan.lesson.facts(),
        ("baselines", f"{metric(plan)}: {_baselines(plan)}"),
        ("model", _model(plan)),
        ("engine", plan.engine),
        ("plan", _pace(plan)),
        ("", _optimiser(plan)),
        ("folder", f"{plan.folder} (Ctrl-C saves and stops)"),
        ("same as", shell_command(explicit_command(plan.config))),
    ]
    if plan.updates_done:
        rows.append(("goes on", f"after update {plan.updates_done:,}"))
    return rows


def _baselines(plan: Plan) -> str:
    return ", ".join(f"{_BASELINES.get(n, n)} {number(v)}" for n, v in plan.baselines.items())


def _model(plan: Plan) -> str:
    model = plan.config.model
    layers = f"{model.layers} layer{'s' if model.layers > 1 else ''} of {model.hidden} units"
    return f"{model.cell}, {layers}, dropout {model.dropout:g}: {plan.parameters:,} parameters"


def _pace(plan: Plan) -> str:
    lesson, updates = plan.lesson, updates_of(plan)
    per_update = lesson.steps_per_update
    text = f"{updates:,} updates of {per_update:,} {lesson.steps}"
    if lesson.steps_per_pass is not None:
        text += f": {passes(plan, updates)} passes over the data"
    if plan.update_s is not None:
        budget = plan.config.run.budget
        text += f" in about {budget}, at {per_update / plan.update_s:,.0f} {lesson.steps}/s"
    return text


def _optimiser(plan: Plan) -> str:
    options = plan.config.optimiser
    clips = {"joint norm": options.clip_norm, "value": options.clip_value}
    clipped = [f"{name} at {bound:g}" for name, bound in clips.items() if bound]
    held = "" if options.hold is None else f", held {options.hold:.0%}"
    return (
        f"{options.optimiser}, learning rate {options.learning_rate:g}, {options.schedule}, "
        f"warm-up {options.warmup:.0%}{held}; clipped: {' and '.join(clipped) or 'nothing'}"
    )


def result_rows(result: Result) -> list[tuple[str, str]]:
    """What came of it, a name and a text a row."""
    plan, validation = result.plan, result.validation
    rows = [("ended", _ending(result))]
    if validation is not None:
        part, score = "validation", validation.score
        if result.test is not None:
            part, score = "test", result.test
        rows += [
            ("score", f"{in_words(score.score, plan.lesson.metric)} on the {part} part"),
            ("", _compared(score, plan)),
        ]
    if validation is not None and validation.score.sample is not None:
        rows.append(("sample", printable(validation.score.sample).strip()))
    if result.gauge_share is not None:
        rows.append(("gauge", f"memory was read in {result.gauge_share:.1%} of the time"))
    return [*rows, ("folder", str(plan.folder)), ("next", _next_command(result))]


def _compared(score: Score, plan: Plan) -> str:
    """A score beside the baselines, and what else was counted."""
    better = [_BASELINES.get(n, n) for n, v in plan.baselines.items() if score.score < v]
    rest = [_BASELINES.get(n, n) for n, v in plan.baselines.items() if score.score >= v]
    text = f"better than {', '.join(better) or 'no baseline'}"
    text += f"; not better than {', '.join(rest)}" if rest else ""
    if plan.lesson.loss_name == "loss_nats":
        text = f"{score.loss:.4f} nats; {text}"
    if score.is_solved is not None:
        verdict = "solved" if score.is_solved else "not solved"
        text += f"; {score.wrong_share:.2%} of the sequences wrong: {verdict}"
    return text


def _ending(result: Result) -> str:
    done = f"after {result.updates:,} updates in {duration(result.elapsed_s)}"
    match result.ending:
        case Ending.FINISHED:
            return f"{done}, as planned"
        case Ending.NO_BETTER:
            return f"{done}: {result.plan.config.run.patience} validations brought nothing better"
        case Ending.OUT_OF_TIME:
            planned = updates_of(result.plan)
            return f"{done} of {planned:,} planned: slower than timed, so it stopped early"
        case Ending.DIVERGED:
            return (
                f"{done}: the gradients are not finite any more. Try a lower --learning-rate, "
                "a lower --clip-norm or --nonfinite shrink"
            )
        case Ending.INTERRUPTED:
            name = signal.Signals(result.signal_number or signal.SIGINT).name
            return f"{done} by {name}; everything is saved"


def _next_command(result: Result) -> str:
    folder = result.plan.folder
    if result.ending is Ending.INTERRUPTED:
        return f"throughtime train --resume {folder}"
    if result.test is not None:
        return f"throughtime evaluate {folder}"
    return f'throughtime generate {folder} --prompt "The " --length 400'
