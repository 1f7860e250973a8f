"""How are the products of all steps at once computed: inputs, their gradients, the weights' ones?

With few inputs the vendor's library is a slow part of a training step, and tiles of our own on
packed weights are faster; with many it is as good as they are. Which is taken depends on the sizes
and the number of threads. Where our tiles compute it, a row of a result is the same whatever rows
stand beside it and however many threads there are.
"""

import ctypes
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor

from throughtime.engine.llvm.ir import Code, Lanes
from throughtime.engine.llvm.jit import compiled
from throughtime.engine.llvm.machine import Machine, machine
from throughtime.engine.llvm.team import launch
from throughtime.engine.llvm.tiles import Shape, dispatch_text, shape
from throughtime.engine.llvm.workspace import borrow

__all__ = ["outer", "product", "project", "rows_text"]

_ARGUMENTS: Final = ("a", "lda", "w", "along", "across", "k", "out", "ldo", "n", "m", "pack")
_POINTERS: Final = ("a", "w", "out", "pack")
_REAL: dict[torch.dtype, Literal["float", "double"]] = {
    torch.float32: "float",
    torch.float64: "double",
}
_NARROW = 384  # the narrow side of the weights up to which our tiles are faster
_WEIGHTS = 4 * 2**20  # bytes of weights, as every thread packs its own copy
_ROWS = 256  # for each thread, below which packing costs more than it saves
_GROUPS = 4  # tiles that share a panel while it is in the nearest cache


def project(x: Tensor, weight: Tensor, out: Tensor, threads: int) -> Tensor:
    """The product x weight^T, for all rows of x. No gradient is recorded.

    Args:
        x: The rows; any distance between them, numbers within a row side by side, as in all of
            these tensors.
        weight: One row for each output.
        out: Receives the result.
        threads: How many threads may work.

    Returns:
        `out`.

    Shape:
        x [N, I], weight [M, I], out [N, M]
    """
    if _own(x.shape[0], weight, (1, 0), threads):
        _run(x, weight, (weight.stride(0), 1), out, threads)
        return out
    return torch.mm(x, weight.t(), out=out)


def product(a: Tensor, weight: Tensor, out: Tensor, threads: int) -> Tensor:
    """The product a weight, for all rows of a: `project`'s gradient at x. No gradient is recorded.

    Args:
        a: The rows.
        weight: One row for each column of a.
        out: Receives the result.
        threads: How many threads may work.

    Returns:
        `out`.

    Shape:
        a [N, M], weight [M, I], out [N, I]
    """
    if _own(a.shape[0], weight, (1, 1), threads):
        _run(a, weight, (1, weight.stride(0)), out, threads)
        return out
    return torch.mm(a, weight, out=out)


def outer(a: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """The product a^T x: the gradient of `project` at the weights. No gradient is recorded.

    The vendor's library always: tiles of our own, on packed operands or not, are nowhere clearly
    faster. It takes another way for an `out` whose columns are contiguous, the faster one on some
    machines where x has few columns.

    Args:
        a: The rows of the outputs' gradient.
        x: The rows of the inputs.
        out: Receives the result.

    Returns:
        `out`.

    Shape:
        a [N, M], x [N, I], out [M, I]
    """
    return torch.mm(a.t(), x, out=out)


def rows_text(lanes: Lanes, size: Shape) -> str:
    """The kernel `@rows`: packs weights and multiplies rows with them.

    Its arguments are `a, lda, w, along, across, k, out, ldo, n, m, pack`: out[r, c] = sum over
    i < k of a[r * lda + i] w[c * along + i * across], for n rows and m columns, which must be a
    multiple of a panel's width. `pack` holds k * m numbers a thread.

    Args:
        lanes: The vector type.
        size: The shape of a tile.

    Returns:
        The text of the kernel and of what it calls.
    """
    return _Rows(lanes, size).text() + dispatch_text(lanes, size)


def _own(rows: int, weight: Tensor, sides: tuple[int, int], threads: int) -> bool:
    """Whether our tiles are to be taken.

    Args:
        rows: How many there are.
        weight: The weights.
        sides: Which of their dimensions is the narrow one, and which the result's columns.
        threads: How many threads may work.
    """
    if weight.dtype not in _REAL:
        return False
    narrow, columns = (weight.shape[side] for side in sides)
    lanes, size = _tile(weight.dtype, machine())
    return (
        columns % (size.vectors * lanes.count) == 0
        and narrow <= _NARROW
        and weight.numel() * lanes.bytes <= _WEIGHTS
        and rows >= _ROWS * threads
    )


@cache
def _tile(dtype: torch.dtype, machine: Machine) -> tuple[Lanes, Shape]:
    lanes = machine.lanes(_REAL[dtype])
    return lanes, shape(machine.bits, machine.registers, 4, lanes)


@cache
def _kernel(dtype: torch.dtype, machine: Machine) -> int:
    return compiled(rows_text(*_tile(dtype, machine)), machine).address("rows")


def _run(a: Tensor, weight: Tensor, strides: tuple[int, int], out: Tensor, threads: int) -> None:
    """Run the kernel; strides lead from one column of the result, or from one k, to the next."""
    n, k = a.shape
    pack = borrow(threads * weight.numel(), a.dtype)
    numbers = (
        *(a.data_ptr(), a.stride(0), weight.data_ptr(), *strides, k, out.data_ptr()),
        *(out.stride(0), n, out.shape[1], pack.data_ptr()),
    )
    arguments = (ctypes.c_int64 * len(numbers))(*numbers)
    launch(_kernel(a.dtype, machine()), ctypes.addressof(arguments), threads)


class _Rows:
    """The writer of the kernel `@rows`."""

    def __init__(self, lanes: Lanes, size: Shape) -> None:
        self.code = Code(lanes)
        self.size = size
        self.width = size.vectors * lanes.count
        self.given: dict[str, str] = {}

    def text(self) -> str:
        """The whole function."""
        code = self.code
        code.label("entry")
        self._arguments()
        with code.count(self.given["panels"]) as panel:
            self._pack(panel)
        start, end = self._share()
        group = self.size.rows * _GROUPS
        with code.count(end, start, str(group)) as first:
            last = self._least(code.let(f"add i64 {first}, {group}"), end)
            with code.count(self.given["panels"]) as panel:
                self._column(panel, first, last)
        code.do("ret void")
        head = "define void @rows(ptr %arguments, i64 %thread, i64 %threads) nounwind {"
        return "\n".join([head, *code.lines, "}", ""])

    def _arguments(self) -> None:
        code, given = self.code, self.given
        for number, name in enumerate(_ARGUMENTS):
            kind = "ptr" if name in _POINTERS else "i64"
            place = code.let(f"getelementptr i64, ptr %arguments, i64 {number}")
            given[name] = code.let(f"load {kind}, ptr {place}")
        given["panels"] = code.let(f"sdiv i64 {given['m']}, {self.width}")
        given["panel"] = code.let(f"mul i64 {given['k']}, {self.width}")
        weights = code.let(f"mul i64 {given['panel']}, {given['panels']}")
        mine = code.let(f"mul i64 {weights}, %thread")
        given["pack"] = code.at(given["pack"], mine)

    def _share(self) -> tuple[str, str]:
        """The rows of this thread: from, to."""
        code, n = self.code, self.given["n"]
        after = code.let("add i64 %thread, 1")
        edges = (code.let(f"mul i64 {n}, {t}") for t in ("%thread", after))
        start, end = (code.let(f"sdiv i64 {edge}, %threads") for edge in edges)
        return start, end

    def _least(self, a: str, b: str) -> str:
        return self.code.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def _moved(self, base: str, index: str, stride: str) -> str:
        """The address a number of strides on."""
        return self.code.at(base, self.code.let(f"mul i64 {index}, {stride}"))

    def _pack(self, panel: str) -> None:
        """Copy the weights of a panel's columns, those of one k side by side."""
        code, given, real = self.code, self.given, self.code.lanes.real
        to = self._moved(given["pack"], panel, given["panel"])
        first = code.let(f"mul i64 {panel}, {self.width}")
        columns = self._moved(given["w"], first, given["along"])
        with code.count(given["k"]) as k:
            source = self._moved(columns, k, given["across"])
            target = self._moved(to, k, str(self.width))
            for c in range(self.width):
                place = self._moved(source, str(c), given["along"])
                number = code.let(f"load {real}, ptr {place}")
                code.do(f"store {real} {number}, ptr {code.at(target, str(c))}")

    def _column(self, panel: str, first: str, last: str) -> None:
        """The columns of one panel in some rows."""
        code, given, most = self.code, self.given, str(self.size.rows)
        b = self._moved(given["pack"], panel, given["panel"])
        column = code.let(f"mul i64 {panel}, {self.width}")
        with code.count(last, first, most) as row:
            rows = self._least(code.let(f"sub i64 {last}, {row}"), most)
            a = self._moved(given["a"], row, given["lda"])
            out = code.at(self._moved(given["out"], row, given["ldo"]), column)
            code.do(
                f"call void @tile{self.size.vectors}(ptr {a}, i64 {given['lda']}, ptr {b}, "
                f"i64 {given['k']}, ptr {out}, i64 {given['ldo']}, i1 false, "
                f"i64 {rows})"
            )
