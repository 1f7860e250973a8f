"""Which tables are there?"""

import difflib

from throughtime.errors import ConfigError
from throughtime.studies.reproduce.experiment import Experiment
from throughtime.studies.reproduce.feedback import GATED_FEEDBACK, PROGRAM_EVALUATION
from throughtime.studies.reproduce.generated import ADDING, COPY, TEMPORAL_ORDER, WARPING
from throughtime.studies.reproduce.images import MNIST
from throughtime.studies.reproduce.music import MUSIC, PASCANU_MUSIC
from throughtime.studies.reproduce.words import AGREEMENT, CLASS_SOFTMAX, PTB_WORDS

__all__ = ["EXPERIMENTS", "find_experiment"]

_ALL = (
    *(ADDING, COPY, WARPING, TEMPORAL_ORDER),
    *(MUSIC, PASCANU_MUSIC),
    *(GATED_FEEDBACK, PROGRAM_EVALUATION),
    *(PTB_WORDS, MNIST, AGREEMENT, CLASS_SOFTMAX),
)
EXPERIMENTS: dict[str, Experiment] = {one.name: one for one in _ALL}


def find_experiment(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else "Give one of these."
        raise ConfigError(
            f"there is no table {name}; expected one of {', '.join(EXPERIMENTS)}. {hint}"
        )
    return EXPERIMENTS[name]
