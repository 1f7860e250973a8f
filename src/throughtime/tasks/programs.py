"""What does this program print? Small programs in Python, read character by character.

    b=3107
    for x in range(5):b-=26
    print((b if 58<4400 else 913))
    2977.

A program is made of `nesting` operations, each of which uses the result of the one before: a sum or
difference, a product with a small number, a conditional, a variable, a loop. Its result is computed
while it is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import ConfigError
from throughtime.tasks.generated import GeneratedTask, one_hot
from throughtime.tasks.task import Answer, Batch

__all__ = ["Program", "ProgramEvaluation", "write_program"]

_VARIABLES = "abcdefghij"
_SYMBOLS = "".join(sorted(set(_VARIABLES + "0123456789.+-*=<>:() \nforxinrangeprintifelse")))
_NUMBER_OF = {symbol: number for number, symbol in enumerate(_SYMBOLS)}


class Program(NamedTuple):
    """A program on the way: lines, then an expression in their variables, and its value.

    Attributes:
        lines: Complete lines, one after the other.
        expression: What the last line prints.
        value: What that is.
    """

    lines: str
    expression: str
    value: int

    @property
    def text(self) -> str:
        """All of it, up to the end of the last line."""
        return f"{self.lines}print({self.expression})\n"

    @property
    def answer(self) -> str:
        """What is printed, and a full stop."""
        return f"{self.value}."


@dataclass(frozen=True)
class ProgramEvaluation(GeneratedTask):
    """The digits that a program prints, from its characters.

    The program is read, then the answer, a character behind the one to be predicted (teacher
    forcing); only the answer, its sign and its full stop are counted. Numbers are drawn from
    U{1 ... 10^digits - 1}, factors and loops from U{1 ... 4 digits}. A training program has
    U{1 ... `length`} digits and U{1 ... `nesting`} operations, a held-out one the most of both. A
    model without memory knows the character just read: its score is the entropy of the next one
    given that, on the test part. Half of the programs are longer than `needs_lag`. Solved (ours): a
    score under a tenth of the memoryless one.

    Attributes:
        length: Most digits of a number.
        nesting: Most operations.

    Source: Zaremba & Sutskever 2014, the mixed curriculum; operations and bounds of numbers as in
        their code. The text of our programs differs: they stand on lines of their own, loops too.
    """

    name: ClassVar[str] = "programs"
    what: ClassVar[str] = "the number that a small program prints"
    source: ClassVar[str] = "Zaremba & Sutskever 2014"
    answer: ClassVar[Answer] = "class"
    unit: ClassVar[str] = "nats a character"
    valid_rows: ClassVar[int] = 500
    test_rows: ClassVar[int] = 2_000
    has_criterion: ClassVar[bool] = False
    symbols: ClassVar[str] = _SYMBOLS
    input_size = len(_SYMBOLS)
    output_size = len(_SYMBOLS)
    length: int = 4
    nesting: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.nesting <= len(_VARIABLES) or self.length > 15:
            raise ConfigError(
                f"the task {self.name} has length {self.length} and nesting {self.nesting}; "
                f"expected 15 digits at most, and 1 to {len(_VARIABLES)} operations. "
                "Give numbers between these."
            )

    @property
    def most_steps(self) -> int:
        """Steps of the longest row there can be, or some more."""
        operation = 3 * self.length + len("a=\nfor x in range(60):a+=\n")
        # The first number, the answer with its growth by factors of two digits, print and the stop
        return self.nesting * (operation + 2) + 2 * self.length + len("print()\n-.")

    @property
    def needs_lag(self) -> int:
        """Characters of the median program of the validation part."""
        return _median_characters(self)

    def baseline(self) -> float:
        """The entropy of a character of the answer, given the one before."""
        return _entropy_given_last(self)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Programs to learn from, easy and hard ones mixed."""
        digits = rng.integers(1, self.length + 1, rows)
        nesting = rng.integers(1, self.nesting + 1, rows)
        return _stack([
            write_program(rng, int(d), int(n)) for d, n in zip(digits, nesting, strict=True)
        ])

    def held_out_batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """Programs of the full length and nesting."""
        return _stack([write_program(rng, self.length, self.nesting) for _ in range(rows)])

    def text(self, batch: Batch, row: int) -> str:
        """The program of a row and its answer."""
        read = batch.inputs[: batch.lengths[row], row].argmax(-1)
        return "".join(_SYMBOLS[i] for i in [*read, batch.targets[batch.lengths[row] - 1, row]])


def write_program(rng: np.random.Generator, digits: int, nesting: int) -> Program:
    """A program of so many operations on numbers of so many digits at most."""
    write = _Writer(rng, digits)
    value = write.number()
    program = Program("", str(value), value)
    for choice in rng.integers(0, len(_OPERATIONS), nesting):
        program = _OPERATIONS[choice](write, program)
    return program


class _Writer:
    """Draws numbers, and variables of which none comes twice."""

    def __init__(self, rng: np.random.Generator, digits: int) -> None:
        self.rng, self._digits = rng, digits
        self._variables = iter(rng.permutation(list(_VARIABLES)).tolist())

    def number(self) -> int:
        return int(self.rng.integers(1, 10**self._digits))

    def small(self) -> int:
        return int(self.rng.integers(1, 4 * self._digits + 1))

    def variable(self) -> str:
        return next(self._variables)

    def is_heads(self) -> bool:
        return bool(self.rng.integers(0, 2))

    def in_any_order(self, program: Program, numbers: int) -> list[tuple[str, int]]:
        """The result so far among new numbers, each with its value."""
        operands = [(str(n), n) for n in (self.number() for _ in range(numbers))]
        operands.insert(int(self.rng.integers(0, numbers + 1)), (program.expression, program.value))
        return operands


def _add(write: _Writer, program: Program) -> Program:
    (left, a), (right, b) = write.in_any_order(program, 1)
    if write.is_heads():
        return Program(program.lines, f"({left}+{right})", a + b)
    return Program(program.lines, f"({left}-{right})", a - b)


def _multiply(write: _Writer, program: Program) -> Program:
    factor, (_, expression, value) = write.small(), program
    product = f"({expression}*{factor})" if write.is_heads() else f"({factor}*{expression})"
    return Program(program.lines, product, value * factor)


def _choose(write: _Writer, program: Program) -> Program:
    (left, a), (right, b), (then, c), (other, d) = write.in_any_order(program, 3)
    sign, is_true = (">", a > b) if write.is_heads() else ("<", a < b)
    return Program(
        program.lines, f"({then} if {left}{sign}{right} else {other})", c if is_true else d
    )


def _assign(write: _Writer, program: Program) -> Program:
    variable = write.variable()
    lines = f"{program.lines}{variable}={program.expression}\n"
    return _add(write, Program(lines, variable, program.value))


def _repeat(write: _Writer, program: Program) -> Program:
    variable, times = write.variable(), write.small()
    (start, a), (step, b) = write.in_any_order(program, 1)
    sign, value = ("+", a + times * b) if write.is_heads() else ("-", a - times * b)
    loop = f"{variable}={start}\nfor x in range({times}):{variable}{sign}={step}\n"
    return Program(program.lines + loop, variable, value)


_OPERATIONS: tuple[Callable[[_Writer, Program], Program], ...] = (
    _add,
    _multiply,
    _choose,
    _assign,
    _repeat,
)


def _stack(programs: list[Program]) -> Batch:
    """Every character but the last is read, and the next one is the target."""
    texts = [program.text + program.answer for program in programs]
    lengths = np.array([len(text) - 1 for text in texts])
    first = lengths - np.array([len(program.answer) for program in programs])
    numbers = np.zeros((lengths.max() + 1, len(texts)), np.int64)
    for row, text in enumerate(texts):
        numbers[: len(text), row] = [_NUMBER_OF[symbol] for symbol in text]
    step = np.arange(lengths.max())[:, None]
    is_real = step < lengths
    inputs = one_hot(numbers[:-1], len(_SYMBOLS)) * is_real[..., None]
    is_counted = is_real & (step >= first)
    return Batch(inputs, np.where(is_counted, numbers[1:], 0), is_counted, lengths)


@lru_cache
def _median_characters(task: ProgramEvaluation) -> int:
    asked: list[NDArray[np.int64]] = [b.is_counted.argmax(0) for b in task.held_out("valid")]
    return int(np.median(np.concatenate(asked)))


@lru_cache
def _entropy_given_last(task: ProgramEvaluation) -> float:
    counts = np.zeros((len(_SYMBOLS), len(_SYMBOLS)))
    for batch in task.held_out("test"):
        read = batch.inputs.argmax(-1)[batch.is_counted]
        np.add.at(counts, (read, batch.targets[batch.is_counted]), 1.0)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
    nats = -np.log(shares, out=np.zeros_like(shares), where=counts > 0)
    return float((counts * nats).sum() / counts.sum())
