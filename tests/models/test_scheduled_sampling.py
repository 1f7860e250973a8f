"""Do the schedules of scheduled sampling fall as their formulas say?"""

import math

import pytest

from throughtime.errors import ConfigError
from throughtime.models import exponential_decay, inverse_sigmoid_decay, linear_decay


def test_linear():
    values = [linear_decay(i, 10, least=0.2) for i in (0, 5, 10, 99)]
    assert values == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert linear_decay(5, 10, start=0.5) == 0.25


def test_exponential():
    assert exponential_decay(0, 0.5) == 1.0
    assert exponential_decay(3, 0.5) == 0.125


def test_inverse_sigmoid():
    assert inverse_sigmoid_decay(0, 9.0) == 0.9
    assert inverse_sigmoid_decay(100, 50.0) == pytest.approx(50.0 / (50.0 + math.exp(2.0)))
    assert inverse_sigmoid_decay(10**9, 1.0) < 1e-300


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_decay(0, 0), "updates=0, start=1.0, least=0.0; expected"),
        (lambda: linear_decay(0, 5, start=0.2, least=0.3), "start=0.2, least=0.3; expected"),
        (lambda: linear_decay(0, 5, start=1.1), "start=1.1"),
        (lambda: exponential_decay(0, 1.0), "base=1.0; expected"),
        (lambda: exponential_decay(0, 0.0), "base=0.0; expected"),
        (lambda: inverse_sigmoid_decay(0, 0.5), "k=0.5; expected"),
    ],
)
def test_what_cannot_be_a_schedule(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
