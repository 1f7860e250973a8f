"""Do the options around a cell change what they say, and nothing else?"""

from dataclasses import replace

import pytest

from throughtime.cells.notation import parse_cell
from throughtime.errors import ConfigError
from throughtime.studies.config import CompareConfig
from throughtime.studies.variants import OPTIONS, read_variants
from throughtime.tasks.registry import find_task

TASK = find_task("copy", 50)
BASE = CompareConfig("copy").at(TASK, 10, 0)


def applied(text):
    (variant,) = read_variants(text)
    return variant.applied(BASE, TASK)


@pytest.mark.parametrize(
    ("text", "group", "changes"),
    [
        ("stack(lstm, layers=3)", "model", {"layers": 3}),
        ("hidden(lstm, units=7)", "model", {"hidden": 7}),
        ("residual:lstm", "model", {"connections": "residual"}),
        ("highway:lstm", "model", {"connections": "highway"}),
        ("dropout(lstm, p=0.3)", "model", {"dropout": 0.3}),
        ("weight_drop:lstm", "model", {"weight_drop": 0.5}),
        ("l1(lstm, weight=0.25)", "model", {"activation_l1": 0.25}),
        ("omega:lstm", "model", {"omega": 2.0}),
        ('init(lstm, "forget:2")', "model", {"init": ("forget:2",)}),
        ("orthogonal:lstm", "model", {"init": ("orthogonal",)}),
        ("identity:lstm", "model", {"init": ("identity",)}),
        ("spectral(lstm, radius=0.9)", "model", {"init": ("spectral:0.9",)}),
        ("forget(lstm, bias=3)", "model", {"init": ("forget:3",)}),
        ("chrono(lstm, t_max=75)", "model", {"init": ("chrono:75",)}),
        ("chrono:lstm", "model", {"init": (f"chrono:{TASK.needs_lag}",)}),
        ("clip(lstm, norm=3)", "optimiser", {"clip_norm": 3}),
        ("clip_value(lstm, bound=0.5)", "optimiser", {"clip_value": 0.5}),
        ("sgd(lstm, rate=0.25)", "optimiser", {"optimiser": "sgd", "learning_rate": 0.25}),
        ("nesterov:lstm", "optimiser", {"optimiser": "nesterov"}),
        ("rmsprop:lstm", "optimiser", {"optimiser": "rmsprop"}),
        ("adam:lstm", "optimiser", {"optimiser": "adam"}),
    ],
)
def test_an_option_changes_what_it_says_alone(text, group, changes):
    want = replace(BASE, **{group: replace(getattr(BASE, group), **changes)})
    assert applied(text) == replace(want, model=replace(want.model, cell="lstm"))


def test_every_option_stands_in_the_table_above():
    marks = test_an_option_changes_what_it_says_alone.pytestmark[0].args[1]
    assert {text.partition("(")[0].partition(":")[0] for text, *_ in marks} == OPTIONS.keys()


def test_options_are_applied_from_the_inside_out():
    found = applied("clip(forget(orthogonal:rnn, bias=2), norm=4)")
    assert found.model.init == ("orthogonal", "forget:2")
    assert found.optimiser.clip_norm == 4
    assert found.model.cell == "rnn"


def test_cures_stay_with_the_cell():
    found = applied("clip:leaky(skip(gru, delays=[1, 8]), rate=0.25)")
    assert parse_cell(found.model.cell) == parse_cell("leaky(skip(gru, delays=[1, 8]), rate=0.25)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnn, rnn", "twice"),
        ("clip:rnn,clip(rnn, norm=1.0)", "twice"),
        ("leaky:clip:rnn", "outside all cures"),
        ("stack(rnn, layers=0)", "layers is 0"),
        ('stack(rnn, layers="x")', "stack cannot take"),
        ("weight_drop(rnn, p=1.5)", "weight_drop is 1.5"),
        ("rnm", "did you mean 'rnn'"),
    ],
)
def test_what_has_no_meaning_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        [variant.applied(BASE, TASK) for variant in read_variants(text)]
