"""Which features does the catalogue not show? A cell of its own for every one of them."""

from math import pi

import throughtime as tt
from throughtime import Bernoulli, Blocks, Extra, Param, State, Uniform, affine, ago

__all__ = ["CELLS", "OWN_CELLS"]


@tt.cell("h")
def delayed(x, h):
    """Reads three steps back through a matrix and two steps back unit by unit."""
    return tt.tanh(affine("a", x, h, ago(h, 3))) + 0.3 * ago(h, 2)


@tt.cell("h")
def only_distant(x, h):
    """Never reads the last step."""
    return tt.tanh(affine("a", x, ago(h, 2)))


@tt.cell("h c")
def delayed_lstm(x, h, c):
    """Delays in one state of two."""
    i, f, g, o = affine("i f g o", x, h, ago(h, 2))
    c = tt.sigmoid(f) * ago(c, 3) + tt.sigmoid(i) * tt.tanh(g)
    return tt.sigmoid(o) * tt.tanh(c), c


@tt.cell(("h", State("k", width=1, clock=True)))
def every_third(x, h, k):
    """Moves at every third step, by a clock."""
    new = tt.tanh(affine("a", x, h))
    return tt.where(k == 0.0, new, h), tt.where(k + 1.0 >= 3.0, 0.0, k + 1.0)


@tt.cell(
    ("h", State("k", clock=True)), params=(Param("period", Blocks((1, 2, 4)), trainable=False),)
)
def clockwork(x, h, k, period):
    """Groups of units with periods of their own."""
    new = tt.tanh(affine("a", x, h))
    return tt.where(k == 0.0, new, h), tt.where(k + 1.0 >= period, 0.0, k + 1.0)


@tt.cell(("h", State("k", clock=True)), emit=lambda h, k: (h, k * h))
def delayed_clock(x, h, k):
    """A clock two steps back, multiplied with what is learned, and emitted."""
    return tt.tanh(affine("a", x, h) + 0.2 * ago(k, 2) * h), tt.where(k >= 2.0, 0.0, k + 1.0)


@tt.cell("h", extras=(Extra("gap_s", width=1),))
def decaying(x, h, gap_s):
    """Time gaps as data; neither their logarithm nor their reciprocal has a value at zero."""
    kept = tt.exp(-0.3 * gap_s) * h + 0.1 * tt.log(gap_s)
    return tt.tanh(affine("a", x, kept / gap_s))


@tt.cell(
    "h c",
    extras=(
        Extra("keep", Bernoulli(0.3), eval=0.3),
        Extra("seen", Bernoulli(0.6, 1 / 0.6), 1.0, "sequence"),
    ),
)
def zoneout_lstm(x, h, c, keep, seen):
    """A mask drawn at every step, and one drawn for a whole sequence."""
    i, f, g, o = affine("i f g o", x, seen * h)
    new = tt.sigmoid(f) * c + tt.sigmoid(i) * tt.tanh(g)
    return tt.sigmoid(o) * tt.tanh(new), keep * c + (1.0 - keep) * new


@tt.cell("h", extras=(Extra("on", Bernoulli(0.5), eval=1.0, width=1),))
def chosen(x, h, on):
    """A mask that is compared with a number, one for all units."""
    return tt.where(on > 0.5, tt.tanh(affine("a", x, h)), h)


@tt.cell("h", extras=(Extra("gap_s", width=1),), emit=lambda h, gap_s: h * gap_s)
def twice_given(x, h, gap_s):
    """An extra that the step and emit read."""
    return tt.tanh(affine("a", x, gap_s * h))


@tt.cell(
    "h",
    params=(
        Param("retain", Uniform(0.2, 0.8), low=0.0, high=1.0),
        Param("floor", 0.5, low=0.1),
        Param("roof", -0.5, high=2.0),
        Param("gain", Blocks((0.5, 1.5))),
        Param("scale", 1.0, width=1),
        Param("fixed", Uniform(0.9, 1.1), trainable=False),
    ),
)
def bounded(x, h, retain, floor, roof, gain, scale, fixed):
    """Params of every kind."""
    new = tt.tanh(gain * affine("a", x, h) + roof) / (floor + abs(scale))
    return retain * h + (1.0 - retain) * fixed * new


@tt.cell(
    "h",
    params=(Param("skew"),),
    emit=lambda x, h, skew: (affine("y", h, x, width=2), tt.tanh(affine("z", skew * h)), h),
)
def emitting(x, h, skew):
    """Emits two matrices' values and its state, concatenated."""
    return tt.sigmoid(affine("a", x, h) + skew)


@tt.cell((State("h", width="projection"), State("c", initial=0.5)), emit=lambda h, c: (h, c))
def projected(x, h, c):
    """A projected state, and one that does not start at zero."""
    f, g = affine("f g", x, h)
    c = tt.sigmoid(f) * c + tt.tanh(g)
    return tt.tanh(affine("p", c, width="projection")), c


@tt.cell("h s")
def one_gate_for_all(x, h, s):
    """Gates of width 1 broadcast over the units."""
    g, u = affine("g u", x, h, s, width=1)
    a = affine("a", x, tt.sigmoid(g) * h)
    return tt.tanh(a) + tt.sigmoid(u) * h, tt.sigmoid(g) * tt.tanh(a)


@tt.cell("h1 h2")
def gated_feedback(x, h1, h2):
    """Two layers as one cell, the upper one's past gated into the lower one (Chung et al. 2015)."""
    g11, g21, g12, g22 = affine("g11 g21 g12 g22", x, h1, h2, width=1)
    a1 = affine("a1", x, tt.sigmoid(g11) * h1, tt.sigmoid(g21) * h2)
    new1 = tt.tanh(a1)
    a2 = affine("a2", new1, tt.sigmoid(g12) * h1, tt.sigmoid(g22) * h2)
    return new1, tt.tanh(a2)


@tt.cell("h")
def highway(x, h):
    """Two transitions a step; the second reads what the first has made."""
    t1, a1 = affine("t1 a1", x, h)
    s = tt.sigmoid(t1) * tt.tanh(a1) + (1.0 - tt.sigmoid(t1)) * h
    t2, a2 = affine("t2 a2", tt.now(s))
    return tt.sigmoid(t2) * tt.tanh(a2) + (1.0 - tt.sigmoid(t2)) * s


@tt.cell("h", params=(Param("gain", 1.0), Param("shift")))
def normalised(x, h, gain, shift):
    """Layer norm: sums over the units."""
    return tt.tanh(tt.layer_norm(affine("a", x, h), gain, shift, eps=0.1)) + 0.1 * tt.row_mean(h)


@tt.cell(("h", State("n", width=3), State("s", width=1)))
def three_widths(x, h, n, s):
    """States of three widths, each from all."""
    a, b, c = affine("a", x, h, n, s), affine("b", x, h, n, width=3), affine("c", h, width=1)
    return tt.sin(a) + s, tt.cos(b) * n, tt.relu(c) - 0.5 * s


@tt.cell("h")
def every_operation(x, h):
    """Each pointwise operation once."""
    a, b = affine("a b", x, h)
    top, low = tt.maximum(a, b), tt.minimum(a, b)
    smooth = tt.softplus(a) - tt.log(1.0 + tt.exp(-abs(b)))
    root = tt.sqrt(1.0 + low * low) / (1.0 + tt.relu(top))
    mixed = tt.where(a > b, smooth, root) + tt.where(a <= 0.1, tt.sign(b) * h, -(h**2))
    return tt.clamp(tt.sin(mixed) * tt.cos(h * pi), -0.9, 0.9) + 0.1 * tt.tanh(mixed) ** 3


@tt.cell("h")
def blind(h):
    """Reads no input."""
    return tt.tanh(affine("a", h))


@tt.cell("h")
def memoryless(x):
    """Reads no past."""
    return tt.tanh(affine("a", x))


OWN_CELLS = {
    made.name: made
    for made in (
        delayed,
        only_distant,
        delayed_lstm,
        every_third,
        clockwork,
        delayed_clock,
        decaying,
        zoneout_lstm,
        chosen,
        twice_given,
        bounded,
        emitting,
        projected,
        one_gate_for_all,
        gated_feedback,
        highway,
        normalised,
        three_widths,
        every_operation,
        blind,
        memoryless,
    )
}
CELLS = dict(tt.cells.CATALOGUE) | OWN_CELLS
