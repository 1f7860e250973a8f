"""How are exp, log, tanh and their kin written on vectors? Few instructions, a short chain each.

The argument is reduced by powers of two (Cody and Waite): x = n ln 2 + r. Adding a number so large
that its last bits count ones rounds to n, and the same bits, shifted, are the exponent of 2^n. The
rest is a short polynomial in r and at most one division. tanh and sigmoid share
exp(r) = (q + r/2) / (q - r/2), where q is even in r: half the terms of a power series, for a
division which they need anyway. Clamps let NaN through, and stand where the ends come out right:
exp overflows to inf, sigmoid goes down through the subnormals to 0, tanh stops at 1.

Only common instructions are used, no library function but for sin and cos, and no flag that lets a
compiler reorder. docs/elementary.md has the errors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from throughtime.engine.llvm.ir import Code, Real
from throughtime.engine.llvm.polynomials import COTH, EXP, LOG, LOG1P, Coefficients, polynomial

__all__ = ["FUNCTIONS"]

_LOG2_E = 1.4426950408889634
_THRESHOLD = 20.0  # of torch's softplus


@dataclass(frozen=True)
class _Format:
    """What depends on how many bits a number has.

    Attributes:
        fraction: Bits of the fraction.
        bias: Of the exponent.
        ln2: Its upper bits, so few that n times them is exact, and the rest.
        root: The bits of the square root of 1/2.
        least: exp is 0 from here down.
        most: exp is inf from here up.
        one: tanh is 1 from here up, and sigmoid from twice as much.
        lift: An exponent: times 2^lift every exp(-|x|) is a normal number.
    """

    fraction: int
    bias: int
    ln2: tuple[float, float]
    root: int
    least: float
    most: float
    one: float
    lift: int

    @property
    def rounder(self) -> float:
        """Added to a number, it leaves a whole one, of either sign, in the last bits."""
        return 1.5 * 2.0**self.fraction

    @property
    def smallest(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


_FORMATS: dict[Real, _Format] = {
    "float": _Format(
        fraction=23,
        bias=127,
        ln2=(0.693359375, math.log(2) - 0.693359375),
        root=0x3F3504F3,
        least=-104.0,
        most=89.0,
        one=10.0,
        lift=32,
    ),
    "double": _Format(
        fraction=52,
        bias=1023,
        ln2=(float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
        root=0x3FE6A09E667F3BCD,
        least=-745.2,
        most=709.8,
        one=20.0,
        lift=64,
    ),
}


def _format(code: Code) -> _Format:
    return _FORMATS[code.lanes.real]


def _bits(code: Code, x: str) -> str:
    return code.let(f"bitcast {code.lanes.type} {x} to {code.lanes.whole}")


def _number(code: Code, bits: str) -> str:
    return code.let(f"bitcast {code.lanes.whole} {bits} to {code.lanes.type}")


def _whole(code: Code, instruction: str, a: str, b: str | int) -> str:
    """An instruction on whole numbers."""
    other = code.lanes.whole_splat(b) if isinstance(b, int) else b
    return code.let(f"{instruction} {code.lanes.whole} {a}, {other}")


def _minus(code: Code, x: str) -> str:
    return code.let(f"fneg {code.lanes.type} {x}")


def _clamp(code: Code, x: str, least: float | None, most: float | None = None) -> str:
    """In the order of arguments in which a machine's minimum and maximum return NaN for NaN."""
    for how, bound in (("olt", most), ("ogt", least)):
        if bound is not None:
            end = code.lanes.splat(bound)
            x = code.select(code.compare(how, end, x), end, x)
    return x


def _steps(code: Code, x: str, per_one: float) -> tuple[str, str]:
    """Round x per_one to n: as the last bits of a whole number, and as a number."""
    rounder = code.lanes.splat(_format(code).rounder)
    shifted = code.fma(x, code.lanes.splat(per_one), rounder)
    return _bits(code, shifted), code.op("fsub", shifted, rounder)


def _power(code: Code, bits: str, more: int = 0) -> str:
    """2^(n + more) from the last bits of n."""
    of = _format(code)
    exponent = _whole(code, "shl", bits, of.fraction)
    return _number(code, _whole(code, "add", exponent, (of.bias + more) << of.fraction))


def _rest(code: Code, x: str, n: str) -> str:
    """What n ln 2 leaves of x, taken off in two parts, the first of which is exact."""
    high, low = _format(code).ln2
    rough = code.fma(n, code.lanes.splat(-high), x)
    return code.fma(n, code.lanes.splat(-low), rough)


def _expm1_of_rest(code: Code, r: str) -> str:
    """e^r - 1 = r + r^2 p(r)."""
    square = code.op("fmul", r, r)
    return code.fma(square, polynomial(code, r, square, EXP[code.lanes.real]), r)


def _exp(code: Code, x: str) -> str:
    """2^n e^r, as 2^(n/2) twice: neither 2^128 nor 2^-149 is a normal number, their halves are."""
    of = _format(code)
    x = _clamp(code, x, of.least, of.most)
    bits, n = _steps(code, x, _LOG2_E)
    half = _whole(code, "lshr", bits, 1)
    first, second = _power(code, half), _power(code, _whole(code, "sub", bits, half))
    w = _expm1_of_rest(code, _rest(code, x, n))
    return code.op("fmul", code.fma(first, w, first), second)


def _exp_of_minus(code: Code, size: str) -> str:
    """exp(-size) for size >= 0: lifted, then lowered in one rounding, down to the subnormals."""
    of = _format(code)
    x = _clamp(code, _minus(code, size), of.least)
    bits, n = _steps(code, x, _LOG2_E)
    lifted = _power(code, bits, of.lift)
    w = _expm1_of_rest(code, _rest(code, x, n))
    return code.op("fmul", code.fma(lifted, w, lifted), code.lanes.splat(2.0**-of.lift))


def _sigmoid(code: Code, x: str) -> str:
    """e^x / (e^x + 1) = s (q + r) / (s (q + r) + q - r), s = 2^n, all of it doubled and lifted."""
    of, lanes = _format(code), code.lanes
    x = _clamp(code, x, of.least, 2 * of.one)
    bits, n = _steps(code, x, _LOG2_E)
    s = _power(code, bits, of.lift)
    r = _rest(code, x, n)
    square = code.op("fmul", r, r)
    doubled = tuple(c / 2 / 4**k for k, c in enumerate(COTH[lanes.real]))  # in r, not in r / 2
    q = code.fma(square, _even(code, square, doubled), lanes.splat(2.0))
    over = code.op("fmul", s, code.op("fadd", q, r))
    under = code.fma(code.op("fsub", q, r), lanes.splat(2.0**of.lift), over)
    return code.op("fdiv", over, under)


def _tanh(code: Code, x: str) -> str:
    """((s - 1) q + (s + 1) r) / ((s + 1) q + (s - 1) r), s = 2^n, x = n ln(2) / 2 + r.

    For -x all terms are the same divided by s, so it is odd to the last bit; with 1 - s, which is
    +0 and not -0 at n = 0, it is -0 at -0. One part of ln 2 is enough, for where n is large, tanh
    hardly moves.
    """
    of, lanes = _format(code), code.lanes
    one = lanes.splat(1.0)
    x = _clamp(code, x, -of.one, of.one)
    bits, n = _steps(code, x, 2 * _LOG2_E)
    s = _power(code, bits)
    r = code.fma(n, lanes.splat(-math.log(2) / 2), x)
    square = code.op("fmul", r, r)
    q = code.fma(square, _even(code, square, COTH[lanes.real]), one)
    less, more = code.op("fsub", one, s), code.op("fadd", s, one)
    over = code.fma(_minus(code, less), q, code.op("fmul", more, r))
    under = code.fma(more, q, _minus(code, code.op("fmul", less, r)))
    return code.op("fdiv", over, under)


def _even(code: Code, square: str, coefficients: tuple[float, ...]) -> str:
    """A polynomial in the square."""
    return polynomial(code, square, code.op("fmul", square, square), coefficients)


def _log1p(code: Code, f: str, terms: Coefficients, less: str | None = None) -> str:
    """log(1 + f) - less = f - (s (f - z p(z)) + less), s = f / (2 + f), z = s^2.

    The rounded quotient s weighs little in this form: near 0 the result is f and a correction.
    """
    lanes = code.lanes
    s = code.op("fdiv", f, code.op("fadd", f, lanes.splat(2.0)))
    z = code.op("fmul", s, s)
    p = _even(code, z, terms[lanes.real])
    inner = code.fma(_minus(code, z), p, f)
    correction = code.op("fmul", s, inner) if less is None else code.fma(s, inner, less)
    return code.op("fsub", f, correction)


def _softplus(code: Code, x: str) -> str:
    """max(x, 0) + log(1 + exp(-|x|)); x itself above torch's threshold."""
    lanes = code.lanes
    rest = _log1p(code, _exp_of_minus(code, code.call("fabs", x)), LOG1P)
    value = code.op("fadd", _clamp(code, x, 0.0), rest)
    if (
        lanes.real == "float"
    ):  # above the threshold the rest is less than half a unit in the last place
        return value
    return code.select(code.compare("ogt", x, lanes.splat(_THRESHOLD)), x, value)


def _taken_apart(code: Code, x: str) -> tuple[str, str]:
    """Find n and f in x = 2^n (1 + f), 1 + f between the roots of 1/2 and 2, for positive x."""
    of, lanes = _format(code), code.lanes
    subnormal = code.compare("olt", x, lanes.splat(of.smallest))
    grown = code.op("fmul", x, lanes.splat(2.0**of.fraction))
    bits = _bits(code, code.select(subnormal, grown, x))
    shifted = _whole(code, "add", bits, (of.bias << of.fraction) - of.root)
    exponent = _whole(code, "lshr", shifted, of.fraction)
    ones = 2.0**of.fraction  # its last bits count ones
    counted = _whole(code, "or", exponent, (of.bias + of.fraction) << of.fraction)
    zero = ones + of.bias
    base = code.select(subnormal, lanes.splat(zero + of.fraction), lanes.splat(zero))
    n = code.op("fsub", _number(code, counted), base)
    fraction = _whole(code, "and", shifted, (1 << of.fraction) - 1)
    near_one = _number(code, _whole(code, "add", fraction, of.root))
    return n, code.op("fsub", near_one, lanes.splat(1.0))


def _log(code: Code, x: str) -> str:
    """Of 2^n (1 + f), n ln 2 + log(1 + f); inf and NaN as they are, -inf at 0, NaN below."""
    lanes = code.lanes
    n, f = _taken_apart(code, x)
    high, low = (lanes.splat(part) for part in _format(code).ln2)
    value = code.fma(n, high, _log1p(code, f, LOG, _minus(code, code.op("fmul", n, low))))
    value = code.select(code.compare("olt", x, lanes.splat(math.inf)), value, x)
    zero = code.compare("oeq", x, lanes.splat(0.0))
    below = code.select(zero, lanes.splat(-math.inf), lanes.splat(math.nan))
    return code.select(code.compare("ole", x, lanes.splat(0.0)), below, value)


def _intrinsic(name: str) -> Callable[[Code, str], str]:
    """One of LLVM's own: an instruction for sqrt, the C library lane by lane for sin and cos."""
    return lambda code, x: code.call(name, x)


# Each writes its instructions and returns the name of its result, given that of its argument.
FUNCTIONS: dict[str, Callable[[Code, str], str]] = {
    "cos": _intrinsic("cos"),
    "exp": _exp,
    "log": _log,
    "sigmoid": _sigmoid,
    "sin": _intrinsic("sin"),
    "softplus": _softplus,
    "sqrt": _intrinsic("sqrt"),
    "tanh": _tanh,
}
