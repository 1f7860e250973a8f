"""How does a picture become part of a page? Inline, in the page's own colours, its ids its own."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from throughtime.report.pictures_style import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

_INK, _GRID = "#010203", "#c0c1c2"  # stand for what the page's own colours replace
_THEME = {_INK: "currentColor", _GRID: "var(--line)", GREY: "var(--dim)"} | {
    colour: f"var(--c{place})" for place, colour in enumerate(COLOURS) if colour != GREY
}
_SETTINGS: Any = {
    "svg.hashsalt": "throughtime",
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.3,  # of a pixel
    "font.size": 8.5,
    "text.parse_math": False,  # a layer may be called "$x$"
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}
_METADATA: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
_LONG = 1000  # characters of a path
_LETTERS_A_LINE = 80  # that fit below a picture, beside each other


def inline_svg(
    draw: Callable[["Figure"], None], label: str, name: str, size: tuple[float, float]
) -> Markup:
    """A picture as an `svg` element; the same bytes for the same drawing.

    Args:
        draw: Draws into an empty figure.
        label: What it shows, for those who do not see it.
        name: Of this picture alone; its ids begin with it.
        size: Width and height in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        _move_legends(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata=_METADATA, dpi=110)
    return Markup(_adapted(file.getvalue(), label, name))


def _move_legends(figure: "Figure") -> None:
    """Below the curves, where they hide none."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        if (legend := axes.get_legend()) is not None:
            legend.remove()
            handles, labels = axes.get_legend_handles_labels()
            found |= dict(zip(labels, handles, strict=True))
    if found:
        columns = max(1, min(len(found), 4, _LETTERS_A_LINE // (max(map(len, found)) + 8)))
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


def _adapted(svg: bytes, label: str, name: str) -> str:
    """The element alone: no namespaces, the page's colours, ids of its own."""
    root = ET.fromstring(svg)
    for parent in [*root.iter()]:
        parent.tag = parent.tag.rpartition("}")[2]
        parent.attrib = {
            key.rpartition("}")[2]: _attribute(key.rpartition("}")[2], value, name)
            for key, value in parent.attrib.items()
        }
        if parent.text is not None and not parent.text.strip():
            parent.text = None
        if parent.tail is not None and not parent.tail.strip():
            parent.tail = None
    for parent in root.findall(".//defs/style/.."):
        root.remove(parent)
    box = root.attrib["viewBox"]
    root.attrib = {"viewBox": box, "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    """The value of an attribute on the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value[1:]}" if value.startswith("#") else "".join(value.split())
    if key == "d":
        # A hundredth of a point for a marker, a tenth for a long curve.
        kept = r"(\.\d)\d+" if len(value) > _LONG else r"(\.\d\d)\d+"
        return re.sub(kept, r"\1", " ".join(value.split()))
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub(r"#[0-9a-f]{6}", lambda found: _THEME.get(found[0], found[0]), value)
