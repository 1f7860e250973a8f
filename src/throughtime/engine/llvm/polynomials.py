"""With which polynomials are exp, log and tanh approximated, and in which order are they summed?

Each is the minimax fit (Remez's exchange in 200 bits) of what follows the first, exact terms, on
the interval that is left after argument reduction (exp, coth: 0.3 % wider). The fit minimises the
relative error of the whole function. The lowest coefficient was rounded to the type, the others
fitted again, and so on up, so that rounding costs next to nothing. A comment gives the relative
error that is left, as the exponent of a power of two.
"""

from throughtime.engine.llvm.ir import Code, Real

__all__ = ["COTH", "EXP", "LOG", "LOG1P", "Coefficients", "polynomial"]

Coefficients = dict[Real, tuple[float, ...]]
_SHORT = 3  # up to so many pairs, pairs of pairs gain nothing

# (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2
EXP: Coefficients = {
    "float": (  # -28.2
        0.4999999403953552,
        0.16666515171527863,
        0.041668087244033813,
        0.008369297720491886,
        0.001383826951496303,
    ),
    "double": (  # -54.5
        0.5,
        0.1666666666666669,
        0.04166666666666686,
        0.008333333333311564,
        0.001388888888874564,
        0.0001984126990969883,
        2.4801587650976446e-05,
        2.7557219712887585e-06,
        2.755692091407689e-07,
        2.5115007482669e-08,
        2.0960835186292617e-09,
    ),
}

# (r coth r - 1) / r^2 in z = r^2, |r| <= ln(2) / 4
COTH: Coefficients = {
    "float": (0.33333250880241394, -0.022133586928248405),  # -28.7
    "double": (  # -59.9
        0.333333333333332,
        -0.022222222221590076,
        0.0021164020203168696,
        -0.00021163383566095704,
        2.118556092120535e-05,
    ),
}

# (2 artanh(s) / s - 2) / s^2 in z = s^2, |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
LOG: Coefficients = {
    "float": (0.6666677594184875, 0.39977583289146423, 0.2987079620361328),  # -30.2
    "double": (  # -59.5
        0.6666666666666734,
        0.3999999999941665,
        0.2857142874202404,
        0.2222219860561339,
        0.18183562816295007,
        0.15314085870016816,
        0.1479562188105961,
    ),
}

# the same on 0 <= s <= 1 / 3, for 1 + f up to 2
LOG1P: Coefficients = {
    "float": (  # -33.0
        0.6666667461395264,
        0.3999894857406616,
        0.2861521244049072,
        0.21443884074687958,
        0.2424527108669281,
    ),
    "double": (  # -54.2
        0.6666666666667788,
        0.3999999999599666,
        0.28571429063289094,
        0.22222192649268865,
        0.18182820891825371,
        0.15364189406930273,
        0.13587272183613638,
        0.0989817169048817,
        0.17749142078448799,
    ),
}


def polynomial(code: Code, x: str, square: str, coefficients: tuple[float, ...]) -> str:
    """Write a polynomial: pairs of terms side by side, pairs of pairs where it is long.

    This is Estrin's order as far as it shortens the chain, and Horner's from there on.

    Args:
        code: Where to write.
        x: The name of the argument.
        square: Of x squared.
        coefficients: The constant one first.

    Returns:
        The name of the result.
    """
    power = square
    terms = _paired(code, [code.lanes.splat(c) for c in coefficients], x)
    if len(terms) > _SHORT:
        terms = _paired(code, terms, square)
        power = code.op("fmul", square, square)
    value = terms[-1]
    for term in reversed(terms[:-1]):
        value = code.fma(value, power, term)
    return value


def _paired(code: Code, terms: list[str], power: str) -> list[str]:
    """Write a + b power for every two terms; a last one without a partner stays."""
    pairs = zip(terms[::2], terms[1::2], strict=False)
    return [code.fma(b, power, a) for a, b in pairs] + terms[len(terms) // 2 * 2 :]
