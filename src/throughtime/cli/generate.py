"""What does `throughtime generate` show?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from throughtime.cli.command import Command

__all__ = ["Generate"]


@dataclass(frozen=True, kw_only=True)
class Generate(Command):
    """Let the model of a run go on from a prompt."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run folder."""
    prompt: str = "\n"
    """Text to go on from."""
    length: int = 400
    """Symbols to write."""
    seed: int = 0
    """Seed of the draws."""
    temperature: float = 0.8
    """Below 1 safer, above 1 wilder; 0 takes the most probable symbol each time."""

    def __call__(self) -> int:
        """Print the prompt and what follows it."""
        from throughtime.cli.screen import Screen
        from throughtime.train.generate import generate
        from throughtime.train.saved import load_writer

        saved = load_writer(self.run)
        text = generate(
            saved.model,
            saved.vocabulary,
            self.prompt,
            self.length,
            seed=self.seed,
            temperature=self.temperature,
        )
        screen = Screen(json_only=self.json)
        read = saved.vocabulary.decode(saved.vocabulary.encode(self.prompt))
        if read.split() != self.prompt.split():
            screen.note(f"the model knows not all of the prompt; it read {read!r}")
        if not self.json:
            screen.line(self.prompt.lstrip("\n") + text)
        screen.result({"prompt": self.prompt, "text": text, "seed": self.seed})
        return 0
