"""Which benches are there, and what does `throughtime bench diagnosis` show and return?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import subcommand

from throughtime.cli.bench_cpu import BenchCpu
from throughtime.cli.command import Command

if TYPE_CHECKING:
    from throughtime.cli.screen import Screen
    from throughtime.studies.diagnosis_bench import BenchRow

__all__ = ["BenchDiagnosis", "bench"]


@dataclass(frozen=True, kw_only=True)
class BenchDiagnosis(Command):
    """Patients with a known fault, healthy ones, cures: how often is it right?"""

    only: str | None = None
    """Only those whose name has this in it, such as vanishing or torch-lstm."""
    seed: int | None = None
    """Of the patients that are drawn by chance; the published ones if absent."""
    jobs: int | None = None
    """Processes side by side; as many as there are cores if absent."""

    def __call__(self) -> int:
        """Run it; 0 when it ran, whatever the numbers."""
        from throughtime.cli.screen import Screen
        from throughtime.studies.diagnosis_bench import DRAWN_SEED, run_bench

        screen = Screen(json_only=self.json)
        seed = DRAWN_SEED if self.seed is None else self.seed
        found = run_bench(seed, self.jobs, self.only, lambda row: _show(screen, row))
        counts = found.as_json()
        screen.line()
        screen.facts([
            ("patients", f"{counts['right']} of {counts['patients']}: the right finding first"),
            ("controls", f"{counts['false_alarms']} of {counts['controls']} with a finding"),
            ("cures", f"{counts['cured']} of {counts['curable']} cured by the first cure"),
        ])
        screen.result(counts)
        return 0


def _show(screen: "Screen", row: "BenchRow") -> None:
    cure = {None: "", True: "cured", False: "not cured"}[row.is_cured]
    mark = "right" if row.is_right else "wrong"
    screen.line(f"{mark:<6}{row.name}", "" if row.is_right else "bold")
    screen.line(f"      {', '.join(row.codes)}{'; ' if cure else ''}{cure}", "dim")


def bench(
    which: Annotated[BenchDiagnosis, subcommand("diagnosis")]
    | Annotated[BenchCpu, subcommand("cpu")] = BenchDiagnosis(),
) -> Command:
    """Measure what we claim: how often the instrument is right, how fast layers are."""
    return which
