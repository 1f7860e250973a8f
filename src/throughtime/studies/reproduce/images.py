"""The table on images read as sequences."""

from throughtime.studies.reproduce.configure import configured
from throughtime.studies.reproduce.experiment import Arm, Experiment, Row

__all__ = ["MNIST"]

_TASKS = ("pooled", "pooled-permuted", "rows", "rows-permuted")
_CELLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tanh": ("rnn", ()),
    "IRNN": ("rnn_relu", ("identity",)),
    "orthogonal tanh": ("rnn", ("orthogonal",)),
    "LSTM": ("lstm", ("forget:1",)),
    "GRU": ("gru", ()),
    "dilated GRU": ("dilate(gru,d=4)", ()),
}
_PAPER = {
    ("tanh", "pooled"): 35.0,
    ("tanh", "pooled-permuted"): 35.0,
    ("IRNN", "pooled"): 97.0,
    ("IRNN", "pooled-permuted"): 82.0,
    ("LSTM", "pooled"): 98.9,
    ("LSTM", "pooled-permuted"): 90.2,
}


def _arm(cell: str, task: str) -> Arm:
    name, init = _CELLS[cell]
    config = configured(
        task=task, cell=name, init=init, hidden=100, batch_size=64, updates=2_000,
        learning_rate=1e-3, validations=4,
    )  # fmt: skip
    return Arm(f"{cell}, {task}", config, "mnist/mnist.npz")


def _row(cell: str, task: str) -> Row:
    paper = _PAPER.get((cell, task))
    at = "784 steps, to the end of learning" if paper else ""
    arm = f"{cell}, {task}"
    return Row(arm, (arm,), "accuracy_percent", "% right", "high", paper=paper, at=at)


_ALL = [(cell, task) for task in _TASKS for cell in _CELLS]

MNIST = Experiment(
    name="mnist",
    claim="Pixel by pixel, an LSTM reads images better than a rectifier network that starts from "
    "the identity, and that better than tanh; in a random order all are worse but in this order.",
    source="Le, Jaitly & Hinton 2015; Cooijmans et al. 2017, table 1",
    arms=tuple(_arm(cell, task) for cell, task in _ALL),
    rows=tuple(_row(cell, task) for cell, task in _ALL),
    orders=(
        *(("LSTM, " + task, "IRNN, " + task) for task in _TASKS[:2]),
        *(("IRNN, " + task, "tanh, " + task) for task in _TASKS[:2]),
        *((f"{cell}, pooled", f"{cell}, pooled-permuted") for cell in ("LSTM", "IRNN")),
    ),
    chosen="Images of 14 by 14, 196 steps, and rows of 28; 100 units, Adam at 0.001 with a cosine, "
    "clipped at 1, 2,000 updates of 64 images: under three passes, where the papers make many. "
    "Nothing searched. The permutation is ours: theirs are not published.",
)
