"""How is LLVM's language written? Vector types, exact constants, and a function line by line.

Text, because it is forty times faster to build than objects, and lines can be read. No fast-math
flag is ever set: the order of every sum is the one that is written.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Code", "Lanes"]

Real = Literal["float", "double"]
_BYTES: dict[str, int] = {"float": 4, "double": 8}


@dataclass(frozen=True)
class Lanes:
    """The vector of numbers that one instruction works on.

    Attributes:
        real: What each lane holds.
        count: How many lanes there are.
    """

    real: Real
    count: int

    @property
    def type(self) -> str:
        """The vector type in LLVM's words."""
        return f"<{self.count} x {self.real}>"

    @property
    def mask(self) -> str:
        """The type of a comparison's result."""
        return f"<{self.count} x i1>"

    @property
    def whole(self) -> str:
        """The vector of whole numbers of the same size."""
        return f"<{self.count} x i{8 * self.bytes}>"

    @property
    def suffix(self) -> str:
        """What names of intrinsics end with: v8f32, v4f64, ..."""
        return f"v{self.count}f{8 * self.bytes}"

    @property
    def bytes(self) -> int:
        """Of one lane."""
        return _BYTES[self.real]

    def number(self, value: float) -> str:
        """A scalar constant, rounded to the type and exact from there on."""
        rounded = struct.unpack("<f", struct.pack("<f", value))[0] if self.bytes == 4 else value
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"

    def splat(self, value: float) -> str:
        """A constant in every lane."""
        return f"splat ({self.real} {self.number(value)})"

    def whole_splat(self, value: int) -> str:
        """A whole number in every lane."""
        return f"splat (i{8 * self.bytes} {value})"


@dataclass
class Code:
    """The lines of one function, with fresh names.

    Attributes:
        lanes: The vector type it works on.
        lines: What was written so far.
    """

    lanes: Lanes
    lines: list[str] = field(default_factory=list)
    _last: int = 0
    block: str = "entry"

    def fresh(self, what: str = "v") -> str:
        """A name that was not used before, without its % sign."""
        self._last += 1
        return f"{what}{self._last}"

    def do(self, line: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {line}")

    def let(self, expression: str) -> str:
        """Write an instruction; return the name of its result."""
        name = "%" + self.fresh()
        self.lines.append(f"  {name} = {expression}")
        return name

    def label(self, name: str) -> None:
        """Start a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def call(self, function: str, *args: str) -> str:
        """Call an intrinsic of vectors, such as fmuladd or sqrt."""
        given = ", ".join(f"{self.lanes.type} {a}" for a in args)
        return self.let(f"call {self.lanes.type} @llvm.{function}.{self.lanes.suffix}({given})")

    def op(self, instruction: str, a: str, b: str) -> str:
        """A vector instruction of two arguments, such as fadd."""
        return self.let(f"{instruction} {self.lanes.type} {a}, {b}")

    def fma(self, a: str, b: str, c: str) -> str:
        """The value a b + c, fused where the machine can."""
        return self.call("fmuladd", a, b, c)

    def compare(self, how: str, a: str, b: str) -> str:
        """A mask: `how` is LLVM's word (ogt, oeq, une, ...)."""
        return self.let(f"fcmp {how} {self.lanes.type} {a}, {b}")

    def select(self, mask: str, a: str, b: str) -> str:
        """The lanes of a where the mask is set, those of b elsewhere."""
        kind = self.lanes.type
        return self.let(f"select {self.lanes.mask} {mask}, {kind} {a}, {kind} {b}")

    def at(self, base: str, offset: str) -> str:
        """The address of the element at an offset, counted in numbers."""
        return self.let(f"getelementptr {self.lanes.real}, ptr {base}, i64 {offset}")

    def load(self, pointer: str) -> str:
        """A vector from memory, wherever it lies."""
        return self.let(f"load {self.lanes.type}, ptr {pointer}, align {self.lanes.bytes}")

    def spread(self, pointer: str) -> str:
        """One number from memory in every lane."""
        lanes, real = self.lanes, self.lanes.real
        one = self.let(f"load {real}, ptr {pointer}")
        first = self.let(f"insertelement {lanes.type} poison, {real} {one}, i64 0")
        zeros = f"<{lanes.count} x i32> zeroinitializer"
        return self.let(f"shufflevector {lanes.type} {first}, {lanes.type} poison, {zeros}")

    def store(self, value: str, pointer: str) -> None:
        """A vector to memory."""
        self.do(f"store {self.lanes.type} {value}, ptr {pointer}, align {self.lanes.bytes}")

    @contextmanager
    def count(self, stop: str, start: str = "0", step: str = "1") -> Iterator[str]:
        """Write a loop from start to stop (i64), without a turn where there is none to take."""
        before, name = self.block, self.fresh("loop")
        index, after = f"%{name}.i", f"%{name}.next"
        some = self.let(f"icmp slt i64 {start}, {stop}")
        self.do(f"br i1 {some}, label %{name}, label %{name}.end")
        self.label(name)
        place = len(self.lines)
        yield index
        self.lines.insert(
            place, f"  {index} = phi i64 [ {start}, %{before} ], [ {after}, %{self.block} ]"
        )
        self.do(f"{after} = add i64 {index}, {step}")
        more = self.let(f"icmp slt i64 {after}, {stop}")
        self.do(f"br i1 {more}, label %{name}, label %{name}.end")
        self.label(f"{name}.end")
