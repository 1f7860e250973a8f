"""How fast are we on this CPU? Every cell, size and mode against torch.nn, loops, JAX and mm."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch

from throughtime.errors import ConfigError, EngineError
from throughtime.records.environment import environment
from throughtime.studies import cpu_calls
from throughtime.studies.cpu_calls import CallRow, FirstResult
from throughtime.studies.cpu_cells import KINDS, Kind
from throughtime.studies.cpu_jax import jax_scan, jax_version
from throughtime.studies.cpu_peers import (
    Contestant,
    Mode,
    Problem,
    Size,
    disagreement,
    loop,
    ours,
    torch_nn,
)
from throughtime.studies.cpu_timing import FULL, QUICK, Effort, big_mm, side_by_side

__all__ = [
    "PEERS",
    "CpuBench",
    "CpuRow",
    "Told",
    "bands",
    "measured",
    "run_cpu_bench",
    "share_of_mm",
]

GRID: tuple[Size, ...] = (
    (100, 1, 64, 64),
    (500, 8, 64, 64),
    (100, 16, 64, 128),
    (1000, 8, 64, 128),
    (100, 32, 128, 256),
    (100, 128, 128, 256),
    (200, 32, 256, 512),
    (50, 64, 512, 1024),
)
QUICK_GRID: tuple[Size, ...] = ((100, 1, 64, 64), (100, 16, 64, 128), (100, 32, 128, 256))
MODES: tuple[Mode, ...] = ("train", "infer")
BANDS = (64, 128, 256, 512, 1024)
PEERS: dict[str, Callable[[Problem], Contestant | None]] = {
    "torch.nn": torch_nn,
    "loop": loop,
    "jax": jax_scan,
}

Told = Callable[["CpuRow | CallRow | FirstResult"], object]


@dataclass(frozen=True)
class CpuRow:
    """One cell, size and mode.

    Attributes:
        cell: Its name.
        T, B, I, H: Steps, rows, inputs, units.
        mode: "train" is forward and backward with all gradients; "infer" forward alone.
        ours_ms: The median of our runs; None where the engine refused.
        peers: That of each peer; None where it has no such cell or is not installed, or where it
            was refused.
        share_of_mm: Our rate of operations (of matrices alone, of real steps alone) over that of
            a big `torch.mm` in the same rounds.
        mm_ms: The median of that product.
        runs: How often each was run.
        refused: Why somebody was not timed, by name: an engine that cannot do the job, a peer that
            computes something else.
    """

    cell: str
    T: int
    B: int
    I: int
    H: int
    mode: Mode
    ours_ms: float | None = None
    peers: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(PEERS))
    share_of_mm: float | None = None
    mm_ms: float | None = None
    runs: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that `only` looks into."""
        return f"{self.cell}/{self.T}x{self.B}x{self.I}x{self.H}/{self.mode}"

    def ratio(self, peer: str) -> float | None:
        """How many times as long a peer takes."""
        theirs = self.peers.get(peer)
        return None if theirs is None or self.ours_ms is None else theirs / self.ours_ms


@dataclass(frozen=True)
class CpuBench:
    """All that was measured.

    Attributes:
        engine: Which was asked for.
        rows: Cells and sizes.
        calls: Pairs of calls that are to take about as long as each other.
        first: How long a new cell takes in a new process.
    """

    engine: str
    rows: list[CpuRow]
    calls: list[CallRow]
    first: FirstResult | None

    @property
    def is_right(self) -> bool:
        """Whether everybody computed the same."""
        return not any(set(row.refused) - {"ours"} for row in (*self.rows, *self.calls))

    def as_json(self) -> dict[str, Any]:
        """The machine, and all rows."""
        found = environment({})
        openmp = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        return {
            "machine": {key: found[key] for key in ("cpu", "cpu_count", "platform")}
            | {"features": torch.backends.cpu.get_cpu_capability()},
            "versions": {key: found[key] for key in ("throughtime", "python", "numpy")}
            | {"torch": torch.__version__, "jax": jax_version()},
            "threads": torch.get_num_threads(),
            "openmp": {name: os.environ.get(name) for name in openmp},
            "engine": self.engine,
            "rows": [asdict(row) for row in self.rows],
            "bands": bands(self.rows),
            "calls": [asdict(call) for call in self.calls],
            "first_result": None if self.first is None else asdict(self.first),
        }


class _Planned(NamedTuple):
    name: str
    measure: Callable[[], CpuRow | CallRow | FirstResult]


def run_cpu_bench(
    engine: str = "auto", only: str | None = None, *, quick: bool = False, told: Told | None = None
) -> CpuBench:
    """Measure all rows, one after the other, in this process and with torch's threads.

    Args:
        engine: Of our layers.
        only: Only rows whose name has this in it, such as lstm/100x16 or infer.
        quick: A few sizes and rounds, for a look.
        told: Called with each row, as they come.

    Raises:
        ConfigError: No row is meant, or there is no such engine.
    """
    effort, grid = (QUICK, QUICK_GRID) if quick else (FULL, GRID)
    everything = list(_planned(engine, grid, effort))
    chosen = [planned for planned in everything if only is None or only in planned.name]
    if not chosen:
        raise ConfigError(
            f"no row has {only!r} in its name; an example is {everything[0].name}, the last is "
            f"{everything[-1].name}."
        )
    found: list[CpuRow | CallRow | FirstResult] = []
    for planned in chosen:
        found.append(planned.measure())
        if told is not None:
            told(found[-1])
    return CpuBench(
        engine,
        [row for row in found if isinstance(row, CpuRow)],
        [row for row in found if isinstance(row, CallRow)],
        next((row for row in found if isinstance(row, FirstResult)), None),
    )


def _planned(engine: str, grid: Sequence[Size], effort: Effort) -> Iterator[_Planned]:
    for kind, size, mode in product(KINDS, grid, MODES):
        name = CpuRow(kind.name, *size, mode).name
        yield _Planned(name, partial(measured, kind, size, mode, engine, effort))
    for name, measure in cpu_calls.planned(engine, effort).items():
        yield _Planned(name, measure)


def measured(kind: Kind, size: Size, mode: Mode, engine: str, effort: Effort) -> CpuRow:
    """Measure one row. Who does not compute what we do is not timed."""
    problem = Problem.make(kind, size, mode, engine)
    we = ours(problem)
    try:
        right = we.results()
    except EngineError as refusal:
        return CpuRow(kind.name, *size, mode, refused={"ours": str(refusal)})
    present = {name: made for name, make in PEERS.items() if (made := make(problem)) is not None}
    wrong = {name: disagreement(right, peer.results()) for name, peer in present.items()}
    refused = {name: why for name, why in wrong.items() if why is not None}
    timed_peers = [peer for name, peer in present.items() if name not in refused]
    timed = side_by_side([we, *timed_peers, big_mm(effort.mm_size)], effort)
    s = timed.medians_s
    return CpuRow(
        kind.name,
        *size,
        mode,
        ours_ms=1e3 * s["ours"],
        peers={name: 1e3 * s[name] if name in s else None for name in PEERS},
        share_of_mm=share_of_mm(problem.flops, s["ours"], effort.mm_size, s["mm"]),
        mm_ms=1e3 * s["mm"],
        runs=timed.runs,
        refused=refused,
    )


def share_of_mm(flops: int, seconds: float, mm_size: int, mm_seconds: float) -> float:
    """Our operations a second over those of the product of two square matrices."""
    return (flops / seconds) / (2 * mm_size**3 / mm_seconds)


def bands(rows: Sequence[CpuRow]) -> list[dict[str, Any]]:
    """Geometric means and worst cases of each cell and mode, by H and over all.

    Returns:
        For each cell, mode and band: "H_up_to" (None for all), how many rows, and for each peer
        the ratio peer/ours and for "share_of_mm" that, each with "geometric_mean" and "worst"
        (both None where no row has it).
    """
    found: list[dict[str, Any]] = []
    for cell, mode in dict.fromkeys((row.cell, row.mode) for row in rows):
        own = [row for row in rows if (row.cell, row.mode) == (cell, mode)]
        for band in (*BANDS, None):
            inside = [row for row in own if band in {None, _band(row.H)}]
            if inside:
                head = {"cell": cell, "mode": mode, "H_up_to": band, "rows": len(inside)}
                ratios = {peer: _summary(row.ratio(peer) for row in inside) for peer in PEERS}
                share = _summary(row.share_of_mm for row in inside)
                found.append(head | {"peers": ratios, "share_of_mm": share})
    return found


def _band(hidden: int) -> int:
    return next((band for band in BANDS if hidden <= band), BANDS[-1])


def _summary(values: Iterable[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"geometric_mean": None, "worst": None}
    mean = math.exp(math.fsum(map(math.log, known)) / len(known))
    return {"geometric_mean": mean, "worst": min(known)}
