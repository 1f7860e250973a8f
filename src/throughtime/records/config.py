"""How is a run's configuration written as TOML, so that it reads back the same?"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from throughtime.errors import ConfigError
from throughtime.records.atomic import replace_file
from throughtime.records.folder import SCHEMA

__all__ = ["read_config", "write_config"]


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path`: str, int, float, bool, lists of these, and tables of all these.

    A tuple is written as a list. TOML has no null: leave out what has no value.

    Raises:
        ConfigError: A value is of another kind, or a top-level key is called "schema".
        CheckpointError: The file cannot be written.
    """
    if "schema" in values:
        raise ConfigError('"schema" is the version of the file; choose another name for this key.')
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [f"schema = {SCHEMA}", *_lines(plain, "")]
    for name, table in tables.items():
        lines += ["", f"[{_key(name)}]", *_lines(table, f"{name}.")]
    replace_file(path, ["".join(line + "\n" for line in lines).encode()])


def read_config(path: Path) -> dict[str, Any]:
    """The values that `write_config` wrote to `path`.

    Raises:
        ConfigError: The file is missing, is not TOML, or has another schema.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}. Name a run's folder.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}. Correct it, or start a new run."
        ) from error
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        raise ConfigError(
            f"{path} has schema {schema!r}; this version reads schema {SCHEMA}. "
            "Use the version of throughtime that made the run."
        )
    return values


def _lines(values: Mapping[str, Any], prefix: str) -> list[str]:
    return [f"{_key(key)} = {_value(value, prefix + key)}" for key, value in values.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _value(value: object, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(part, name) for part in value) + "]"
    raise ConfigError(
        f"{name} is {value!r}, a {type(value).__name__}; a configuration holds str, int, float, "
        "bool and lists of these. Convert it, or leave it out if it has no value."
    )


def _string(text: str) -> str:
    """A TOML string: JSON's, but that DEL must be escaped and a half character cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r} is not a Unicode text: {error.reason}.") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
