"""How does the model look unfolded in time, and what comes back along each arrow?"""

import math
from dataclasses import dataclass

from throughtime.records.diagnosis import DiagnosisRecord, LayerRecord
from throughtime.report.page_words import counted

__all__ = ["Arrow", "Box", "Unfolded", "unfolded"]

_NEAR = 6  # steps drawn one by one
_FAR = 5  # further ones, farther and farther apart
_ROWS = 6  # layers
_CLASSES = 5  # of colours, two decades each
_WIDTH, _HEIGHT, _BOX_W, _BOX_H = 96, 112, 52, 34
_LEFT, _TOP = 126, 78


@dataclass(frozen=True)
class Box:
    """A layer at a step."""

    x: float
    y: float
    text: str
    title: str


@dataclass(frozen=True)
class Arrow:
    """What comes back between two steps of a layer.

    Attributes:
        x1, x2, y: From right to left.
        width: In pixels, by the logarithm of the share of what arrives at lag 0.
        shade: The class of its colour, 0 the weakest.
        text, lag: The number, and the lag.
        title: In words.
        is_gap: Whether steps between are left out.
    """

    x1: float
    x2: float
    y: float
    width: float
    shade: int
    text: str
    lag: str
    title: str
    is_gap: bool


@dataclass(frozen=True)
class Unfolded:
    """All that is drawn.

    Attributes:
        width, height: In pixels.
        boxes: A layer at a step each.
        arrows: What comes back between them.
        starts: What there is at the step at which the error starts: x, y and the number.
        columns: The steps: the middle and the number.
        rows: The layers: the middle, the name that fits, the name.
        left_out: Layers that are not drawn.
        caption: How to read it.
    """

    width: float
    height: float
    boxes: list[Box]
    arrows: list[Arrow]
    starts: list[tuple[float, float, str]]
    columns: list[tuple[float, str]]
    rows: list[tuple[float, str, str]]
    left_out: int
    caption: str


def unfolded(record: DiagnosisRecord) -> Unfolded | None:
    """The graph of the layers over the last steps, what ||dE_t/ds_k|| is measured on its arrows.

    None where no layer has a number.
    """
    layers = [layer for layer in record.layers if _last_row(layer)]
    drawn = layers[:_ROWS]
    if not drawn:
        return None
    steps = _columns([_last_row(layer) for layer in drawn])
    last = steps[-1]
    boxes, arrows, starts, rows = [], [], [], []
    for place, layer in enumerate(reversed(drawn)):
        y = _TOP + place * _HEIGHT
        rows.append((y + _BOX_H / 2, _clipped(layer.name), layer.name))
        boxes += [_box(layer, step, _x(i), y) for i, step in enumerate(steps)]
        arrows += _arrows(layer, steps, y)
        value = _last_row(layer).get(last)
        at_once = "0" if value is None else _power(value)
        starts.append((_x(len(steps) - 1) + _BOX_W / 2 + 8, y + _BOX_H + 14, at_once))
    return Unfolded(
        _LEFT + len(steps) * _WIDTH + 30,
        _TOP + len(drawn) * _HEIGHT + 26,
        boxes,
        arrows,
        starts,
        [(_x(i) + _BOX_W / 2, f"{step:,}") for i, step in enumerate(steps)],
        rows,
        len(layers) - len(drawn),
        _caption(drawn, last),
    )


def _caption(layers: list[LayerRecord], last: int) -> str:
    text = (
        f"The error starts at step {last:,} and comes back to the left. On an arrow: "
        "||dE_t/ds_k|| at the step that it points to, loss a unit of state, the median over "
        f"{counted(layers[0].rows, 'sequences')}; its width and colour go by the decimal "
        "logarithm, relative to the step at which the error starts."
    )
    if any(layer.name.endswith(" reverse") for layer in layers):
        text += " A reverse layer's steps are counted as it takes them, from the last input on."
    return text


def _last_row(layer: LayerRecord) -> dict[int, float | None]:
    """log10 ||dE_t/ds_k|| by k up to t, t the last step of the map that has any.

    None where nothing arrives.
    """
    for t, row in zip(reversed(layer.error_map.t), reversed(layer.error_map.log10), strict=True):
        found = {
            k: v if v is not None and math.isfinite(v) else None
            for k, v in zip(layer.error_map.k, row, strict=True)
            if k <= t
        }
        if any(v is not None for v in found.values()):
            return found
    return {}


def _columns(rows: list[dict[int, float | None]]) -> list[int]:
    """The last steps one by one, then some that lie farther and farther back."""
    known = sorted({k for row in rows for k in row}, reverse=True)
    last = known[0]
    near, far = known[:_NEAR], known[_NEAR:]
    if len(far) <= _FAR:
        return sorted(near + far)
    first, end = last - far[0], last - far[-1]
    wanted = [first * (end / first) ** ((i + 1) / _FAR) for i in range(_FAR)]
    return sorted({*near, *(min(far, key=lambda k: abs(last - k - lag)) for lag in wanted)})


def _x(column: int) -> float:
    return _LEFT + column * _WIDTH


def _box(layer: LayerRecord, step: int, x: float, y: float) -> Box:
    value = _last_row(layer).get(step)
    return Box(x, y, ", ".join(layer.states)[:9], f"{layer.name}, step {step:,}: {_said(value)}")


def _arrows(layer: LayerRecord, steps: list[int], y: float) -> list[Arrow]:
    row, last = _last_row(layer), steps[-1]
    top = max(value for value in row.values() if value is not None)
    found = []
    for column, step in enumerate(steps[:-1]):
        value = row.get(step)
        share = None if value is None else value - top
        found.append(
            Arrow(
                _x(column + 1) + 4,
                _x(column) + _BOX_W - 4,
                y + _BOX_H + 14,
                1.0 if share is None else max(1.0, 9.0 + share * 0.9),
                0 if share is None else max(0, _CLASSES - 1 + math.ceil(share / 2)),
                "0" if value is None else _power(value),
                f"lag {last - step:,}",
                f"from step {steps[column + 1]:,} to step {step:,}: {_said(value)}",
                steps[column + 1] - step > 1,
            )
        )
    return found


def _said(value: float | None) -> str:
    return "nothing arrives" if value is None else f"||dE_t/ds_k|| is {_power(value)}"


def _power(log10: float) -> str:
    """A number given by its logarithm, which may be too small to be one."""
    exponent = math.floor(log10)
    if -3 <= exponent < 3:
        return f"{10**log10:.3g}"
    mantissa = 10 ** (log10 - exponent)
    return f"{mantissa:.1f}e{exponent}" if mantissa < 9.95 else f"1.0e{exponent + 1}"


def _clipped(name: str) -> str:
    return name if len(name) <= 18 else "…" + name[-17:]
