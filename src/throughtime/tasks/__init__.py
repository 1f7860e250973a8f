"""What is there to learn? Texts, numbered and cut into windows; knows no network."""

from throughtime.tasks.baselines import baselines
from throughtime.tasks.files import read_text
from throughtime.tasks.text import Corpus, load_corpus
from throughtime.tasks.vocabulary import Unit, Vocabulary, build_vocabulary
from throughtime.tasks.windows import Window, Windows, streams

__all__ = [
    "Corpus",
    "Unit",
    "Vocabulary",
    "Window",
    "Windows",
    "baselines",
    "build_vocabulary",
    "load_corpus",
    "read_text",
    "streams",
]
