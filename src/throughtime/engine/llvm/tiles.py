"""How is a small block of a matrix product computed in registers?

Rows of `a` times one packed panel of `b`. Every number of the result is a single chain over k, in
rising order, whatever the size of the block: a row computed alone equals, bit for bit, the same
row computed with others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from throughtime.engine.llvm.ir import Code, Lanes

__all__ = ["Shape", "dispatch_text", "shape", "take_text", "tile_text", "wide_text"]

_UNROLL = 4


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
    """The block for panels of a number of vectors.

    Args:
        machine_bits: The width of the machine's vector registers.
        registers: How many vector registers there are.
        groups: How many vectors of columns a panel has in total.
        lanes: The vectors in use; more than one register each when wider than the machine's.

    Returns:
        A shape whose `vectors` divide `groups`.
    """
    each = max(1, lanes.count * lanes.bytes * 8 // machine_bits)
    room = (registers - registers // 4) // each  # accumulators; the rest holds a and b
    best = Shape(1, 1)
    for vectors in (v for v in range(1, groups + 1) if groups % v == 0):
        rows = min(room // vectors, 8)
        if rows * vectors > best.rows * best.vectors:
            best = Shape(vectors, rows)
    return best


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
    return _Block(Code(lanes), rows, vectors, 1).text(head)


def wide_text(lanes: Lanes, rows: int, vectors: int, streams: int) -> str:
    """The function `@wide_{rows}x{vectors}x{streams}`: few rows, several panels at once.

    `void (ptr a, i64 lda, ptr b, i64 k, i64 bstride, ptr out, i64 ldo, i1 more)`: the same as one
    tile for each panel at b + s * bstride, whose columns go to out + s * vectors * lanes. One or
    two rows of one panel are too few sums to hide how long each multiplication takes.

    Args:
        lanes: The vector type.
        rows: How many rows the block has.
        vectors: How many vectors of columns a panel has.
        streams: How many panels.

    Returns:
        The text of the function.
    """
    head = (
        f"@wide_{rows}x{vectors}x{streams}(ptr %a, i64 %lda, ptr %b, i64 %k, i64 %bstride, "
        "ptr %out, i64 %ldo, i1 %more)"
    )
    return _Block(Code(lanes), rows, vectors, streams).text(head)


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


def take_text(most: int) -> str:
    """The function `@take{most}`: how many of the rows that are left the next block takes.

    `i64 (i64 left)`: as few blocks of at most `most` rows as can be, of nearly equal size, the
    larger ones first: 16 rows are 6, 5 and 5, for a block of 1 row would cost as much as one of 4.

    Args:
        most: The largest block.

    Returns:
        The text of the function.
    """
    return f"""define internal i64 @take{most}(i64 %left) nounwind {{
  %up = add i64 %left, {most - 1}
  %blocks = udiv i64 %up, {most}
  %some = call i64 @llvm.umax.i64(i64 %blocks, i64 1)
  %less = sub i64 %some, 1
  %sum = add i64 %left, %less
  %take = udiv i64 %sum, %some
  ret i64 %take
}}
"""


@dataclass
class _Block:
    """The writer of one function: accumulators in registers, k unrolled, loops with tests below."""

    code: Code
    rows: int
    vectors: int
    streams: int

    def text(self, head: str) -> str:
        """The whole function."""
        self.code.label("entry")
        a = [self._row("%a", "%lda", r) for r in range(self.rows)]
        out = [self._row("%out", "%ldo", r) for r in range(self.rows)]
        b = [self._row("%b", "%bstride", s) for s in range(self.streams)]
        start = self._start(out)
        end = self._sums(a, b, start)
        for cell, value in zip(self._cells(out), end, strict=True):
            self.code.store(value, cell)
        self.code.do("ret void")
        return "\n".join([f"define internal void {head} nounwind {{", *self.code.lines, "}", ""])

    def _row(self, base: str, stride: str, number: int) -> str:
        if number == 0:
            return base
        return self.code.at(base, self.code.let(f"mul i64 {stride}, {number}"))

    def _cells(self, out: Sequence[str]) -> list[str]:
        """The address of each accumulator."""
        count = self.code.lanes.count
        columns = range(0, self.streams * self.vectors * count, count)
        return [self.code.at(row, str(c)) for row in out for c in columns]

    def _start(self, out: Sequence[str]) -> list[str]:
        """What the accumulators start from."""
        code = self.code
        code.do("br i1 %more, label %held, label %start")
        code.label("held")
        held = [code.load(cell) for cell in self._cells(out)]
        code.do("br label %start")
        code.label("start")
        return self._join([("held", held), ("entry", ["zeroinitializer"] * len(held))])

    def _join(self, ways: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
        """One value for each accumulator, from the block that was left last."""
        kind = self.code.lanes.type
        return [
            self.code.let(
                f"phi {kind} "
                + ", ".join(f"[ {v}, %{block} ]" for v, (block, _) in zip(each, ways, strict=True))
            )
            for each in zip(*(values for _, values in ways), strict=True)
        ]

    def _sums(self, a: Sequence[str], b: Sequence[str], start: list[str]) -> list[str]:
        """The loops over k: four at a time, then one at a time."""
        code = self.code
        whole = code.let(f"and i64 %k, {-_UNROLL}")
        many = self._loop("many", _UNROLL, ("0", whole), (a, b), ("start", start))
        return self._loop("few", 1, (whole, "%k"), (a, b), ("many.end", many))

    def _loop(
        self,
        name: str,
        step: int,
        span: tuple[str, str],
        operands: tuple[Sequence[str], Sequence[str]],
        given: tuple[str, list[str]],
    ) -> list[str]:
        """One loop over k, left with the accumulators' values at block `name`.end."""
        code, (source, before) = self.code, given
        some = code.let(f"icmp slt i64 {span[0]}, {span[1]}")
        code.do(f"br i1 {some}, label %{name}, label %{name}.end")
        code.label(name)
        code.do(f"%{name}.i = phi i64 [ {span[0]}, %{source} ], [ %{name}.next, %{name} ]")
        place, sums = len(code.lines), [f"%{name}.{n}" for n in range(len(before))]
        after = sums
        for k in range(step):
            index = code.let(f"add i64 %{name}.i, {k}")
            after = self._multiply(operands, index, after)
        kind = code.lanes.type
        code.lines[place:place] = [
            f"  {s} = phi {kind} [ {x}, %{source} ], [ {y}, %{name} ]"
            for s, x, y in zip(sums, before, after, strict=True)
        ]
        code.do(f"%{name}.next = add i64 %{name}.i, {step}")
        more = code.let(f"icmp slt i64 %{name}.next, {span[1]}")
        code.do(f"br i1 {more}, label %{name}, label %{name}.end")
        code.label(f"{name}.end")
        return self._join([(source, before), (name, after)])

    def _multiply(
        self, operands: tuple[Sequence[str], Sequence[str]], k: str, sums: Sequence[str]
    ) -> list[str]:
        """The accumulators after one k."""
        code, width = self.code, self.vectors * self.code.lanes.count
        offset = code.let(f"mul i64 {k}, {width}")
        panels = [code.at(b, offset) for b in operands[1]]
        columns = [
            code.load(code.at(panel, str(v * code.lanes.count)))
            for panel in panels
            for v in range(self.vectors)
        ]
        spread = [code.spread(code.at(a, k)) for a in operands[0]]
        pairs = [(x, y) for x in spread for y in columns]
        return [code.fma(x, y, s) for (x, y), s in zip(pairs, sums, strict=True)]
