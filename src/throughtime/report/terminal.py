"""How is a diagnosis shown on a terminal, in 80 columns? Verdict first, then layers and curves."""

import math
from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from throughtime.records.diagnosis import DiagnosisRecord, LayerRecord
from throughtime.report import page_words as words
from throughtime.report.lines import Lines, printable, shell_command

__all__ = ["chart", "show"]

_CURVES = 3  # layers whose error by lag is drawn
_WIDTH, _HEIGHT, _MOST_DECADES = 60, 6, 12.0
_MOST_COLUMNS = 80
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = {**dict(zip(_BLOCKS, "  ..::###", strict=True)), "▲": "^", "△": "!"}
_SPELLED = str.maketrans({
    "≥": ">=", "λ": "lambda", "₁": "1", "±": "+-", "✗": "x", "✓": "ok", "β": "beta", "∞": "inf",
    "…": "...",
})  # fmt: skip
_HEADS = ("layer", "kind", "horizon", "λ₁ (nats)", "a step", "satur.", "dead", "replay")


def show(record: DiagnosisRecord, screen: Lines) -> None:
    """Print the findings, a table of the layers, and how much of an error comes back how far."""
    say = _speller(screen)
    screen.line(say(printable(record.title)), "bold")
    screen.facts([(name, say(printable(value))) for name, value in words.facts(record)])
    screen.line()
    for found in record.findings:
        _show_finding(words.finding(found, record), screen)
    unknown = words.not_examined(record)
    for place, (codes, why) in enumerate(unknown):
        screen.facts([("" if place else "not judged", say(printable(f"{codes}: {why}")))])
    if unknown:
        screen.line()
    if record.layers:
        width = min(_MOST_COLUMNS, screen.console.width)
        screen.console.print(_table(record, screen, width), width=width)
    for layer in record.layers[:_CURVES]:
        _show_curve(layer, record, screen)
    hidden = len(record.layers) - _CURVES
    if hidden > 0:
        screen.line()
        screen.line(f"{words.counted(hidden, 'more layers')} in the report", "dim")
    screen.line()


def _show_finding(said: words.Said, screen: Lines) -> None:
    say = _speller(screen)
    where = f" in {_cut(said.layer, 40)}" if said.layer is not None else ""
    sign = "✓" if said.is_healthy else "✗"
    screen.line(say(f"{sign} {said.title}{where}"), "bold green" if said.is_healthy else "bold red")
    rows = [
        ("  because", said.compared),
        ("", said.sentence),
        ("  cure", _command(said.cure)),
        ("  check", said.falsify),
    ]
    screen.facts([(name, say(printable(text))) for name, text in rows if text])
    screen.line()


def _command(cure: str) -> str:
    """A command that is broken where a shell lets it be; else as it is."""
    quoted = any(sign in cure for sign in "\"'\\")
    return cure if quoted or not cure.startswith("throughtime ") else shell_command(cure.split())


def _table(record: DiagnosisRecord, screen: Lines, width: int) -> Table:
    """The names of layers and of their kinds share what the numbers leave of a line."""
    say = _speller(screen)
    rows = [list(map(say, row)) for row in [_HEADS, *map(_cells, record.layers)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = width - sum(widths[2:]) - 2 * (len(widths) - 1)
    kind = max(left // 2, left - widths[0])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(rows[0]):
        most = (max(1, left - min(widths[1], kind)), max(1, kind))[place] if place < 2 else None
        table.add_column(
            name, justify="left" if place < 2 else "right", no_wrap=True, max_width=most,
            overflow="ellipsis" if _speaks_utf8(screen) else "crop",
        )  # fmt: skip
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _cells(layer: LayerRecord) -> tuple[str, ...]:
    return (
        _cut(layer.name, 400),
        _cut(layer.kind, 400),
        words.horizon(layer),
        words.number(layer.lyapunov[0]) if layer.lyapunov else "-",
        words.number(layer.growth_per_step),
        words.share(layer.saturated_share),
        words.share(layer.dead_share),
        words.number(layer.replay_error, 2),
    )


def _show_curve(layer: LayerRecord, record: DiagnosisRecord, screen: Lines) -> None:
    need = None if record.needs_lag is None else record.needs_lag.steps
    lines = list(chart(layer, need, is_plain=not _speaks_utf8(screen)))
    if lines:
        screen.line()
        screen.line(
            f"{_cut(layer.name, 30)}: ||dE_t/ds_(t-L)|| by lag L, loss a unit of state", "bold"
        )
        for line in lines:
            screen.line(line)


def chart(layer: LayerRecord, needs_lag: int | None, *, is_plain: bool) -> Iterator[str]:
    """The error by lag as bars on a logarithmic scale; nothing where no number is known.

    Args:
        layer: What was measured.
        needs_lag: Marked below, where it is known.
        is_plain: In ASCII alone.
    """
    heights, top, low = _heights(layer.error_by_lag)
    if not heights:
        return
    for row in reversed(range(_HEIGHT)):
        bars = "".join(_BLOCKS[max(0, min(8, h - 8 * row))] for h in heights)
        at = top if row == _HEIGHT - 1 else low if row == 0 else None
        label = "" if at is None else f"{10**at:.0e}"
        yield f"{label:>8} {_plain(bars) if is_plain else bars}".rstrip()
    lags, width = len(layer.error_by_lag), len(heights)
    marks = [" "] * width
    said = []
    for lag, mark, name in (
        (needs_lag, "△", f"needed lag {words.counted(needs_lag, 'steps')}"),
        (layer.horizon_steps, "▲", f"horizon {words.horizon_in_steps(layer)}"),
    ):
        if lag is not None:
            if lag < lags:
                marks[lag * width // lags] = mark
            said.append(f"{mark} {name}")
    last = f"{lags - 1:,}"
    yield f"{'':9}{'0':<{max(1, width - len(last))}}{last}"
    lines = ["".join(marks).rstrip(), ", ".join(reversed(said))]
    for line in lines:
        yield f"{'':9}{_plain(line).replace('≥', '>=') if is_plain else line}"


def _heights(values: Sequence[float | None]) -> tuple[list[int], float, float]:
    """Eighths of a line for each column, and the logarithms of the highest and the lowest."""
    logs = [math.log10(v) if v is not None and 0 < v < math.inf else None for v in values]
    known = [log for log in logs if log is not None]
    if not known:
        return [], 0.0, 0.0
    top = max(known)
    low = max(min(known), top - _MOST_DECADES)
    width = min(_WIDTH, len(logs))
    columns = [logs[i * len(logs) // width : (i + 1) * len(logs) // width] for i in range(width)]
    scale = (8 * _HEIGHT - 1) / max(top - low, 1e-9)
    return [_height(column, low, scale) for column in columns], top, low


def _height(column: Sequence[float | None], low: float, scale: float) -> int:
    known = [log for log in column if log is not None and log >= low]
    return 1 + round((max(known) - low) * scale) if known else 0


def _plain(text: str) -> str:
    return "".join(_PLAIN.get(c, c) for c in text)


def _speaks_utf8(screen: Lines) -> bool:
    return screen.console.encoding.lower().startswith("utf")


def _speller(screen: Lines) -> Callable[[str], str]:
    """What spells the signs that the terminal cannot show."""
    return str if _speaks_utf8(screen) else _spelled


def _spelled(text: str) -> str:
    return text.translate(_SPELLED).encode("ascii", "replace").decode()


def _cut(text: str, most: int) -> str:
    text = printable(text).replace("\n", " ")
    return text if len(text) <= most else text[: most - 1] + "…"
