"""Which cells have a diagonal recurrence, every unit on its own? IndRNN and the LRU."""

from math import log, pi

from throughtime.declare import Param, Uniform, affine, cell, cos, exp, relu, sin, sqrt
from throughtime.declare.symbols import Symbol


@cell(
    "h",
    params=(Param("u", init=Uniform(0.0, 1.0)),),
    source="Li et al. 2018, arXiv:1803.04831. Differs: u starts in [0, 1) and is not bounded by "
    "2**(1/T), which needs the length",
)
def indrnn(x: Symbol, h: Symbol, u: Symbol) -> Symbol:
    """h_t = max(0, W x_t + u h_{t-1} + b)."""
    return relu(affine("a", x) + u * h)


# 1 / nu is the time constant in steps; the phase is the angle turned in one step. Both start
# evenly on a logarithmic scale, from one step to a thousand.
_SLOWEST_STEPS = 1000.0
_LRU_PARAMS = (
    Param("log_nu", init=Uniform(-log(_SLOWEST_STEPS), 0.0)),
    Param("log_phase", init=Uniform(log(pi / _SLOWEST_STEPS), log(pi))),
)


@cell(
    "h_re h_im",
    params=_LRU_PARAMS,
    emit=lambda h_re, h_im, x: affine("y", h_re, h_im, x, bias=False),
    source="Orvieto et al. 2023, arXiv:2303.06349. Differs: gamma is kept at its initial form, not "
    "learned on its own; other initial values of lambda, B, C; D is a full matrix",
)
def lru(
    x: Symbol, h_re: Symbol, h_im: Symbol, log_nu: Symbol, log_phase: Symbol
) -> tuple[Symbol, Symbol]:
    """h_t = lambda h_{t-1} + gamma B x_t, emits Re(C h_t) + D x_t.

    lambda = exp(-nu + i phase) and gamma = sqrt(1 - |lambda|^2) keep a complex state of steady
    size, held as two real ones. emit's three matrices are Re C, -Im C and D.
    """
    b_re, b_im = affine("b_re b_im", x, bias=False)
    radius, phase = exp(-exp(log_nu)), exp(log_phase)
    turn_re, turn_im = radius * cos(phase), radius * sin(phase)
    gamma = sqrt(1.0 - radius * radius)
    return (
        turn_re * h_re - turn_im * h_im + gamma * b_re,
        turn_re * h_im + turn_im * h_re + gamma * b_im,
    )
