"""How is a cell read from text, and written? Names, calls and short forms; nothing is ever run.

    lstm                                     a name
    gf_gru(layers=3)                         a call
    leaky(skip(gru, delays=[1, 8]), rate=0.1)    a call around another expression
    skip:leaky:gru                           the same without arguments: skip(leaky(gru))

Arguments are numbers, strings, lists of these, tables {"h": 0.05}, True, False, None, and
uniform(low, high). The text is cut into tokens, few of which exist, and Python's own
parser is asked for the tree, of which a few kinds of nodes are accepted.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from throughtime.declare import Uniform
from throughtime.declare.surgery import written
from throughtime.errors import ConfigError, ThroughtimeError

__all__ = ["VALUES", "Expression", "read", "refuse", "split"]

LONGEST_TEXT = 2_000  # characters; Python's parser would take any text, and all memory
DEEPEST = 24  # brackets and colons around one another
MOST_ITEMS = 64
LARGEST_NUMBER = 1e9
VALUES = {"uniform": (Uniform, ("low", "high"))}

_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
    | (?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![A-Za-z_0-9.]))
    | (?P<string>"[ !#-[\]-~]*"|'[ -&(-[\]-~]*')
    | (?P<mark>[()\[\]{},:=])""",
    re.VERBOSE,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Expression:
    """A name, what it stands around, and its arguments.

    Attributes:
        name: What is called.
        inner: The expression it stands around, or None.
        values: Arguments by position.
        named: Arguments by name.
        column: Where the name stands in the text, from 1.
    """

    name: str
    inner: "Expression | None" = None
    values: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    column: int = field(default=1, compare=False)

    def __str__(self) -> str:
        """The expression in full; `read` gives it back."""
        parts = [str(self.inner)] if self.inner else []
        parts += [written(value) for value in self.values]
        parts += [f"{name}={written(value)}" for name, value in self.named.items()]
        return f"{self.name}({', '.join(parts)})" if parts else self.name


def refuse(text: str, column: int, problem: str) -> NoReturn:
    """Raise for a text that is no expression, saying where."""
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    raise ConfigError(f"cell {shown!r}, column {column}: {problem}")


def read(text: str) -> Expression:
    """The expression that a text is.

    Raises:
        ConfigError: it is none; the message says where and what was expected.

    Example:
        >>> print(read("skip : leaky(lstm, rate=.1)"))
        skip(leaky(lstm, rate=0.1))
    """
    if not isinstance(text, str):
        raise ConfigError(f"a cell's expression is text such as 'leaky:lstm'; got {text!r}.")
    return _Reader(text).expression(_tree(text))


def split(text: str) -> list[str]:
    """The expressions of a list, separated by commas outside all brackets.

    Raises:
        ConfigError: one of them is empty, or the text has brackets without a partner.

    Example:
        >>> split("rnn, leaky(lstm, rate=0.1), skip:gru")
        ['rnn', 'leaky(lstm, rate=0.1)', 'skip:gru']
    """
    commas = [at for at, token, inside in _tokens(text) if token == "," and not inside]
    starts, stops = [0, *(at + 1 for at in commas)], [*commas, len(text)]
    parts = [text[start:stop].strip() for start, stop in zip(starts, stops, strict=True)]
    for part, start in zip(parts, starts, strict=True):
        if not part:
            refuse(text, start + 1, "an expression is missing; write e.g. rnn,leaky:lstm.")
    return parts


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Where each token begins, the token, and the brackets and colons it stands in."""
    if len(text) > LONGEST_TEXT:
        refuse(text, LONGEST_TEXT + 1, f"the text is longer than {LONGEST_TEXT} characters.")
    at, inside = 0, ""
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            refuse(text, at + 1, f"{text[at]!r} cannot stand here; {_EXPECTED}")
        token = found.group()
        if found.lastgroup != "blank":
            inside = _within(text, at, inside, token)
            yield at, token, inside
        at = found.end()
    if inside.strip(":"):
        refuse(text, len(text) + 1, f"{_CLOSING[inside.strip(':')[-1]]!r} is missing at the end.")


_EXPECTED = "a cell is written as lstm, leaky:lstm or leaky(lstm, rate=0.1)."


def _within(text: str, at: int, inside: str, token: str) -> str:
    """The brackets and colons around what follows a token."""
    if token in _CLOSING.values() or token == ",":
        inside = inside.rstrip(":")  # what a short form stands around ends here
    if token in _CLOSING.values():
        if not inside or _CLOSING[inside[-1]] != token:
            refuse(text, at + 1, f"{token!r} closes nothing.")
        return inside[:-1]
    short = token == ":" and inside[-1:] != "{"
    inside += token if token in _CLOSING or short else ""
    if len(inside) > DEEPEST:
        refuse(text, at + 1, f"more than {DEEPEST} brackets and colons stand around one another.")
    return inside


def _tree(text: str) -> ast.expr:
    """Python's tree of a text, in which a:b is a @ b and each column counts from 1."""
    # No token is longer or shorter than what replaces it. @ is no token of ours, holds less than
    # a call and more than a comma, as the colon should; the bracket in front makes columns count
    # from 1 and lets the text begin with a blank.
    plain = [" "] * len(text)
    for at, token, inside in _tokens(text):
        short = token == ":" and inside[-1:] == ":"
        plain[at : at + len(token)] = "@" if short else token
    if "".join(plain).isspace() or not text:
        refuse(text, 1, f"nothing is written; {_EXPECTED}")
    try:
        return ast.parse(f"({''.join(plain)})", mode="eval").body
    except SyntaxError as error:
        column = max(1, min((error.offset or 2) - 1, len(text)))
        refuse(text, column, f"this cannot be read; {_EXPECTED}")
    except (ValueError, MemoryError, RecursionError):
        refuse(text, 1, f"this cannot be read; {_EXPECTED}")


class _Reader:
    """Turns Python's tree into an expression, and refuses all else."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, n: ast.AST, problem: str) -> NoReturn:
        refuse(self.text, max(1, getattr(n, "col_offset", 1)), problem)

    def expression(self, n: ast.expr) -> Expression:
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult):
            return self._short(n)
        if isinstance(n, ast.Name):
            return Expression(n.id, column=n.col_offset)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name):
            return self._call(n, n.func)
        return self.refuse(n, f"a cell or a cure was expected here; {_EXPECTED}")

    def _short(self, n: ast.BinOp) -> Expression:
        """a:b:c, which Python reads as (a @ b) @ c."""
        links = [n.right]
        outer: ast.expr = n.left
        while isinstance(outer, ast.BinOp) and isinstance(outer.op, ast.MatMult):
            links.append(outer.right)
            outer = outer.left
        found = self.expression(links[0])
        for link in [*links[1:], outer]:
            if not isinstance(link, ast.Name):
                self.refuse(link, "a plain name was expected before ':', as in leaky:lstm.")
            found = Expression(link.id, found, column=link.col_offset)
        return found

    def _call(self, n: ast.Call, name: ast.Name) -> Expression:
        listed = list(n.args)
        inner = self.expression(listed.pop(0)) if listed and self._is_cell(listed[0]) else None
        named: dict[str, Any] = {}
        for keyword in n.keywords:
            if keyword.arg is None or keyword.arg in named:
                self.refuse(keyword, "each argument has one name, as in rate=0.1.")
            named[keyword.arg] = self.value(keyword.value)
        return Expression(name.id, inner, tuple(map(self.value, listed)), named, name.col_offset)

    def _is_cell(self, n: ast.expr) -> bool:
        called = n.func if isinstance(n, ast.Call) else n
        value = isinstance(called, ast.Name) and called.id in VALUES
        return isinstance(n, ast.Name | ast.Call | ast.BinOp) and not value

    def value(self, n: ast.expr) -> Any:
        """An argument."""
        if isinstance(n, ast.List | ast.Tuple):
            return self._list(n)
        if isinstance(n, ast.Dict):
            return self._table(n)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in VALUES:
            return self._made(n, n.func.id)
        return self._single(n)

    def _single(self, n: ast.expr) -> Any:
        """A number, a string, True, False or None."""
        constant, sign = n, None
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub | ast.UAdd):
            constant, sign = n.operand, -1 if isinstance(n.op, ast.USub) else 1
        value = constant.value if isinstance(constant, ast.Constant) else ...
        if isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) > LARGEST_NUMBER:
                self.refuse(n, f"a number beyond {LARGEST_NUMBER:g} is too large.")
            return value if sign is None else sign * value
        if sign is None and (value is None or isinstance(value, bool | str)):
            return value
        hint = f"; a name stands in quotes: '{n.id}'" if isinstance(n, ast.Name) else ""
        expected = "a value such as 0.1, 'h', [1, 8] or {'h': 0.1} was expected"
        return self.refuse(n, f"{expected}{hint}.")

    def _list(self, n: ast.List | ast.Tuple) -> tuple[Any, ...]:
        if len(n.elts) > MOST_ITEMS:
            self.refuse(n, f"a list holds at most {MOST_ITEMS} values; got {len(n.elts)}.")
        return tuple(map(self._single, n.elts))

    def _table(self, n: ast.Dict) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in zip(n.keys, n.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) else None
            if not isinstance(name, str) or name in found:
                self.refuse(n, "a table gives each of some names its number: {'h': 0.1}.")
            found[name] = self._single(value)
        return found

    def _made(self, n: ast.Call, name: str) -> Any:
        kind, fields = VALUES[name]
        named = {k.arg or "": self.value(k.value) for k in n.keywords}
        given = dict(zip(fields, map(self.value, n.args), strict=False)) | named
        if set(given) != set(fields) or len(n.args) + len(n.keywords) != len(fields):
            self.refuse(n, f"{name} takes {' and '.join(fields)}: {name}({', '.join(fields)}).")
        try:
            return kind(**given)
        except ThroughtimeError as error:
            self.refuse(n, str(error))
