"""How is JSON written that reads back as exactly what was written, and as nothing else?

JSON has no number for nan, inf and -inf: they are written as the strings "nan", "inf", "-inf".
A string that looks like one of these gets a "=" in front, and so does one that then looks like
that, so that every value comes back as itself:

    inf -> "inf"     "inf" -> "=inf"     "=inf" -> "==inf"     "info" -> "info"
"""

import json
import math
import re

__all__ = ["dumps", "loads", "parse"]

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_LOOKS_NON_FINITE = re.compile(r"=*(nan|inf|-inf)")


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON text of `value`, in ASCII.

    Raises:
        ValueError: It holds more than dicts with string keys, lists, str, int, float, bool, None.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(_encode(value, ""), allow_nan=False, separators=separators, indent=indent)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def loads(data: bytes) -> object:
    """The value that `dumps` wrote.

    Raises:
        ValueError: `data` is not strict JSON; see `parse`.
    """
    try:
        return _decode(parse(data))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse(data: bytes) -> object:
    """The value of strict JSON in UTF-8, its strings as they stand.

    Raises:
        ValueError: A key stands twice, a number is not finite, or it is no JSON at all.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_twins,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _encode(value: object, place: str) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(float(value))
    if isinstance(value, str):
        return "=" + value if _LOOKS_NON_FINITE.fullmatch(value) else value
    if isinstance(value, list):
        return [_encode(part, f"{place}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} of {place or 'it'} is not a string")
        return {key: _encode(part, f"{place}[{key!r}]") for key, part in value.items()}
    raise ValueError(f"{place or 'it'} is a {type(value).__name__}, which JSON does not have")


def _decode(value: object) -> object:
    if isinstance(value, str) and _LOOKS_NON_FINITE.fullmatch(value):
        return value[1:] if value.startswith("=") else _NON_FINITE[value]
    # In place: the value is fresh from the parser, and a second one could be large.
    if isinstance(value, list):
        for index, part in enumerate(value):
            value[index] = _decode(part)
    if isinstance(value, dict):
        for key, part in value.items():
            value[key] = _decode(part)
    return value


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r:.80} stands twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text:.40} is too large")
    return float(text)
