"""Which lesson do the options name?"""

from dataclasses import replace

from throughtime.tasks import Corpus, load_corpus
from throughtime.tasks.registry import find_task
from throughtime.train.config import TrainConfig
from throughtime.train.generated import TaskLesson
from throughtime.train.lesson import Lesson
from throughtime.train.text import TextLesson

__all__ = ["make_lesson", "read_corpus"]


def make_lesson(config: TrainConfig) -> Lesson:
    """The task or the text that the options name, read and numbered as they say.

    Raises:
        ConfigError: There is no such task, or it has no such length.
        DataError: The data cannot be used.
    """
    data = config.data
    if data.task is None:
        return TextLesson(read_corpus(config), config)
    task = find_task(data.task, data.length, data.data)
    return TaskLesson(task, replace(config, data=replace(data, length=task.length)))


def read_corpus(config: TrainConfig) -> Corpus:
    """The text that the options name."""
    data = config.data
    return load_corpus(data.data, data.unit, data.valid_fraction, data.max_vocabulary)
