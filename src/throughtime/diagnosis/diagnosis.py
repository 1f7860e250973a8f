"""What does a diagnosis give its user? Findings, layers, and ways to look at them."""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from throughtime.errors import ConfigError
from throughtime.records.diagnosis import DiagnosisRecord, Finding, LayerRecord

__all__ = ["Diagnosis"]

_WIDTH = 80


class Diagnosis:
    """What was found, and the numbers behind it.

    Printed, it is the view of the terminal; in a notebook the page of `to_html`.

    Attributes:
        record: Everything as plain values (see `records.diagnosis`).
        again: Diagnoses another model on the same batch with the same loss: again(model,
            training=None).

    Example:
        >>> import torch, throughtime as tt
        >>> from torch import nn
        >>> rnn = nn.RNN(3, 16)
        >>> found = tt.diagnose(rnn, torch.randn(20, 4, 3), lambda m, x: m(x)[0][-1].sum())
        >>> [layer.name for layer in found.layers]
        ['RNN']
    """

    def __init__(self, record: DiagnosisRecord, again: Callable[..., "Diagnosis"]) -> None:
        self.record, self.again = record, again

    def changed(self, record: DiagnosisRecord) -> "Diagnosis":
        """The same with another record, such as one with more in it."""
        return Diagnosis(record, self.again)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, the first to be cured first; "healthy" if nothing is."""
        return self.record.findings

    @property
    def layers(self) -> list[LayerRecord]:
        """One record a layer, direction and sequence."""
        return self.record.layers

    def to_json(self) -> str:
        """Everything as JSON text."""
        return self.record.to_json()

    def to_html(self, path: Path | str | None = None, others: Sequence["Diagnosis"] = ()) -> str:
        """The report as one HTML page; without matplotlib it has no curves.

        Args:
            path: Where to write it too.
            others: Drawn beside it, such as the same model before it was cured.
        """
        from throughtime.records.atomic import replace_file
        from throughtime.report.page import diagnosis_page

        page = diagnosis_page(self.record, [other.record for other in others])
        if path is not None:
            replace_file(Path(path), [page.encode()])
        return page

    def plot_error_by_lag(self, ax: Any = None, layer: int = 0) -> Any:
        """Draw the error by lag of one layer, with its bound."""
        from throughtime.report import pictures

        return pictures.plot_error_by_lag(self.layers[layer], ax, needs_lag=self._needs_lag())

    def plot_lyapunov(self, ax: Any = None, layer: int = 0) -> Any:
        """Draw the Lyapunov exponents of one layer."""
        from throughtime.report import pictures_spectrum

        return pictures_spectrum.plot_lyapunov(self.layers[layer], ax)

    def plot_context_use(self, ax: Any = None) -> Any:
        """Draw the loss over how many steps the model sees.

        Raises:
            ConfigError: The curve could not be made: a loss was not finite.
        """
        from throughtime.report import pictures

        if self.record.context is None:
            raise ConfigError("there is no context-use curve: the loss, or an error, is not finite")
        return pictures.plot_context_use(self.record.context, ax, needs_lag=self._needs_lag())

    def _needs_lag(self) -> int | None:
        return None if self.record.needs_lag is None else self.record.needs_lag.steps

    def __repr__(self) -> str:
        codes = ", ".join(f.code for f in self.findings)
        return f"<Diagnosis of {self.record.title}: {codes}>"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its style and scripts stay out of a notebook."""
        page = html.escape(self.to_html())
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 46em; border: 0"></iframe>'

    def __str__(self) -> str:
        return self._shown(Console(file=io.StringIO(), width=_WIDTH, highlight=False))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The view of the terminal."""
        inner = Console(
            file=io.StringIO(),
            width=min(_WIDTH, options.max_width),
            highlight=False,
            force_terminal=console.is_terminal,
            color_system="standard" if console.is_terminal and not console.no_color else None,
        )
        yield Text.from_ansi(self._shown(inner))

    def _shown(self, console: Console) -> str:
        from throughtime.report.lines import Lines
        from throughtime.report.terminal import show

        show(self.record, Lines(console))
        file = console.file
        assert isinstance(file, io.StringIO), "made here"
        return file.getvalue().rstrip()
