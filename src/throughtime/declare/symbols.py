"""What may a user write in a step? The symbols that stand for tensors while it is traced.

A symbol takes part in arithmetic, in the functions below, and in torch's functions of the same
names (through `__torch_function__`; torch itself is not imported). Anything else is refused by
name.
"""

import inspect
import numbers
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, cast

from throughtime.declare.graph import Node, Width, constant, node
from throughtime.errors import DeclarationError

ALLOWED = (
    "+ - * / **(integer), comparisons inside where(), sigmoid tanh relu exp log sqrt sin cos abs "
    "sign minimum maximum clamp where softplus, row_sum row_mean layer_norm, affine, ago, now"
)


def refuse(what: str, advice: str = "") -> NoReturn:
    """Raise for something that a step may not contain."""
    raise DeclarationError(f"{what} cannot be part of a step. {advice or f'Use: {ALLOWED}.'}")


class Symbol:
    """A value of one step while it is being traced, [B, width]."""

    __slots__ = ("node",)

    def __init__(self, value: Node) -> None:
        self.node = value

    def __repr__(self) -> str:
        return f"<{self.node.op} of width {self.node.width}>"

    def __add__(self, other: Any) -> "Symbol":
        return binary("add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return binary("add", other, self)

    def __sub__(self, other: Any) -> "Symbol":
        return binary("sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return binary("sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return binary("mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return binary("mul", other, self)

    def __truediv__(self, other: Any) -> "Symbol":
        return binary("div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return binary("div", other, self)

    def __neg__(self) -> "Symbol":
        return unary("neg", self)

    def __pos__(self) -> "Symbol":
        return self

    def __abs__(self) -> "Symbol":
        return unary("abs", self)

    def __pow__(self, exponent: Any) -> "Symbol":
        return power(self, exponent)

    def __lt__(self, other: Any) -> "Condition":
        return compare("lt", self, other)

    def __le__(self, other: Any) -> "Condition":
        return compare("le", self, other)

    def __gt__(self, other: Any) -> "Condition":
        return compare("gt", self, other)

    def __ge__(self, other: Any) -> "Condition":
        return compare("ge", self, other)

    def __eq__(self, other: object) -> "Condition":  # type: ignore[override]
        return compare("eq", self, other)

    def __ne__(self, other: object) -> "Condition":  # type: ignore[override]
        return compare("ne", self, other)

    def __getattr__(self, name: str) -> Callable[..., "Symbol"]:
        if name.startswith("__"):
            raise AttributeError(name)
        function = BY_TORCH_NAME.get(name)
        if function is None:
            refuse(f"the method or attribute .{name} of a value")
        return lambda *args, **options: _called(f".{name}()", function, (self, *args), options)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        function = BY_TORCH_NAME.get(name)
        if function is None:
            refuse(f"torch's {name}")
        return _called(f"torch's {name}", function, args, kwargs or {})

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **options: Any) -> Any:
        # np.float64(2) * h arrives here too; left out, np.tanh(h) would silently call h.tanh().
        function = BY_NUMPY_NAME.get(ufunc.__name__)
        if function is None or method != "__call__" or options:
            refuse(f"numpy's {ufunc.__name__}", "Take throughtime's or torch's function instead.")
        # numpy hands its numbers over as arrays without axes.
        plain = [a if isinstance(a, Symbol) or a.shape else a.item() for a in args]
        return function(*plain)


def _called(
    what: str, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Call one of our functions with torch's arguments, as far as it has them."""
    given = {k: v for k, v in options.items() if v is not None and not (k == "inplace" and not v)}
    try:
        inspect.signature(function).bind(*args, **given)
    except TypeError as error:
        refuse(f"{what} with these arguments ({error})")
    return function(*args, **given)


def _refuser(text: str, advice: str = "") -> Callable[..., NoReturn]:
    def method(self: object, *args: object) -> NoReturn:
        refuse(text, advice)

    return method


_BRANCH = "Values are not known when a step is traced; choose with where(condition, a, b)."
for _name, _text, _advice in (
    ("__bool__", "a Python branch (if, and, or, not) on a value", _BRANCH),
    ("__iter__", "iterating over a value", ""),
    ("__len__", "len() of a value", ""),
    ("__hash__", "a value as a key of a dict or set", ""),
    ("__contains__", "in", ""),
    ("__getitem__", "indexing a value", "Declare one gate or state for each part instead."),
    ("__setitem__", "writing into a value", "A step makes new values; choose with where()."),
    ("__float__", "float() of a value", _BRANCH),
    ("__int__", "int() of a value", _BRANCH),
    ("__index__", "a value as a whole number", _BRANCH),
    ("__complex__", "complex() of a value", "Keep a complex state as two real ones."),
    ("__round__", "round() of a value", ""),
    ("__matmul__", "@", "A matrix is written affine(name, read)."),
    ("__rmatmul__", "@", "A matrix is written affine(name, read)."),
    ("__and__", "&", "Nest where() instead."),
    ("__rand__", "&", "Nest where() instead."),
    ("__or__", "|", "Nest where() instead."),
    ("__ror__", "|", "Nest where() instead."),
    ("__xor__", "^", ""),
    ("__rxor__", "^", ""),
    ("__lshift__", "<<", ""),
    ("__rlshift__", "<<", ""),
    ("__rshift__", ">>", ""),
    ("__rrshift__", ">>", ""),
    ("__divmod__", "divmod()", ""),
    ("__rdivmod__", "divmod()", ""),
    ("__invert__", "~", "Swap the two choices of where()."),
    ("__mod__", "%", "Write where(k + 1 >= n, 0, k + 1) for a counter."),
    ("__rmod__", "%", ""),
    ("__floordiv__", "//", ""),
    ("__rfloordiv__", "//", ""),
    ("__rpow__", "a number to the power of a value", "Write exp(log(number) * value)."),
):
    setattr(Symbol, _name, _refuser(_text, _advice))


class Condition(Symbol):
    """The result of a comparison; its only use is as `where`'s condition."""

    __slots__ = ()


def as_node(value: Any) -> Node:
    """The node of a symbol or of a plain number."""
    if isinstance(value, Condition):
        refuse("a comparison outside where()", "Write where(a > b, a, b).")
    if isinstance(value, Symbol):
        if value.node.op == "x":
            refuse("x outside affine()", 'Give x a matrix: affine("name", x).')
        return value.node
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        refuse(f"{value!r} of type {type(value).__name__}")
    return constant(float(value))


def _joint_width(op: str, nodes: tuple[Node, ...]) -> Width:
    wide = {n.width for n in nodes if n.width != 1}
    if len(wide) > 1:
        found = " and ".join(str(n.width) for n in nodes)
        raise DeclarationError(f"{op} got values of widths {found}; they must agree, or be 1.")
    return wide.pop() if wide else 1


def unary(op: str, value: Any) -> Symbol:
    """Apply an operation to every unit."""
    argument = as_node(value)
    return Symbol(node(op, argument, width=argument.width))


def binary(op: str, left: Any, right: Any) -> Symbol:
    """Apply an operation to two values; width 1 broadcasts."""
    pair = (as_node(left), as_node(right))
    if all(n.op == "constant" for n in pair) and op in FOLDED:
        return Symbol(constant(FOLDED[op](pair[0].data[0], pair[1].data[0])))
    return Symbol(node(op, *pair, width=_joint_width(op, pair)))


FOLDED: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


def compare(op: str, left: Any, right: Any) -> Condition:
    """Compare two values, for `where`."""
    pair = (as_node(left), as_node(right))
    return Condition(node(op, *pair, width=_joint_width(op, pair)))


def power(value: Any, exponent: Any) -> Symbol:
    """A value to a fixed integer power."""
    if isinstance(exponent, bool) or not isinstance(exponent, numbers.Real) or exponent % 1:
        refuse(f"the power {exponent!r}", "Only integer powers are; write exp(p * log(a)).")
    argument = as_node(value)
    return Symbol(node("pow", argument, data=(int(cast(float, exponent)),), width=argument.width))


def where(condition: Any, a: Any, b: Any) -> Symbol:
    """Choose a where the condition holds, b elsewhere."""
    if not isinstance(condition, Condition):
        refuse("where() without a comparison", "Its first argument is one, e.g. h > 0.")
    trio = (condition.node, as_node(a), as_node(b))
    return Symbol(node("where", *trio, width=_joint_width("where", trio)))


def clamp(value: Any, min: float | None = None, max: float | None = None) -> Symbol:
    """Hold a value between two numbers."""
    for bound in (min, max):
        if bound is not None and not isinstance(bound, numbers.Real):
            refuse(f"clamp to {bound!r}", "Bounds are numbers; use minimum() and maximum().")
    if min is None and max is None:
        raise DeclarationError("clamp needs min, max or both; got neither.")
    bounds = tuple(None if b is None else float(b) for b in (min, max))
    argument = as_node(value)
    return Symbol(node("clamp", argument, data=bounds, width=argument.width))


def row_sum(value: Any) -> Symbol:
    """The sum over the units, of width 1."""
    return Symbol(node("row_sum", as_node(value), width=1))


def row_mean(value: Any) -> Symbol:
    """The mean over the units, of width 1."""
    argument = as_node(value)
    share = Symbol(node("reciprocal_width", data=(argument.width,), width=1))
    return row_sum(value) * share


def layer_norm(value: Any, gain: Any = 1.0, shift: Any = 0.0, eps: float = 1e-5) -> Symbol:
    """Normalise over the units: gain * (a - mean) / sqrt(var + eps) + shift.

    Source:
        Ba et al. 2016, arXiv:1607.06450, eq. 4; over one gate, where they take all gates at once.
    """
    centred = value - row_mean(value)
    return gain * (centred / sqrt(row_mean(centred * centred) + eps)) + shift


def _elementwise(op: str) -> Callable[[Any], Symbol]:
    def function(value: Any) -> Symbol:
        return unary(op, value)

    function.__name__ = function.__qualname__ = op
    function.__doc__ = f"{op} of every unit, as torch.{op} defines it."
    return function


sigmoid, tanh, relu = _elementwise("sigmoid"), _elementwise("tanh"), _elementwise("relu")
exp, log, sqrt = _elementwise("exp"), _elementwise("log"), _elementwise("sqrt")
sin, cos, softplus = _elementwise("sin"), _elementwise("cos"), _elementwise("softplus")
absolute, sign = _elementwise("abs"), _elementwise("sign")


def minimum(a: Any, b: Any) -> Symbol:
    """The smaller of two values, unit by unit."""
    return binary("minimum", a, b)


def maximum(a: Any, b: Any) -> Symbol:
    """The larger of two values, unit by unit."""
    return binary("maximum", a, b)


def now(value: Any) -> Symbol:
    """Mark a value as computed in this step: matrices that read it get no delays."""
    argument = as_node(value)
    return Symbol(node("now", argument, width=argument.width))


BY_TORCH_NAME: dict[str, Callable[..., Symbol]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "sin": sin,
    "cos": cos,
    "abs": absolute,
    "absolute": absolute,
    "sign": sign,
    "softplus": softplus,
    "neg": lambda a: unary("neg", a),
    "negative": lambda a: unary("neg", a),
    "square": lambda a: a * a,
    "minimum": minimum,
    "maximum": maximum,
    "clamp": clamp,
    "clip": clamp,
    "where": where,
    "pow": power,
    "__pow__": power,
}
for _op, _torch_names in (
    ("add", "add"),
    ("sub", "sub subtract"),
    ("mul", "mul multiply"),
    ("div", "div divide true_divide"),
):
    for _name in _torch_names.split():
        BY_TORCH_NAME[_name] = partial(binary, _op)
for _op, _torch_names in (
    ("lt", "lt less"),
    ("le", "le less_equal"),
    ("gt", "gt greater"),
    ("ge", "ge greater_equal"),
    ("eq", "eq"),
    ("ne", "ne not_equal"),
):
    for _name in _torch_names.split():
        BY_TORCH_NAME[_name] = partial(compare, _op)

# What a numpy number on the left of an operator calls; numpy's equal is torch's eq.
_OPERATORS = ("add", "subtract", "multiply", "divide")
_COMPARED = ("less", "less_equal", "greater", "greater_equal", "not_equal")
BY_NUMPY_NAME = {name: BY_TORCH_NAME[name] for name in (*_OPERATORS, *_COMPARED)}
BY_NUMPY_NAME["equal"] = BY_TORCH_NAME["eq"]
