"""How does a picture become a file of its own? The same bytes for the same drawing."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["svg_file"]


def svg_file(
    draw: Callable[["Figure"], None], size: tuple[float, float], font_size: float = 9.0
) -> bytes:
    """A picture as an SVG file, on white.

    Args:
        draw: Draws into an empty figure.
        size: Width and height in inches.
        font_size: In points.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": "throughtime", "svg.fonttype": "none", "font.size": font_size,
    }  # fmt: skip
    with mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "throughtime"})
    return file.getvalue()
