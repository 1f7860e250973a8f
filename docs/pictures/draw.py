"""How is the picture of chapter 7 of the notes drawn? `python docs/pictures/draw.py`."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

FACTORS = (1.1, 1.0, 0.95, 0.8, 0.5)
_COLOURS = ("#D55E00", "#000000", "#0072B2", "#009E73", "#CC79A7")
_STEPS, _LOWEST = 50, 1e-6


def draw(folder: Path) -> Path:
    """Draw what lambda^t makes of a part of the state; returns the file."""
    settings: Any = {"svg.hashsalt": "throughtime", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        t = np.arange(_STEPS + 1)
        for factor, colour in zip(FACTORS, _COLOURS, strict=True):
            values = factor**t
            shown = values >= _LOWEST
            axes.plot(t[shown], values[shown], color=colour, label=f"lambda = {factor:g}")
        axes.set_yscale("log")
        axes.set_ylim(_LOWEST, 1e3)
        axes.set_xlabel("t, steps")
        axes.set_ylabel("share of h_0 along the eigenvector, lambda^t")
        axes.grid(color="#c0c0c0", linewidth=0.5)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
        path = folder / "eigenvalues.svg"
        metadata: Any = {"Date": None, "Creator": "throughtime"}
        figure.savefig(path, format="svg", metadata=metadata)
    return path


if __name__ == "__main__":
    draw(Path(__file__).parent)
