"""How is the false zero told on a terminal?"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen

__all__ = ["show_false_zero"]

_LAGS = (1, 4, 8, 16, 31)
_PICTURE = "false-zero.svg"


def show_false_zero(screen: "Screen", folder: Path) -> dict[str, Any]:
    """Measure, draw into a folder, print a table; the results for programs."""
    from throughtime.studies.false_zero import false_zero

    folder.mkdir(parents=True, exist_ok=True)
    results = false_zero().as_json()
    path = _drawn(screen, results, folder)
    _print(screen, results)
    if path is not None:
        screen.facts([("picture", path)])
    return results | {"picture": path}


def _drawn(screen: "Screen", results: Mapping[str, Any], folder: Path) -> str | None:
    """Where the picture is; None where there is nothing to draw it with."""
    from throughtime.cli.verdict import INSTALL_REPORT
    from throughtime.records.atomic import replace_file
    from throughtime.report.false_zero import false_zero_svg

    if find_spec("matplotlib") is None:
        screen.note(f"no {_PICTURE}: matplotlib is not there to draw it. {INSTALL_REPORT}")
        return None
    path = (folder / _PICTURE).resolve()
    replace_file(path, [false_zero_svg(results)])
    return str(path)


def _print(screen: "Screen", results: Mapping[str, Any]) -> None:
    heads = "".join(f"{f'lag {lag}':>10}" for lag in _LAGS)
    screen.line(f"{'layer':<9}{'units':>6}  {'':<12}{heads}", "bold")
    for row in results["rows"]:
        for name, values in (("retain_grad", "retained_by_lag"), ("arrives", "true_by_lag")):
            shown = "".join(f"{_number(row[values][lag]):>10}" for lag in _LAGS)
            first = f"{row['kind']:<9}{row['hidden']:>6}" if name == "retain_grad" else f"{'':15}"
            screen.line(f"{first}  {name:<12}{shown}")
    error = max(row["replay_error"] for row in results["rows"])
    screen.line()
    screen.facts([
        ("what", "the error at so many steps before the loss, as a share of that at lag 0"),
        ("", f"medians of {len(results['seeds'])} seeds, 16 rows of noise, 32 steps"),
        ("retain_grad", "output.retain_grad(), the largest of all seeds and rows"),
        ("arrives", "the layer stepped through by the instrument, which agrees with it"),
        ("", f"to {error:.1e}"),
    ])


def _number(value: float) -> str:
    return f"{value:.1e}" if value else "0"
