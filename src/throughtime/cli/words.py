"""In which words are a plan and a result told to people?"""

import signal

from throughtime.cli.explicit import explicit_command
from throughtime.cli.screen import duration, printable, shell_command
from throughtime.train.loop import Ending
from throughtime.train.score import in_words
from throughtime.train.watch import Plan, Result

__all__ = ["head", "number", "plan_rows", "result_rows", "updates_of"]

_PLURALS = {"char": "chars", "byte": "bytes", "word": "words", "bpe": "tokens"}
_METRICS = {"bits_per_char": "bits/char", "perplexity": "perplexity"}
_BASELINES = {"ngram5": "order-5 n-gram"}


def updates_of(plan: Plan) -> int:
    """The number of updates, which a plan has settled."""
    assert plan.config.run.updates is not None, "a plan is made after the updates are settled"
    return plan.config.run.updates


def number(value: float) -> str:
    """A score in a table: three digits behind the point, fewer for large ones."""
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def head(plan: Plan) -> str:
    """The head of the table of a run."""
    rate = _PLURALS[plan.config.data.unit] + "/s"
    return f"  update   passes    train    valid {rate:>10}     left   ({_METRICS[plan.metric]})"


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """What is about to happen, a name and a text a row."""
    config, corpus = plan.config, plan.corpus
    unit = _PLURALS[config.data.unit]
    rows = [
        ("text", f"{corpus.name}, {corpus.size_bytes:,} bytes, sha256 {corpus.sha256[:12]}"),
        ("", f"train {len(corpus.train):,} {unit}, valid {len(corpus.valid):,}: {corpus.split}"),
        ("baselines", f"{_METRICS[plan.metric]}: {_baselines(plan)}"),
        ("model", _model(plan)),
        ("engine", plan.engine),
        ("plan", _pace(plan)),
        ("", _optimiser(plan)),
        ("folder", f"{plan.folder} (Ctrl-C saves and stops)"),
        ("same as", shell_command(explicit_command(config))),
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
    options, updates = plan.config.run, updates_of(plan)
    symbols = options.batch_size * options.window_steps
    passes = updates * symbols / len(plan.corpus.train)
    unit = _PLURALS[plan.config.data.unit]
    text = f"{updates:,} updates of {options.batch_size} x {options.window_steps} {unit}: "
    text += f"{passes:.1f} passes over the text"
    if plan.update_s is not None:
        text += f" in about {options.budget}, at {symbols / plan.update_s:,.0f} {unit}/s"
    return text


def _optimiser(plan: Plan) -> str:
    options = plan.config.optimiser
    clips = {"joint norm": options.clip_norm, "value": options.clip_value}
    clipped = [f"{name} at {bound:g}" for name, bound in clips.items() if bound]
    return (
        f"{options.optimiser}, learning rate {options.learning_rate:g}, {options.schedule}, "
        f"warm-up {options.warmup:.0%}; clipped: {' and '.join(clipped) or 'nothing'}"
    )


def result_rows(result: Result) -> list[tuple[str, str]]:
    """What came of it, a name and a text a row."""
    plan = result.plan
    rows = [("ended", _ending(result))]
    if result.validation is not None:
        score = result.validation.score
        beaten = [_BASELINES.get(n, n) for n, v in plan.baselines.items() if score < v]
        rest = [_BASELINES.get(n, n) for n, v in plan.baselines.items() if score >= v]
        comparison = f"better than {', '.join(beaten) or 'no baseline'}"
        comparison += f"; not better than {', '.join(rest)}" if rest else ""
        rows += [
            ("score", f"{in_words(score, plan.metric)} on the validation text"),
            ("", f"{result.validation.loss_nats:.4f} nats; {comparison}"),
            ("sample", printable(result.validation.sample).strip()),
        ]
    return [*rows, ("folder", str(plan.folder)), ("next", _next_command(result))]


def _ending(result: Result) -> str:
    done = f"after {result.updates:,} updates in {duration(result.elapsed_s)}"
    match result.ending:
        case Ending.FINISHED:
            return f"{done}, as planned"
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
    return f'throughtime generate {folder} --prompt "The " --length 400'
