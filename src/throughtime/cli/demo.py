"""What does `throughtime demo` show?"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from throughtime.cli.command import Command
from throughtime.errors import ConfigError

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen

__all__ = ["Demo"]

_WIDTHS = (16, 10, 8, 12, 10, 9, 9)
_PAGE = "vanishing.html"


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """See errors vanish through time, or be kept: numbers and a page in a minute."""

    name: Positional[Literal["vanishing", "false-zero"]]
    """vanishing: tanh, leaky, LSTM and GRU on one task, and the cliff that clipping is for.
    false-zero: what retain_grad reads on torch's fused layers, and what really arrives."""
    out: Path = Path("runs/demo")
    """Folder that pages and pictures are written to."""
    open: bool = False
    """Open the page in the browser."""
    updates: int = 1_600
    """Updates of each of the four trainings; fewer are quicker and learn less."""
    seed: int = 0
    """Seed of weights and sequences."""

    def __post_init__(self) -> None:
        """Refuse counts without a meaning."""
        for name, least in (("updates", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; expected a whole number of at least "
                    f"{least}. Give --{name} {least} or more."
                )

        if self.name == "false-zero" and (self.updates, self.seed) != (type(self).updates, 0):
            raise ConfigError(
                "demo false-zero trains nothing and has its own seeds; drop --updates and --seed."
            )

    def __call__(self) -> int:
        """Measure, train, measure again; write the page, and say what was seen."""
        import webbrowser

        from throughtime.cli.false_zero import show_false_zero
        from throughtime.cli.screen import Screen
        from throughtime.studies.vanishing import vanishing

        screen = Screen(json_only=self.json)
        if self.name == "false-zero":
            found = show_false_zero(screen, self.out)
            screen.result(found)
            if self.open and found["picture"] is not None:
                _ = webbrowser.open(Path(found["picture"]).as_uri())
            return 0
        if find_spec("matplotlib") is None:
            raise ConfigError(
                "demo draws with matplotlib, which is not installed. "
                "Run pip install 'throughtime[report]'."
            )
        page = (self.out / _PAGE).resolve()
        page.parent.mkdir(parents=True, exist_ok=True)  # which may fail, and should before the work
        results = vanishing(self.updates, self.seed, _watching(screen)).as_json()
        results = _drawn(results, page)
        _show(screen, results, page)
        screen.result(results)
        if self.open:
            _ = webbrowser.open(page.as_uri())
        return 0


def _watching(screen: "Screen") -> Any:
    """Prints a line for each cell."""
    from throughtime.report.lines import duration
    from throughtime.studies.vanishing import CellRow, VanishingWatch

    class Lines(VanishingWatch):
        def begun(self, name: str) -> None:
            screen.line(f"training the {name} ...", "dim")

        def ended(self, row: CellRow) -> None:
            verdict = "solved" if row.is_solved else "not solved"
            screen.line(f"  {duration(row.train_s)}, {verdict}", "dim")

    return Lines()


def _drawn(results: dict[str, Any], page: Path) -> dict[str, Any]:
    """Write the page; the results with the walks over the cliff and the page's place."""
    from throughtime.records.atomic import replace_file
    from throughtime.report.vanishing import vanishing_page
    from throughtime.studies.cliff import cliff

    found = cliff()
    results = results | {"cliff": found.as_json()}
    text = vanishing_page(results, found.surface())
    replace_file(page, [text.encode()])
    return results | {"page": str(page)}


def _show(screen: "Screen", results: dict[str, Any], page: Path) -> None:
    """The summary of the terminal, 80 columns wide."""
    from throughtime.report import vanishing_words as words
    from throughtime.report.lines import duration, shell_command

    need = results["needs_lag"]
    screen.line()
    screen.line(f"{'':16}{'horizon, steps':>18}{f'share at lag {need}':>22}", "bold")
    screen.line(_row(("cell", "before", "after", "before", "after", "wrong", "solved")), "bold")
    for cells in words.cells_of(results):
        screen.line(_row(cells))
    screen.line()
    screen.facts([
        ("task", f"{results['task']}, length {results['length']}: the answer needs {need} steps"),
        ("horizon", "the largest lag at which 1 % of an error at the last step still arrives"),
        ("share", f"of an error at the last step, what arrives {need} steps before it"),
        *(("seen" if i == 0 else "", said) for i, said in enumerate(words.sentences(results))),
        ("cliff", words.cliff_sentence(results["cliff"])),
        ("took", duration(results["elapsed_s"])),
        ("page", str(page)),
        ("next", "one seed proves little; several:"),
        ("", shell_command(words.compare_command(results).split())),
    ])


def _row(cells: tuple[str, ...]) -> str:
    first, *rest = zip(cells, _WIDTHS, strict=True)
    return f"{first[0]:<{first[1]}}" + "".join(f"{cell:>{width}}" for cell, width in rest)
