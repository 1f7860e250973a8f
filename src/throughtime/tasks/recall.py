"""Whom did Jane say hi to? The lecture notes' example, with its distance as a dial.

"Jane walked into the room. John walked in too. It was late in the day. Jane said hi to (?)" Full
stops are tokens, so John stands 16 tokens before the blank, and Jane 4 and 22. The notes answer
Jane; whoever says hi greets the other one, and John is the one who is 16 steps away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import numpy as np

from throughtime.tasks.generated import GeneratedTask, ask_at_end, one_hot
from throughtime.tasks.task import Answer, Batch

__all__ = ["Recall"]

_NAMES = ("Jane", "John", "Anna", "Lucy", "Mark", "Mary", "Paul", "Tom")
_ENTERS = ["walked", "into", "the", "room", "."]

# After the second name, and after the name of who greets: the longest first.
_FORMS = [
    (["walked", "in", "too", "."], ["said", "hi", "to"]),
    (["walked", "in", "too", "."], ["waved", "to"]),
    (["walked", "in", "too", "."], ["greeted"]),
    (["came", "too", "."], ["greeted"]),
    (["too", "."], ["greeted"]),
]
_FILLERS = [
    sentence.split()
    for sentence in (
        "It rained .",
        "Nobody spoke .",
        "It was late .",
        "A clock struck .",
        "The room was warm .",
        "Outside it was dark .",
        "Snow fell on the street .",
        "The lamp was burning again .",
        "It was late in the day .",
        "The day had been a long one .",
    )
]
_SHORTEST_FILLER = min(map(len, _FILLERS))
_WORDS = (*_NAMES, *sorted({w for s in [_ENTERS, *sum(_FORMS, ()), *_FILLERS] for w in s}))
_NUMBER_OF = {word: number for number, word in enumerate(_WORDS)}


@dataclass(frozen=True)
class Recall(GeneratedTask):
    """Two people walk in, time passes, the first greets: whom?

    The two are drawn from eight names. The answer is the second, named exactly `length` tokens
    before the blank and nowhere after; up to 11 tokens the sentences are worded shorter. It is
    asked after the last token before the blank. A model without memory knows who greets, and
    guesses among the other seven: ln 7. Solved (ours, as Pascanu et al. 2013): under 1 % of 10,000
    wrong.

    Attributes:
        words: The tokens, by number; input and answer use the same numbers.

    Source: the lecture notes' example, from Stanford's CS224d, lecture 8. Names, the other wordings
        and the sentences between are ours.

    Example:
        >>> task = Recall(length=16)
        >>> batch = task.batch(np.random.default_rng(1), rows=1)
        >>> task.text(batch, row=0).split(" . ")[1:]
        ['Jane walked in too', 'It was late in the day', 'Mary said hi to Jane']
    """

    name: ClassVar[str] = "recall"
    what: ClassVar[str] = "two walk in, time passes, the first says hi to (?)"
    source: ClassVar[str] = "the notes' Jane and John"
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats"
    words: ClassVar[tuple[str, ...]] = _WORDS
    shortest: ClassVar[int] = 5
    input_size = len(_WORDS)
    output_size = len(_WORDS)
    length: int = 16

    @property
    def most_steps(self) -> int:
        """Steps of every row: the tokens before the blank."""
        return 1 + len(_ENTERS) + self.length

    @property
    def needs_lag(self) -> int:
        """One less than the distance: it is asked one step before the blank."""
        return self.length - 1

    def baseline(self) -> float:
        """A guess among all names but that of who greets."""
        return math.log(len(_NAMES) - 1)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Stories to learn from."""
        stories = [self._tell(rng) for _ in range(rows)]
        numbers = np.array([[_NUMBER_OF[word] for word in story] for story in stories]).T
        return ask_at_end(one_hot(numbers[:-1], self.input_size), numbers[-1])

    def text(self, batch: Batch, row: int) -> str:
        """What a row tells, with the answer in its blank."""
        told = [_WORDS[i] for i in batch.inputs[:, row].argmax(-1)]
        return " ".join([*told, _WORDS[batch.targets[-1, row]]])

    def _tell(self, rng: np.random.Generator) -> list[str]:
        first, second = (_NAMES[i] for i in rng.permutation(len(_NAMES))[:2])
        follows, greets = self._form
        left = self.length - len(follows) - len(greets) - 2
        return [
            *(first, *_ENTERS, second, *follows),
            *(word for sentence in _fill(rng, left) for word in sentence),
            *(first, *greets, second),
        ]

    @cached_property
    def _form(self) -> tuple[list[str], list[str]]:
        """The longest wording whose rest can be filled with sentences."""
        rests = [(self.length - len(f) - len(g) - 2, (f, g)) for f, g in _FORMS]
        return next(form for rest, form in rests if rest == 0 or rest >= _SHORTEST_FILLER)


def _fill(rng: np.random.Generator, tokens: int) -> Sequence[Sequence[str]]:
    """Sentences of so many tokens together."""
    sentences = []
    while tokens:
        fitting = _fitting(tokens)
        sentences.append(fitting[int(rng.integers(len(fitting)))])
        tokens -= len(sentences[-1])
    return sentences


@cache
def _fitting(tokens: int) -> Sequence[Sequence[str]]:
    """Sentences that leave no rest, or one that others fill."""
    rests = [(tokens - len(sentence), sentence) for sentence in _FILLERS]
    return [sentence for rest, sentence in rests if rest == 0 or rest >= _SHORTEST_FILLER]
