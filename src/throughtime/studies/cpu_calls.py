"""What does a call cost beside its arithmetic? Pairs of calls that should take about as long.

call      the smallest call of our LSTM, against torch.nn's
same      an LSTM that a user declared, against ours
denormal  a leaky unit left to decay until it is denormal, against the same that does not
first     the first result of a new cell in a new process, in seconds
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from statistics import median

import torch
from torch import nn

from throughtime.cells import CATALOGUE, leaky
from throughtime.declare import affine, cell, sigmoid, tanh
from throughtime.declare.symbols import Symbol
from throughtime.errors import EngineError
from throughtime.nn import Recurrent
from throughtime.studies.cpu_cells import KINDS
from throughtime.studies.cpu_peers import (
    Contestant,
    Mode,
    Problem,
    Size,
    disagreement,
    ours,
    torch_nn,
)
from throughtime.studies.cpu_timing import Effort, side_by_side

__all__ = ["CallRow", "FirstResult", "decaying", "planned", "report_first_result"]

MODES: tuple[Mode, ...] = ("train", "infer")
SMALLEST: Size = (1, 1, 4, 4)
SAME_SIZES: tuple[Size, ...] = ((100, 16, 64, 128), (100, 32, 128, 256))
DECAY: Size = (10_000, 8, 8, 64)

_IN_A_ROW = 100  # of the smallest call: one alone is as short as what it takes to read a clock
_RETAIN = 0.9  # below the smallest normal float32 after 830 steps
_LSTM = next(kind for kind in KINDS if kind.name == "lstm")


@dataclass(frozen=True)
class CallRow:
    """Two calls side by side.

    Attributes:
        name: What is compared, and how large it is.
        mode: As in a `CpuRow`.
        against: What ours is compared with.
        ours_ms, against_ms: Medians; None where our engine refused.
        ratio: Ours over the other.
        refused: Why it was not timed, by name, as in a `CpuRow`.
    """

    name: str
    mode: Mode
    against: str
    ours_ms: float | None = None
    against_ms: float | None = None
    ratio: float | None = None
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FirstResult:
    """How long it takes from a declaration to its first result, in new processes.

    Attributes:
        seconds: The median by mode: "infer" ends with an output, "train" with gradients.
        name: As other rows have one.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    name: str = "first"


def planned(engine: str, effort: Effort) -> dict[str, Callable[[], CallRow | FirstResult]]:
    """What there is to measure, by the name that `only` looks into."""
    found: dict[str, Callable[[], CallRow | FirstResult]] = {}
    for mode in MODES:
        found[f"call/{mode}"] = partial(_smallest, mode, engine, effort)
    for size, mode in product(SAME_SIZES, MODES):
        name = f"same/{'x'.join(map(str, size))}/{mode}"
        found[name] = partial(_same, size, mode, engine, effort)
    for mode in MODES:
        found[f"denormal/{mode}"] = partial(_denormal, mode, engine, effort)
    found["first"] = partial(_first, engine, effort)
    return found


Pair = tuple[Contestant, Contestant]


def _compared(
    row: CallRow, pair: Callable[[], Pair], effort: Effort, *, times: int = 1, alike: bool = True
) -> CallRow:
    """The row with its numbers, of so many calls in a row; if `alike`, both compute the same."""
    try:
        one, other = pair()
        right, found = one.results(), other.results()
    except EngineError as refusal:
        return replace(row, refused={"ours": str(refusal)})
    shared = right.keys() & found.keys()  # two biases in one have another name
    why = disagreement({n: right[n] for n in shared}, {n: found[n] for n in shared})
    if alike and why is not None:
        return replace(row, refused={row.against: why})
    both = [replace(_in_a_row(who, times), name=name) for who, name in ((one, "a"), (other, "b"))]
    s = side_by_side(both, effort).medians_s
    ours_ms, against_ms = 1e3 * s["a"] / times, 1e3 * s["b"] / times
    return replace(row, ours_ms=ours_ms, against_ms=against_ms, ratio=ours_ms / against_ms)


def _in_a_row(one: Contestant, times: int) -> Contestant:
    if times == 1:
        return one

    def run() -> None:
        for _ in range(times):
            one.ready()
            _ = one.run()

    return replace(one, run=run)


def _smallest(mode: Mode, engine: str, effort: Effort) -> CallRow:
    def pair() -> Pair:
        problem = Problem.make(_LSTM, SMALLEST, mode, engine)
        theirs = torch_nn(problem)
        assert theirs is not None, "torch has an LSTM"
        return ours(problem), theirs

    T, _, _, H = SMALLEST
    return _compared(CallRow(f"call, T={T}, H={H}", mode, "nn.LSTM"), pair, effort, times=_IN_A_ROW)


@cell("h c")
def _users_lstm(x: Symbol, h: Symbol, c: Symbol) -> tuple[Symbol, Symbol]:
    """An LSTM in somebody else's words: other names, other order of factors and sums."""
    inn, forget, new, out = affine("inn forget new out", x, h)
    c = tanh(new) * sigmoid(inn) + c * sigmoid(forget)
    return tanh(c) * sigmoid(out), c


def _same(size: Size, mode: Mode, engine: str, effort: Effort) -> CallRow:
    def pair() -> Pair:
        problem = Problem.make(_LSTM, size, mode, engine)
        w = problem.weights
        layer = Recurrent(_users_lstm, size[2], size[3], engine=engine)
        _ = layer.load_state_dict({
            "weight_ih_l0": w["weight_ih"],
            "weight_hh_l0": w["weight_hh"],
            "bias_l0": w["bias_ih"] + w["bias_hh"],
        })
        return ours(replace(problem, layer=layer)), ours(problem)

    name = f"user's LSTM, {'x'.join(map(str, size))}"
    return _compared(CallRow(name, mode, "our LSTM"), pair, effort)


def _denormal(mode: Mode, engine: str, effort: Effort) -> CallRow:
    row = CallRow(f"denormal, {DECAY[0]:,} steps", mode, "not denormal")
    return _compared(row, lambda: decaying(mode, engine), effort, alike=False)


def decaying(mode: Mode, engine: str) -> Pair:
    """A leaky unit that decays from 1 (and its error, backward), and one that is kept at 0.5."""
    T, B, I, H = DECAY
    layer = Recurrent(leaky(CATALOGUE["rnn"], retain=_RETAIN), I, H, engine=engine)
    _ = nn.init.zeros_(layer.get_parameter("bias_l0"))
    _ = nn.init.uniform_(layer.get_parameter("weight_hh_l0"), -0.01, 0.01)
    kept = Recurrent(layer.cell, I, H, engine=engine)
    _ = kept.load_state_dict(layer.state_dict())
    _ = nn.init.constant_(kept.get_parameter("bias_l0"), 0.5)
    last = torch.zeros(T, B, H)
    last[-1] = 1.0
    every, x, one = torch.ones(T, B, H), torch.zeros(T, B, I), torch.ones(1, B, H)
    problem = Problem(_LSTM, mode, layer, x, last, None, hx=one)
    return ours(problem), ours(replace(problem, layer=kept, dy=every))


def _first(engine: str, effort: Effort) -> FirstResult:
    runs = effort.fewest_slow
    return FirstResult({m: median(_in_new_process(engine, m) for _ in range(runs)) for m in MODES})


def _in_new_process(engine: str, mode: Mode) -> float:
    threads = torch.get_num_threads()
    code = f"import {__name__} as c; c.report_first_result({engine!r}, {mode!r}, {threads})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    return json.loads(done.stdout)


def report_first_result(engine: str, mode: Mode, threads: int) -> None:
    """Write the seconds from the declaration of a cell to its first result to stdout."""
    torch.set_num_threads(threads)
    warm = torch.randn(256, 256, requires_grad=True)
    (warm @ warm).sum().backward()  # torch's own start is not ours
    x = torch.randn(20, 4, 16)
    begun = time.perf_counter()

    @cell("h m")
    def new(x: Symbol, h: Symbol, m: Symbol) -> tuple[Symbol, Symbol]:
        u, n, o = affine("u n o", x, h)
        m = sigmoid(u) * m + (1.0 - sigmoid(u)) * tanh(n)
        return tanh(m) * sigmoid(o + m), m

    layer = Recurrent(new, 16, 32, engine=engine)
    with torch.set_grad_enabled(mode == "train"):
        y = layer(x)[0]
    if mode == "train":
        torch.autograd.backward(y, torch.ones_like(y))
    _ = sys.stdout.write(json.dumps(time.perf_counter() - begun))
