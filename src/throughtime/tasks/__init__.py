"""What is there to learn? Texts, and tasks with an answer; knows no network."""

from throughtime.tasks.baselines import baselines
from throughtime.tasks.files import read_text
from throughtime.tasks.registry import TASKS, find_task
from throughtime.tasks.task import Answer, Batch, Part, Task
from throughtime.tasks.text import Corpus, load_corpus
from throughtime.tasks.vocabulary import Unit, Vocabulary, build_vocabulary
from throughtime.tasks.windows import Window, Windows, streams

__all__ = [
    "TASKS",
    "Answer",
    "Batch",
    "Corpus",
    "Part",
    "Task",
    "Unit",
    "Vocabulary",
    "Window",
    "Windows",
    "baselines",
    "build_vocabulary",
    "find_task",
    "load_corpus",
    "read_text",
    "streams",
]
