"""Does JSON come back as exactly what was written, and is everything else refused?"""

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.records.strict_json import dumps, loads, parse

TRICKY = st.sampled_from(["nan", "inf", "-inf", "=nan", "==-inf", "NaN", "=", "info", "\ud800"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**512), 2**512)
    | st.floats()
    | st.text(st.characters())
    | TRICKY
)
JSON = st.recursive(
    SCALARS, lambda part: st.lists(part) | st.dictionaries(st.text() | TRICKY, part), max_leaves=20
)


def is_same(a: object, b: object) -> bool:
    """Equality that tells 1 from 1.0 and True, -0.0 from 0.0, and knows nan."""
    return repr(a) == repr(b)


@settings(deadline=None)
@given(JSON)
def test_every_value_comes_back(value):
    text = dumps(value)
    assert is_same(loads(text.encode()), value)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_non_finite_numbers_are_strings():
    assert dumps([math.nan, math.inf, -math.inf, "nan", 1.5]) == '["nan","inf","-inf","=nan",1.5]'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1: 2}, "the key 1 of it is not a string"),
        ({"a": [0, {2: 3}]}, "the key 2 of ['a'][1] is not a string"),
        ({"a": {"b": (1,)}}, "['a']['b'] is a tuple"),
        ([1j], "[0] is a complex"),
        pytest.param(10**5000, "4300 digits", id="long integer"),
    ],
)
def test_what_json_lacks_is_refused(value, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        dumps(value)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        dumps(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "the key 'a' stands twice"),
        (b'[{"b":{"a":1,"a":2}}]', "stands twice"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not"),
        (b"1e999", "too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "4300"),
        (b"[1,]", "Expecting value"),
        (b"1 2", "Extra data"),
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf1", "BOM"),
        ("[1]".encode("utf-16"), "utf-8"),
        (b'"\xff"', "utf-8"),
    ],
)
@pytest.mark.parametrize("read", [loads, parse])
def test_anything_else_is_refused(read, data, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        read(data)
