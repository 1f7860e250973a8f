"""What does `throughtime bench cpu` show, and what does it return?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from throughtime.cli.command import Command

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.studies.cpu_bench import CpuRow
    from throughtime.studies.cpu_calls import CallRow, FirstResult

__all__ = ["BenchCpu"]

_PEERS = ("torch.nn", "loop", "jax")
_NAME = 36  # the longest: gru_reset_before/1000x8x64x128/train


@dataclass(frozen=True, kw_only=True)
class BenchCpu(Command):
    """Time our layers, torch.nn's, Python loops and JAX on this CPU, side by side."""

    engine: Literal["auto", "llvm", "vendor", "reference"] = "auto"
    """Of our layers; what it cannot do is left out."""
    only: str | None = None
    """Only rows whose name has this in it, such as gru/100x16x64x128, infer or denormal."""
    quick: bool = False
    """A few sizes and rounds, for a look."""

    def __call__(self) -> int:
        """Run it; 0 whatever the speed, 1 if somebody computed something else than we do."""
        from throughtime.cli.screen import Screen
        from throughtime.studies.cpu_bench import run_cpu_bench

        screen = Screen(json_only=self.json)
        screen.line(_line("cell/TxBxIxH/mode", ("ours ms", *_PEERS, "of mm")), "bold")
        found = run_cpu_bench(
            self.engine, self.only, quick=self.quick, told=lambda row: _show(screen, row)
        )
        result = found.as_json()
        _summarise(screen, result)
        screen.result(result)
        return 0 if found.is_right else 1


def _show(screen: "Screen", row: "CpuRow | CallRow | FirstResult") -> None:
    from throughtime.studies.cpu_bench import CpuRow
    from throughtime.studies.cpu_calls import CallRow

    if isinstance(row, CpuRow):
        ratios = [_times(row.ratio(peer)) for peer in _PEERS]
        screen.line(_line(row.name, (_ms(row.ours_ms), *ratios, _percent(row.share_of_mm))))
    elif isinstance(row, CallRow):
        name = f"{row.name}, {row.mode}"
        beside = f"  {_times(row.ratio)} the time of {row.against}"
        screen.line(f"{name:<{_NAME}}{_ms(row.ours_ms):>8}{beside}")
    else:
        shown = ", ".join(f"{mode} {seconds:.2f} s" for mode, seconds in row.seconds.items())
        screen.line(f"{'first result of a new cell':<{_NAME}} {shown}")
        return
    for name, why in row.refused.items():
        screen.line(f"      {name}: {why}", "dim" if name == "ours" else "bold")


def _summarise(screen: "Screen", result: Mapping[str, Any]) -> None:
    """Geometric means and worst cases, and with what they were measured."""
    screen.line()
    if result["bands"]:
        heads = ("n", *_PEERS, "of mm")
        screen.line("geometric mean (worst)", "bold")
        screen.line(_band_line("cell, mode, H up to", heads), "bold")
    for band in result["bands"]:
        width = "all" if band["H_up_to"] is None else str(band["H_up_to"])
        ratios = [_pair(band["peers"][peer], _number) for peer in _PEERS]
        share = _pair(band["share_of_mm"], _percent)
        name = f"{band['cell']}, {band['mode']}, {width}"
        screen.line(_band_line(name, (str(band["rows"]), *ratios, share)))
    machine, versions = result["machine"], result["versions"]
    screen.line()
    screen.facts([
        ("columns", "times of torch.nn, the loop and jax.lax.scan as multiples of ours"),
        ("of mm", "our operations a second over those of a 2048-cubed torch.mm"),
        ("machine", f"{machine['cpu']}, {machine['features']}, {result['threads']} threads"),
        ("with", ", ".join(f"{n} {v or 'not installed'}" for n, v in versions.items())),
        ("engine", result["engine"]),
    ])


def _line(name: str, cells: Sequence[str]) -> str:
    return _set_out(name, _NAME, cells, (8, 9, 9, 9, 9))


def _band_line(name: str, cells: Sequence[str]) -> str:
    return _set_out(name, 29, cells, (3, 12, 12, 12, 12))


def _set_out(name: str, width: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"{name:<{width}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)}x"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _pair(summary: Mapping[str, float | None], shown: Callable[[float], str]) -> str:
    mean, worst = summary["geometric_mean"], summary["worst"]
    return "-" if mean is None or worst is None else f"{shown(mean)} ({shown(worst)})"
