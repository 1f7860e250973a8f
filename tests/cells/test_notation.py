"""Which cell a text names, what it refuses, and that it never does anything else."""

import contextlib
import inspect
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from throughtime.cells import CATALOGUE, FACTORIES
from throughtime.cells.delays import dilate, remove, skip
from throughtime.cells.expression import read
from throughtime.cells.masks import recurrent_dropout
from throughtime.cells.mixtures import clockwork, leaky, zoneout
from throughtime.cells.notation import CURES, SHORT, known, parse, parse_cell, split
from throughtime.declare import Uniform
from throughtime.errors import ConfigError

gru, lstm, rnn = CATALOGUE["gru"], CATALOGUE["lstm"], CATALOGUE["rnn"]
OPTIONS = {"clip": {"norm": 1.0}, "chrono": {"t_max": 100, "t_min": 1}, "orthogonal": {}}

SAME = {
    "lstm": lstm,
    "  lstm ( ) ": lstm,
    "leaky(lstm, rate=0.25)": leaky(lstm, rate=0.25),
    "leaky(lstm, .75)": leaky(lstm, 0.75),
    "leaky(lstm, rate=uniform(0.02, 0.2))": leaky(lstm, rate=Uniform(0.02, 0.2)),
    "leaky(lstm, rate=uniform(low=0.02, high=0.2))": leaky(lstm, rate=Uniform(0.02, 0.2)),
    "leaky(lstm, rate=5e-1, states=['c'])": leaky(lstm, rate=0.5, states=("c",)),
    'zoneout(lstm, {"h": 0.05, "c": .5})': zoneout(lstm, {"h": 0.05, "c": 0.5}),
    "clockwork(rnn, periods=(1, 2), masked=False)": clockwork(rnn, (1, 2), masked=False),
    "leaky(skip(gru, delays=[1,8]), rate=0.1)": leaky(skip(gru, [1, 8]), rate=0.1),
    "skip(leaky:gru, [3])": skip(leaky(gru, rate=0.1), [3]),
    "skip:leaky:gru": skip(leaky(gru, rate=0.1), [1, 8]),
    "leaky : zoneout(lstm, p=0.5)": leaky(zoneout(lstm, 0.5), rate=0.1),
    "leaky:lstm": leaky(lstm, rate=0.1),
    "leaky(lstm, rate='learned')": leaky(lstm, rate="learned"),
    "leaky:gf_gru(layers=2)": leaky(FACTORIES["gf_gru"](2), rate=0.1),
    "gf_gru(2)": FACTORIES["gf_gru"](2),
    "zoneout:lstm": zoneout(lstm, 0.1),
    "remove:gru": remove(gru, (2,)),
    "dilate:gru": dilate(gru, 2),
    "recurrent_dropout:gru": recurrent_dropout(gru, 0.1),
}


@pytest.mark.parametrize("text", SAME)
def test_a_text_is_its_cell_and_so_is_its_canonical_text(text):
    parsed = parse(text)
    assert parsed.cell == SAME[text]
    again = parse(parsed.cell_text)
    assert again.cell == SAME[text]
    assert again.cell_text == parsed.cell_text
    assert parse_cell(parsed.cell.name) == parsed.cell, "a cell's name is an expression"


def test_the_canonical_text_says_everything():
    assert parse("skip:leaky(gru, .9)").cell_text == "skip(leaky(gru, retain=0.9), delays=[1, 8])"
    assert parse("zoneout(lstm, {'h':.5})").cell_text == "zoneout(lstm, p={'h': 0.5})"
    assert parse("leaky(rnn, rate=uniform(0, 1))").cell_text == (
        "leaky(rnn, rate=uniform(0.0, 1.0))"
    )


@pytest.mark.parametrize("name", [*CATALOGUE, *FACTORIES])
def test_every_name_is_a_cell(name):
    cell = parse_cell(name)
    assert name in FACTORIES or cell is CATALOGUE[name]
    assert parse(parse(name).cell_text).cell == cell


@pytest.mark.parametrize("name", CURES)
def test_every_cure_has_a_short_form_that_changes_the_cell(name):
    parsed = parse(f"{name}:lstm")
    assert parsed.cell == CURES[name](lstm, **SHORT[name]) != lstm
    assert parse(f"{name}(lstm)").cell_text == parsed.cell_text
    assert any(named.startswith(f"{name}(CELL, ") for named in known()["cures"])


def test_options_are_handed_back_outermost_first():
    parsed = parse("clip(chrono:orthogonal:leaky:gru, 2)", OPTIONS)
    assert parsed.cell == leaky(gru, rate=0.1)
    assert parsed.cell_text == "leaky(gru, rate=0.1)"
    assert parsed.options == (
        ("clip", {"norm": 2}),
        ("chrono", {"t_max": 100, "t_min": 1}),
        ("orthogonal", {}),
    )
    assert parse(str(parsed), OPTIONS) == parsed
    assert "clip(CELL, norm=1.0)" in known(OPTIONS)["options"]


REFUSED = {
    "": "column 1: nothing is written",
    "  ": "column 1: nothing is written",
    "lsmt": "column 1: 'lsmt' is unknown; did you mean 'lstm'",
    "skip:lsmt": "column 6: 'lsmt' is unknown; did you mean 'lstm'",
    "qqq": "'qqq' is unknown; known are rnn, ",
    "LSTM": "'LSTM' is unknown",
    "leaky": "leaky stands around a cell, as in leaky:lstm",
    "leaky:": "column 6: this cannot be read",
    "leaky(0.1)": "leaky stands around a cell",
    "leaky(rate=0.1)": "leaky stands around a cell",
    "leaky(uniform(0, 1))": "leaky stands around a cell",
    "gf_gru(layers=17)": "column 1: layers is 17; at most 16",
    "gf_gru(layers=0)": "column 1: ",
    "gf_gru:lstm": "gf_gru is a cell, no cure",
    "lstm:gru": "lstm is a cell, no cure",
    "lstm(gru)": "lstm is a cell, no cure",
    "lstm(layers=2)": "lstm takes no arguments; 'layers' is unknown",
    "lstm(3)": "lstm takes no arguments; got 1 without a name",
    "leaky(lstm, rat=0.1)": "'rat' is unknown; did you mean 'rate'",
    "leaky(lstm, 0.5, retain=0.5)": "retain is given twice",
    "leaky(lstm, rate=1, rate=2)": "column 21: each argument has one name",
    "leaky(lstm, rate=0.1, retain=0.9)": "column 1: ",
    "leaky(lstm, rate='fast')": "column 1: ",
    "leaky(lstm, rate=fast)": "column 18: a value such as .* a name stands in quotes: 'fast'",
    "leaky(lstm, rate=[[1]])": "column 19: a value such as",
    "leaky(lstm, gru)": "column 13: a value such as",
    "leaky(lstm, rate=uniform(0.2, 0.02))": "column 18: Uniform: low 0.2 lies above high",
    "leaky(lstm, rate=uniform(1))": "uniform takes low and high",
    "leaky(lstm, rate=uniform(1, 2, high=3))": "uniform takes low and high",
    "uniform(0, 1)": "'uniform' is unknown",
    "zoneout(lstm, states=['h'])": "p is missing",
    "zoneout(lstm, {1: 2})": "a table gives each of some names",
    "zoneout(lstm, {**{'h': 1}})": "cannot stand here",
    "zoneout(lstm, {'h'})": "a value such as",
    "skip(lstm, delays=[1,)": "column 22: '\\)' closes nothing",
    "skip(lstm": "column 10: '\\)' is missing at the end",
    "skip(lstm, delays='ab')": "column 1: ",
    "skip(lstm, delays=[0.5])": "column 1: ",
    "dilate(lstm, 1000000)": "reads 1000000 steps back",
    "leaky(clip:lstm)": "column 7: option clip stands inside a cure",
    "skip:clip:leaky:lstm": "column 6: option clip stands inside a cure",
    "clip:clip:lstm": "option clip is given twice",
    "clip": "clip stands around a cell",
    "clip(lstm, nrom=1)": "'nrom' is unknown; did you mean 'norm'",
    "clip(lstm, 1, 2)": "clip takes norm; got 2 without a name",
    "a,b": "a cell or a cure was expected",
    "(a := b)": "column 4: this cannot be read",
    "__import__('os')": "'__import__' is unknown",
    "__import__('os').system('ls')": "column 17: '.' cannot stand here",
    "lstm.__class__": "column 5: '.' cannot stand here",
    "lstm['x']": "a cell or a cure was expected",
    "(lambda: lstm)()": "cannot be read",
    "leaky(lstm for lstm in rnn)": "a value such as",
    "[lstm for x in y]": "a cell or a cure was expected",
    "f'{lstm}'": "a cell or a cure was expected",
    "leaky(lstm, rate=f'{1}')": "a value such as",
    "leaky(lstm, rate=b'1')": "a value such as",
    "leaky(lstm, rate=1j)": "'1' cannot stand here",
    "leaky(lstm, rate=1if 1else 2)": "'1' cannot stand here",
    "leaky(lstm, rate=9**9**9)": "column 19: '\\*' cannot stand here",
    "leaky(lstm, rate=1e999)": "column 18: a number beyond",
    "leaky(lstm, rate=not 1)": "a value such as",
    "leaky(lstm, rate=- 1)": "'-' cannot stand here",
    "leaky(lstm, rate=1 -1)": "a value such as",
    "leaky(lstm, rate=...)": "'.' cannot stand here",
    "leaky(lstm, *[1])": "'\\*' cannot stand here",
    "leaky(lstm, rate='\\x41')": '"\'" cannot stand here',
    "lstm; gru": "';' cannot stand here",
    "lstm\x00": "cannot stand here",
    "lstm # gru": "'#' cannot stand here",
    "löstm": "'ö' cannot stand here",
    "leaky(lstm, rate=" + "9" * 1900 + ")": "a number beyond",
    "skip(lstm, [" + "1," * 300 + "])": "a list holds at most 64 values; got 300",
    "skip(lstm, [" + "1," * 100_000 + "])": "longer than 2000 characters",
    "(" * 10_000 + "lstm" + ")" * 10_000: "longer than 2000 characters",
    "leaky(" * 200 + "lstm" + ")" * 200: "more than 24 brackets and colons",
    "leaky:" * 200 + "lstm": "more than 24 brackets and colons",
    "not " * 490 + "lstm": "column",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_all_else_is_refused_saying_where(text):
    with pytest.raises(ConfigError, match=REFUSED[text]) as refusal:
        parse(text, OPTIONS)
    assert len(str(refusal.value)) < 1000
    assert "\n" not in str(refusal.value)


def test_what_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="is text such as 'leaky:lstm'; got None"):
        parse_cell(None)


def test_lists_are_split_outside_brackets():
    text = "rnn, leaky(lstm,rate=0.1),skip:gru , zoneout(lstm, {'h': 1, 'c, )': [1,2]}), leaky:rnn"
    found = split(text)
    assert found == [
        "rnn",
        "leaky(lstm,rate=0.1)",
        "skip:gru",
        "zoneout(lstm, {'h': 1, 'c, )': [1,2]})",
        "leaky:rnn",
    ]
    for text, column in (("rnn,,gru", 5), ("rnn,", 5), ("", 1), (",rnn", 1)):
        with pytest.raises(ConfigError, match=f"column {column}: an expression is missing"):
            split(text)
    with pytest.raises(ConfigError, match="is missing at the end"):
        split("leaky(rnn, gru")


def test_columns_count_in_the_text_as_typed():
    assert read("  leaky : skip(gru, [1])").column == 3
    assert read("  leaky : skip(gru, [1])").inner.column == 11
    assert read("  leaky : gru") == read("leaky(gru)"), "where a text stands is not what it says"


NAMES = "lstm gru rnn leaky skip zoneout remove dilate clockwork clip chrono uniform"
WORDS = "rate p d delays periods states retain True None not lambda if for in is await yield f r"
PIECES = [*NAMES.split(), *WORDS.split()]
MARKS = ["(", ")", "[", "]", "{", "}", ",", ":", "=", " ", "'h'", "0.1", "-1", "8", "*", ".", "@"]
soup = st.lists(st.sampled_from(PIECES + MARKS), max_size=14).map("".join)
shaped = st.recursive(
    st.sampled_from(["lstm", "gru", "lsmt"]),
    lambda inner: st.one_of(
        st.builds("{}:{}".format, st.sampled_from(PIECES), inner),
        st.builds(
            "{}({}, {})".format,
            st.sampled_from(PIECES),
            inner,
            st.sampled_from(["0.5", "[1, 3]", "rate=uniform(0, 1)", "p={'h': 0.5}", "d=3", "2"]),
        ),
    ),
    max_leaves=4,
)


def parsed_or_refused(text):
    """None where the text is refused as the user's mistake; any other exception is a failure."""
    started_s = time.monotonic()
    try:
        return parse(text, OPTIONS)
    except ConfigError:
        return None
    finally:
        assert time.monotonic() - started_s < 10.0


@settings(max_examples=400)
@given(st.one_of(soup, shaped, st.text(max_size=30)))
@example("leaky(lstm, states=5, rate=.1)")
@example("clockwork(lstm, 'ab')")
@example("skip(lstm, {'h': 1})")
@example("dilate(lstm, [1])")
@example("zoneout(lstm, None)")
def test_no_text_does_anything_but_name_a_cell_or_be_refused(text):
    parsed = parsed_or_refused(text)
    if parsed:
        assert parse(str(parsed), OPTIONS) == parsed
        assert split(f"{text},{text}") == [text.strip()] * 2
    with contextlib.suppress(ConfigError):
        assert all(split(part) == [part] for part in split(text))


@pytest.mark.parametrize("name", [*CURES, *FACTORIES])
def test_wrong_values_are_refused_as_the_users(name):
    """Every argument of every cure and factory, with every kind of value."""
    source = random.Random(name)
    values = ["-1", "0", "1e9", "0.5", "'h'", "[]", "['h']", "[0.5]", "[-1, 0]", "{}", "{'q': 1}"]
    values += ["None", "True", "uniform(0, 3)", "[1000000000]", "['', 'x']", "{'h': 'a'}"]
    function = CURES.get(name) or FACTORIES[name]
    names = list(inspect.signature(function).parameters)[name in CURES :]
    inner = "lstm, " if name in CURES else ""
    for _ in range(60):
        chosen = source.sample(names, source.randint(min(1, len(names)), len(names)))
        given = ", ".join(f"{n}={source.choice(values)}" for n in chosen)
        parsed = parsed_or_refused(f"{name}({inner}{given})")
        if parsed:
            assert parse(parsed.cell_text).cell == parsed.cell


@pytest.mark.parametrize(
    "text",
    [
        "gf_gru", "gf_gru(layers=3)", "leaky(gf_lstm(layers=3, gates='open'), rate=0.1)",
        "rhn(depth=4)", "skip(rnn_deep_transition(depth=3), delays=[1, 5])",
        "rnn_deep_transition_shortcut",
    ],
)  # fmt: skip
def test_the_name_of_a_cell_made_to_order_reads_back_as_it(text):
    cell = parse_cell(text)
    assert parse_cell(cell.name) == cell
