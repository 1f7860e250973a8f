"""What does `throughtime reproduce` show, and what does it return?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from throughtime.cli.command import Command
from throughtime.errors import ConfigError

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.studies.reproduce.experiment import Experiment

__all__ = ["Reproduce"]

_RESULTS = Path("bench") / "results" / "reproduce"


@dataclass(frozen=True, kw_only=True)
class Reproduce(Command):
    """Have a published table again: our numbers beside the paper's; --list says which."""

    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None
    """Of the table."""
    list: bool = False
    """Say which tables there are, what they claim, and which data they need."""
    data: Path | None = None
    """Folder of the data, for tables that need some."""
    seeds: int | None = None
    """Runs of each kind; as many as the table says if absent."""
    budget: str | None = None
    """Time after which what is not done is left for the same command later, such as 2h."""
    jobs: int | None = None
    """Processes side by side; as many as there are cores if absent."""
    quick: bool = False
    """Train next to nothing, once: only to see that all of it runs."""
    out: Path = Path("runs") / "reproduce"
    """Folder of the runs. The same command goes on where it was."""
    results: Path | None = None
    """File of the result; bench/results/reproduce/NAME.json if absent, with --quick in --out."""
    page: Path | None = None
    """Draw this page of Markdown, and a picture beside it, from bench/results/reproduce."""

    def __call__(self) -> int:
        """Run it; 0 when every run came to its end or the budget did, 1 if one broke."""
        from throughtime.cli.screen import Screen
        from throughtime.studies.reproduce.catalogue import EXPERIMENTS, find_experiment

        screen = Screen(json_only=self.json)
        if self.list:
            return _list(screen, list(EXPERIMENTS.values()))
        if self.page is not None:
            return _draw(self.page, list(EXPERIMENTS), screen)
        if self.name is None:
            raise ConfigError(
                f"no table was named; expected one of {', '.join(EXPERIMENTS)}. Give its name, "
                "or --list."
            )
        return self._reproduce(find_experiment(self.name), screen)

    def _reproduce(self, experiment: "Experiment", screen: "Screen") -> int:
        from throughtime.cli.reproduced import Progress
        from throughtime.studies.reproduce.conduct import Settings, reproduce
        from throughtime.train.config import parse_duration

        out = self.out / "quick" if self.quick else self.out
        folder = out if self.quick else _RESULTS
        settings = Settings(
            out,
            self.results or folder / f"{experiment.name}.json",
            self.data,
            self.seeds,
            None if self.budget is None else parse_duration(self.budget),
            self.jobs,
        )
        asked, begun_s = experiment.quick() if self.quick else experiment, time.monotonic()
        progress = Progress(screen)
        found = reproduce(asked, settings, progress)
        progress.finished(found, settings.results, time.monotonic() - begun_s)
        screen.result({"results": str(settings.results), **found})
        return 1 if progress.broken else 0


def _draw(page: Path, names: Sequence[str], screen: "Screen") -> int:
    """Write the page of all results and its picture."""
    from throughtime.studies.reproduce.page import draw_page

    picture = draw_page(page, names, _RESULTS)
    screen.facts([("page", str(page)), ("picture", str(picture))])
    screen.result({"page": str(page), "picture": str(picture)})
    return 0


def _list(screen: "Screen", experiments: "Sequence[Experiment]") -> int:
    """Every table, with its claim; in the JSON all that can be known before."""
    from throughtime.cli.reproduced import listed

    screen.console.print(listed(experiments))
    screen.result({"rows": [_listed(one) for one in experiments]})
    return 0


def _listed(one: "Experiment") -> dict[str, Any]:
    return {
        "name": one.name,
        "claim": one.claim,
        "source": one.source,
        "chosen": one.chosen,
        "arms": [arm.name for arm in one.arms],
        "rows": [row.name for row in one.rows],
        "seeds": one.seeds,
        "needs": list(one.files),
    }
