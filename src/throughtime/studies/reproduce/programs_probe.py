"""How many characters of a program's answer are right, by its operations and digits?

    python -m throughtime.studies.reproduce.programs_probe RUN

Source: Zaremba & Sutskever 2014: the characters before are given (teacher forcing).
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from throughtime.models import SequenceModel
from throughtime.tasks.programs import ProgramEvaluation
from throughtime.train.generated import as_task_tensors
from throughtime.train.saved import load_run

__all__ = ["program_accuracy"]


def program_accuracy(model: SequenceModel, task: ProgramEvaluation) -> dict[str, float]:
    """The share of answered characters that are right, in per cent, on fresh programs.

    For each number of operations up to the task's, each number of digits up to its length.
    """
    found = {
        f"percent_right_{nesting}_{digits}": _percent(model, task, nesting, digits)
        for nesting in range(1, task.nesting + 1)
        for digits in range(1, task.length + 1)
    }
    return found | {"percent_right": sum(found.values()) / len(found)}


@torch.no_grad()
def _percent(model: SequenceModel, task: ProgramEvaluation, nesting: int, digits: int) -> float:
    right = counted = 0
    for batch in replace(task, nesting=nesting, length=digits).held_out("test"):
        inputs, targets, is_counted, lengths = as_task_tensors(batch, model.device)
        outputs, _ = model(inputs, lengths=lengths)
        hits = outputs[is_counted].argmax(-1) == targets[is_counted]
        right, counted = right + int(hits.sum()), counted + hits.numel()
    return 100.0 * right / counted


if __name__ == "__main__":
    saved = load_run(Path(sys.argv[1]))
    assert isinstance(saved.model, SequenceModel), "of a task"
    task = ProgramEvaluation(length=saved.config.data.length or ProgramEvaluation.length)
    sys.stdout.write(json.dumps(program_accuracy(saved.model, task)))
