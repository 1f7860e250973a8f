"""Does a configuration come back as it was written, and as TOML that others read?"""

import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from throughtime.errors import ConfigError
from throughtime.records import read_config, write_config

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans()
VALUES = SCALARS | st.lists(SCALARS) | st.lists(st.lists(SCALARS))
KEYS = TEXT.filter(lambda key: key != "schema")
TABLES = st.dictionaries(TEXT, VALUES, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUES | TABLES, max_size=4))
def test_every_configuration_comes_back(tmp_path, values):
    write_config(tmp_path / "config.toml", values)
    found = read_config(tmp_path / "config.toml")
    assert {key: repr(value) for key, value in found.items()} == {
        key: repr(value) for key, value in values.items()
    }


def test_the_file_is_plain_toml(tmp_path):
    path = tmp_path / "config.toml"
    write_config(path, {"model": {"adaptive": (2, 5)}, "cell": 'l"s\ntm', "rate": 1e-05})
    assert path.read_text() == (
        'schema = 1\ncell = "l\\"s\\ntm"\nrate = 1e-05\n\n[model]\nadaptive = [2, 5]\n'
    )
    assert tomllib.loads(path.read_text())["cell"] == 'l"s\ntm'


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"budget": None}, "budget is None, a NoneType"),
        ({"model": {"sizes": [1, {}]}}, "model.sizes is {}, a dict"),
        ({"model": {"inner": {}}}, "model.inner is {}, a dict"),
        ({"name": "\ud800"}, "not a Unicode text"),
        ({"\ud800": 1}, "not a Unicode text"),
        ({"schema": 3}, '"schema" is the version of the file'),
    ],
)
def test_what_toml_lacks_is_refused(tmp_path, values, reason):
    with pytest.raises(ConfigError) as caught:
        write_config(tmp_path / "config.toml", values)
    assert reason in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"schema = 2\n", "has schema 2; this version reads schema 1"),
        (b"cell = 1\n", "has schema None"),
        (b"schema = 1\ncell = \n", "is not TOML"),
        (b"schema = 1\nschema = 1\n", "is not TOML"),
        (b"schema = 1\na = '\xff'\n", "is not TOML"),
        (b"schema = 1\na = " + b"[" * 10_000, "is not TOML"),
    ],
)
def test_another_file_is_refused(tmp_path, data, reason):
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "config.toml")
