"""How is a graph run over a sequence? Engines, their front door and their choice."""

from throughtime.engine.dispatch import NAMES, choose, explain, prepare
from throughtime.engine.function import run
from throughtime.engine.job import Inputs, Job

__all__ = ["NAMES", "Inputs", "Job", "choose", "explain", "prepare", "run"]
