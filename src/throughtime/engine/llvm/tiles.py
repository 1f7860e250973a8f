"""How is a small block of a matrix product computed in registers?

Rows of `a` times one packed panel of `b`. Every number of the result is a single chain over k, in
rising order, whatever the size of the block: a row computed alone equals, bit for bit, the same
row computed with others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from throughtime.engine.llvm.ir import Code, Lanes

__all__ = ["Shape", "dispatch_text", "shape", "tile_text"]

_UNROLL = 4
_AHEAD = 1024  # bytes of b to ask for in advance; without, a panel from afar costs a tenth more
_LINE = 64  # bytes that come together
_ARM_SPARE = 5  # registers in which LLVM collects numbers of a
_MOST_ROWS = 8  # each has its address in a register
_SUMS = 8  # independent ones, for two multiplications a cycle that take four cycles each


@dataclass(frozen=True)
class Shape:
    """The block of a product that a machine's registers hold.

    Attributes:
        vectors: How many vectors of columns.
        rows: How many rows, at most.
    """

    vectors: int
    rows: int


def shape(machine_bits: int, registers: int, groups: int, lanes: Lanes) -> Shape:
    """The fastest block for panels of a number of vectors.

    Args:
        machine_bits: The width of the machine's vector registers.
        registers: How many vector registers there are.
        groups: How many vectors of columns a panel has in total.
        lanes: The vectors in use; more than one register each when wider than the machine's.

    Returns:
        A shape whose `vectors` divide `groups`.
    """
    each = max(1, lanes.count * lanes.bytes * 8 // machine_bits)
    arm = machine_bits == 128 and registers > 16
    room = registers - _ARM_SPARE if arm else registers
    sizes = [
        Shape(vectors, rows)
        for vectors in range(1, groups + 1)
        for rows in range(1, _MOST_ROWS + 1)
        if groups % vectors == 0 and _held(rows, vectors) * each <= room
    ]
    return min(sizes, key=_cost, default=Shape(1, 1))


def _held(rows: int, vectors: int) -> int:
    """The registers of a block: its sums, the shorter side, and one for the longer side."""
    return rows * vectors + min(rows, vectors) + 1


def _cost(size: Shape) -> float:
    """Roughly the cycles of a multiplication: two a cycle at best, as many loads, and latency.

    A panel seldom stays in the nearest cache, so what is read of it for each row counts again; and
    the more sums, the less a late number holds up. The weights agree with what was measured.
    """
    sums = size.rows * size.vectors
    loads = (size.rows + size.vectors) / (2 * sums)
    return max(0.5, loads, _SUMS / (2 * sums)) + 0.25 / size.rows + 0.7 / sums


def tile_text(lanes: Lanes, rows: int, vectors: int) -> str:
    """The function `@tile_{rows}x{vectors}`, which computes one block.

    `void (ptr a, i64 lda, ptr b, i64 k, ptr out, i64 ldo, i1 more)`: out[r, c] = sum over k of
    a[r * lda + k] b[k * vectors * lanes + c], added to what `out` holds where `more` is set.
    Strides count numbers. k may be 0.

    Args:
        lanes: The vector type.
        rows: How many rows the block has.
        vectors: How many vectors of columns.

    Returns:
        The text of the function.
    """
    head = f"@tile_{rows}x{vectors}(ptr %a, i64 %lda, ptr %b, i64 %k, ptr %out, i64 %ldo, i1 %more)"
    return _Block(Code(lanes), rows, vectors).text(head)


def dispatch_text(lanes: Lanes, shape: Shape) -> str:
    """The function `@tile{vectors}`, which picks the tile of a number of rows, and those tiles.

    `void (ptr a, i64 lda, ptr b, i64 k, ptr out, i64 ldo, i1 more, i64 rows)`, for 0 to
    `shape.rows` rows.

    Args:
        lanes: The vector type.
        shape: The largest tile.

    Returns:
        The text of all these functions.
    """
    sizes = range(1, shape.rows + 1)
    name = f"tile_{{}}x{shape.vectors}"
    given = "ptr %a, i64 %lda, ptr %b, i64 %k, ptr %out, i64 %ldo, i1 %more"
    lines = [f"define internal void @tile{shape.vectors}({given}, i64 %rows) nounwind {{", "entry:"]
    cases = " ".join(f"i64 {m}, label %rows{m}" for m in sizes)
    lines.append(f"  switch i64 %rows, label %done [ {cases} ]")
    for m in sizes:
        lines += [f"rows{m}:", f"  call void @{name.format(m)}({given})", "  br label %done"]
    lines += ["done:", "  ret void", "}", ""]
    return "".join(tile_text(lanes, m, shape.vectors) for m in sizes) + "\n".join(lines)


@dataclass
class _Block:
    """The writer of one function: sums in registers, k unrolled, loops with their test below.

    Attributes:
        code: The function's lines.
        rows: How many rows the block has.
        vectors: How many vectors of columns a panel has.
        a: The address of each row.
    """

    code: Code
    rows: int
    vectors: int
    a: list[str] = field(default_factory=list)

    def text(self, head: str) -> str:
        """The whole function."""
        code = self.code
        code.label("entry")
        self.a = self._spaced("%a", "%lda", self.rows)
        cells = self._cells(self._spaced("%out", "%ldo", self.rows))
        sums = self._start(cells)
        whole = code.let(f"and i64 %k, {-_UNROLL}")
        sums = self._loop("many", ("0", whole, _UNROLL), sums)
        sums = self._loop("few", (whole, "%k", 1), sums)
        for cell, value in zip(cells, sums, strict=True):
            code.store(value, cell)
        code.do("ret void")
        return "\n".join([f"define internal void {head} nounwind {{", *code.lines, "}", ""])

    def _spaced(self, base: str, stride: str, count: int) -> list[str]:
        """Addresses from a base, a stride apart."""
        far = [self.code.let(f"mul i64 {stride}, {n}") for n in range(1, count)]
        return [base, *(self.code.at(base, offset) for offset in far)]

    def _cells(self, rows: Sequence[str]) -> list[str]:
        """The address of each vector of the result."""
        count = self.code.lanes.count
        columns = range(0, self.vectors * count, count)
        return [self.code.at(row, str(c)) for row in rows for c in columns]

    def _start(self, cells: Sequence[str]) -> list[str]:
        """What the sums start from: `out` or zero."""
        code = self.code
        code.do("br i1 %more, label %held, label %start")
        code.label("held")
        held = [code.load(cell) for cell in cells]
        code.do("br label %start")
        code.label("start")
        return self._join("entry", ["zeroinitializer"] * len(held), "held", held)

    def _join(self, one: str, first: list[str], other: str, second: list[str]) -> list[str]:
        """The sums where two ways meet."""
        pairs, kind = zip(first, second, strict=True), self.code.lanes.type
        return [self.code.let(f"phi {kind} [ {x}, %{one} ], [ {y}, %{other} ]") for x, y in pairs]

    def _loop(self, name: str, span: tuple[str, str, int], before: list[str]) -> list[str]:
        """A loop over k from start to stop by a step; the sums after it."""
        code, came, (start, stop, step) = self.code, self.code.block, span
        some = code.let(f"icmp slt i64 {start}, {stop}")
        code.do(f"br i1 {some}, label %{name}, label %{name}.end")
        code.label(name)
        code.do(f"%{name}.k = phi i64 [ {start}, %{came} ], [ %{name}.next, %{name} ]")
        place, held = len(code.lines), [f"%{name}.{n}" for n in range(len(before))]
        after = held
        for k in range(step):
            self._ask(f"%{name}.k", k, step)
            after = self._turn(code.let(f"add i64 %{name}.k, {k}"), after)
        code.lines[place:place] = [
            f"  {s} = phi {code.lanes.type} [ {x}, %{came} ], [ {y}, %{name} ]"
            for s, x, y in zip(held, before, after, strict=True)
        ]
        code.do(f"%{name}.next = add i64 %{name}.k, {step}")
        more = code.let(f"icmp slt i64 %{name}.next, {stop}")
        code.do(f"br i1 {more}, label %{name}, label %{name}.end")
        code.label(f"{name}.end")
        return self._join(came, before, name, after)

    def _ask(self, base: str, k: int, step: int) -> None:
        """Ask for what b holds a little further on, each line of memory once."""
        code, turn = self.code, self.vectors * self.code.lanes.count * self.code.lanes.bytes
        lines = [n for n in range(k * turn, (k + 1) * turn) if n % _LINE == 0]
        if step == 1 or not lines:
            return
        here = code.let(f"mul i64 {base}, {turn}")
        for n in lines:
            far = code.let(f"add i64 {here}, {n + _AHEAD}")
            place = code.let(f"getelementptr i8, ptr %b, i64 {far}")
            code.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def _turn(self, k: str, sums: Sequence[str]) -> list[str]:
        """The sums after one more k.

        The shorter side is held in registers and the longer one streams through a single register:
        in the other order LLVM runs out of registers.
        """
        code, count = self.code, self.code.lanes.count
        offset = code.let(f"mul i64 {k}, {self.vectors * count}")
        panel = code.at("%b", offset)
        columns = [code.at(panel, str(v * count)) for v in range(self.vectors)]
        rows = [code.at(a, k) for a in self.a]
        out, spread_held = list(sums), len(rows) < len(columns)
        held = [code.spread(r) for r in rows] if spread_held else [code.load(c) for c in columns]
        for s, source in enumerate(columns if spread_held else rows):
            one = code.load(source) if spread_held else code.spread(source)
            for h, other in enumerate(held):
                n = h * len(columns) + s if spread_held else s * len(columns) + h
                out[n] = code.fma(one, other, out[n])
        return out
