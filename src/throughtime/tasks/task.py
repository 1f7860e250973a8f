"""What is a task with an answer to learn? Batches, how an answer is judged, and what chance gives.

A task is generated, or read from a file, as batches of whole sequences; it knows no network. Its
score is the mean over every counted step of what the network is trained on: a squared error, or a
negative log probability in nats. Lower is better, and `baseline` is what a model without memory
reaches.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "Batch", "Part", "Task"]

Answer = Literal["class", "value", "keys"]
Part = Literal["valid", "test"]

# Past 1 of a hundred sequences wrong no task of Pascanu et al. 2013 counts as solved.
_SOLVED_WRONG_SHARE = 0.01


class Batch(NamedTuple):
    """Whole sequences, padded behind their ends.

    Attributes:
        inputs: What is read; symbols as one-hot vectors.
        targets: What the network should answer: a class, or values.
        is_counted: At which steps it is asked; never past a row's end.
        lengths: Real steps of each row.

    Shape:
        inputs: [T, B, I]; targets: [T, B] of classes, else [T, B, O]; is_counted: [T, B];
        lengths: [B]
    """

    inputs: NDArray[np.float32]
    targets: NDArray[Any]
    is_counted: NDArray[np.bool_]
    lengths: NDArray[np.int64]


class Task(ABC):
    """Something to learn, at one length.

    Attributes:
        name: What the command line calls it.
        what: What is asked, in a few words.
        source: Where it was published; how this one differs is said with the class.
        answer: "class": one of `output_size` symbols, trained by its negative log probability;
            "value": real numbers, by their mean squared error; "keys": independent bits, by the sum
            of their negative log probabilities.
        unit: What a score is, such as "nats a step" or "mean squared error".
        length: The dial of its difficulty, in steps unless the task says otherwise.
        input_size: I.
        output_size: O, classes or values.
        needs_lag: Over how many steps the answer depends on the input, at the least: in every row,
            or in half of them where the task says so.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    source: ClassVar[str]
    answer: ClassVar[Answer]
    unit: ClassVar[str]
    length: int
    input_size: int
    output_size: int

    @property
    @abstractmethod
    def needs_lag(self) -> int:
        """Over how many steps the answer depends on the input, at the least."""

    @abstractmethod
    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Sequences to learn from, `rows` of them, decided by the state of `rng` alone."""

    @abstractmethod
    def held_out(self, part: Part) -> Iterator[Batch]:
        """The sequences of a part, the same at every call and never those that are learnt from."""

    @abstractmethod
    def baseline(self) -> float:
        """The score on the test part of the best model without memory, or its expectation."""

    def output_bias(self) -> NDArray[np.float32] | None:
        """What an output layer adds before it has learnt: the answer of a model without memory.

        Learning it from zero costs a network on rare events its first updates, which drive all its
        units one way and leave gates saturated.

        Returns:
            For each output its log-odds; None where the task has none to give, and a network starts
            from its own random bias.

        Shape:
            [O]
        """
        return None

    def is_wrong(self, outputs: NDArray[np.float32], batch: Batch) -> NDArray[np.bool_]:
        """Which rows a network got wrong: those with a wrong class at any counted step.

        Args:
            outputs: Of the network, [T, B, O]: one number a class, the largest is its answer.
            batch: What it was asked.

        Shape:
            [B]
        """
        differs = outputs.argmax(-1) != batch.targets
        return (differs & batch.is_counted).any(0)

    def is_solved(self, score: float, wrong_share: float) -> bool | None:  # noqa: ARG002 (for others)
        """Whether the criterion of the source is met; by default under 1 % of the rows wrong.

        None where there is no criterion.
        """
        return wrong_share < _SOLVED_WRONG_SHARE
