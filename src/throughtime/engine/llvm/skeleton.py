"""How does a step become a kernel over a whole sequence?

One function goes through time, and at each step through the stages. Two ways to share the work:
by rows, where no thread waits for another, and by units, where all wait for each other before each
product, since it reads what all have written. A recurrence without products or sums has neither
need nor use for that order: its rows and units run through time one block after another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from throughtime.declare.graph import walk
from throughtime.engine.llvm.frame import BATCH, FLAGS, MODE, STEPS, Frame
from throughtime.engine.llvm.ir import Code
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.machine import Machine
from throughtime.engine.llvm.pointwise import Block, pointwise_text
from throughtime.engine.llvm.schedule import Pass, Schedule, Stage
from throughtime.engine.llvm.team import barrier_text
from throughtime.engine.llvm.tiles import Shape, shape

__all__ = ["Kernel", "kernel"]

PAD = 16  # numbers: rows begin on a cache line's border in float32
_TILE = "ptr, i64, ptr, i64, ptr, i64, i1, i64"  # what a tile is given
_ROWS = 8  # of a block of a stage without products
_CHUNK = 64  # units of a block of a recurrence without products


@dataclass(frozen=True)
class Tiling:
    """How the products of a stage are cut.

    Attributes:
        units: How many units a panel has.
        shapes: The block of each pass.
        rows: The most rows of a block.
    """

    units: int
    shapes: tuple[Shape, ...]
    rows: int


@dataclass(frozen=True)
class Kernel:
    """The text of a kernel, and what a call must know to give it its arguments.

    Attributes:
        text: In LLVM's language.
        frame: The order of the arguments.
        schedule: The stages.
        tilings: For each stage with products, by its number, how they are cut.
        by_units: Whether threads may share the units of a row.
        granule: Units are shared in multiples of this.
    """

    text: str
    frame: Frame
    schedule: Schedule
    tilings: dict[int, Tiling]
    by_units: bool
    granule: int

    def passes(self) -> Iterator[tuple[int, Stage, Tiling, Pass, Shape]]:
        """Every pass, in the order of its arguments."""
        number = 0
        for i, stage in enumerate(self.schedule.stages):
            shapes = self.tilings[i].shapes if stage.passes else ()
            for p, s in zip(stage.passes, shapes, strict=True):
                yield number, stage, self.tilings[i], p, s
                number += 1


def kernel(schedule: Schedule, machine: Machine, real: str) -> Kernel:
    """Write the kernel of a step.

    Args:
        schedule: The step.
        machine: What it runs on.
        real: "float" or "double".
    """
    frame = _frame(schedule, machine, real)
    tilings = {
        i: _tiling(stage, machine, frame) for i, stage in enumerate(schedule.stages) if stage.passes
    }
    writer = _Skeleton(schedule, frame, tilings, machine)
    text = writer.text()
    return Kernel(text, frame, schedule, tilings, writer.by_units, writer.granule)


def _frame(schedule: Schedule, machine: Machine, real: str) -> Frame:
    """The arguments: every place that a stage touches."""
    frame = Frame(machine.lanes("float" if real == "float" else "double"))
    for stage in schedule.stages:
        frame.add_widths([stage.width])
        kept = [r.value for r in stage.roots] + [s.args[0] for s in stage.sums]
        for n in stage.loaded:
            frame.add(schedule.places[n], n.width)
        for n in walk(kept, stop={*stage.loaded, *stage.products}.__contains__):
            if n.op == "at":
                frame.add(n.data, n.width)
        for root in stage.roots:
            frame.add(root.place, root.width)
        for n in stage.sums:
            frame.add(schedule.places[n], 1)
            frame.add(("partial", *schedule.places[n]), 1)
        frame.passes += len(stage.passes)
    for stage in schedule.stages:  # what products alone read, too
        for n in stage.products:
            for arg, matrix in zip(n.args, n.data, strict=True):
                frame.add(schedule.read_place(arg, matrix), arg.width)
    return frame


def _tiling(stage: Stage, machine: Machine, frame: Frame) -> Tiling:
    """Panels of 16 units, more where a pass has few columns: a tile wants some vectors."""
    lanes = frame.lanes
    fewest = min(len(p.matrices) for p in stage.passes)
    units = PAD
    while stage.width != 1 and fewest * units < 4 * lanes.count and units < 4 * PAD:
        units *= 2
    if stage.width == 1:  # one unit a column: all columns lie in one panel
        groups = [-(-len(stage.products) // lanes.count)] * len(stage.passes)
        units = 1
    else:
        groups = [len(p.matrices) * units // lanes.count for p in stage.passes]
    shapes = tuple(shape(machine.bits, machine.registers, g, lanes) for g in groups)
    return Tiling(units, shapes, min(s.rows for s in shapes))


class _Skeleton:
    """The writer of one kernel."""

    def __init__(
        self, schedule: Schedule, frame: Frame, tilings: dict[int, Tiling], machine: Machine
    ) -> None:
        self.schedule, self.frame, self.tilings, self.machine = schedule, frame, tilings, machine
        self.code = Code(frame.lanes)
        self.stages = list(enumerate(schedule.stages))
        summed = any(stage.sums for _, stage in self.stages)
        single = any(stage.width == 1 for _, stage in self.stages)
        self.is_scan = not tilings and not summed and len(frame.widths) == 1 and not single
        self.by_units = not summed and not single
        self.granule = max((t.units for t in tilings.values()), default=PAD)
        self.most = max((t.rows for t in tilings.values()), default=_ROWS)

    def text(self) -> str:
        """The whole module: tiles, stages, the function over time."""
        vectors = sorted({s.vectors for t in self.tilings.values() for s in t.shapes})
        parts = [f"declare void @tile{v}({_TILE})" for v in vectors]
        parts += [barrier_text(self.machine)] if self.tilings else []
        for i, stage in self.stages:
            block = self._block(i, stage)
            parts.append(pointwise_text(f"stage{i}", stage, self.schedule, self.frame, block))
        self._function()
        head = "define void @kernel(ptr %args, i64 %thread, i64 %threads) nounwind {"
        return "\n".join([*parts, head, *self.code.lines, "}", ""])

    def _block(self, i: int, stage: Stage) -> Block:
        """How the scratch of a stage is laid out: a row holds all columns of its panel."""
        if i not in self.tilings:
            return Block(0, 0)
        tiling = self.tilings[i]
        columns = len(stage.products) * tiling.units
        count = self.frame.lanes.count
        return Block(tiling.units, -(-columns // count) * count)

    def _function(self) -> None:
        code = self.code
        code.label("entry")
        size = max((self._block(i, s).stride for i, s in self.stages), default=0) * self.most
        code.do(f"%scratch = alloca [{max(size, 1)} x {code.lanes.real}], align 64")
        self._flush_denormals()
        self.steps, self.mode = self._argument(STEPS), self._argument(MODE)
        self.shared = code.let(f"icmp ne i64 {self.mode}, 0")
        self.first, self.last = self._share(self._argument(BATCH), by_units=False)
        self.units = {w: self._units(w) for w in self.frame.widths if w != 1}
        if self.is_scan:
            self._scan()
        else:
            with code.count(self.steps) as step:
                self._step(step)
        self._restore_denormals()
        code.do("ret void")

    def _argument(self, number: int) -> str:
        address = self.code.let(f"getelementptr i64, ptr %args, i64 {number}")
        return self.code.let(f"load i64, ptr {address}")

    def _share(self, whole: str, *, by_units: bool) -> tuple[str, str]:
        """This thread's part of something, the whole of it if it is not what is shared."""
        code = self.code
        next_thread = code.let("add i64 %thread, 1")
        low = code.let(f"udiv i64 {code.let(f'mul i64 {whole}, %thread')}, %threads")
        high = code.let(f"udiv i64 {code.let(f'mul i64 {whole}, {next_thread}')}, %threads")
        mine, all_of_it = ("0", whole), (low, high)
        if by_units:
            mine, all_of_it = all_of_it, mine
        first = code.let(f"select i1 {self.shared}, i64 {mine[0]}, i64 {all_of_it[0]}")
        last = code.let(f"select i1 {self.shared}, i64 {mine[1]}, i64 {all_of_it[1]}")
        return first, last

    def _units(self, width: object) -> tuple[str, str]:
        """This thread's units of a width, whole granules but for the last."""
        code, slot = self.code, self.frame.width_slot(width)  # type: ignore[arg-type]
        padded = self._argument(slot + 1)
        up = code.let(f"add i64 {padded}, {self.granule - 1}")
        granules = code.let(f"udiv i64 {up}, {self.granule}")
        low, high = self._share(granules, by_units=True)
        first = code.let(f"mul i64 {low}, {self.granule}")
        last = code.let(f"mul i64 {high}, {self.granule}")
        return first, self._least(last, padded)

    def _least(self, a: str, b: str) -> str:
        below = self.code.let(f"icmp slt i64 {a}, {b}")
        return self.code.let(f"select i1 {below}, i64 {a}, i64 {b}")

    def _scan(self) -> None:
        """Blocks of rows and units, each through all of time."""
        code = self.code
        ((width, _),) = self.frame.widths.items()
        first, last = self.units[width]
        with code.count(last, first, str(_CHUNK)) as unit:
            left = code.let(f"sub i64 {last}, {unit}")
            vectors = code.let(f"udiv i64 {self._least(left, str(_CHUNK))}, {code.lanes.count}")
            with self._blocks(_ROWS) as (row, rows), code.count(self.steps) as step:
                for i, _ in self.stages:
                    self._call(i, step, row, rows, unit, vectors)

    def _step(self, step: str) -> None:
        waits = sum(bool(stage.passes) for _, stage in self.stages)
        met = passed = 0
        for i, stage in self.stages:
            if stage.passes:
                if self.by_units:
                    self._wait(step, waits, met)
                met += 1
                self._products(i, stage, step, passed)
                passed += len(stage.passes)
            else:
                self._pointwise(i, stage, step)
            for n in stage.sums:
                self._finish(self.schedule.places[n], step)

    def _wait(self, step: str, waits: int, met: int) -> None:
        """Wait for the other threads where they share the units of a row."""
        code, name = self.code, self.code.fresh("wait")
        code.do(f"br i1 {self.shared}, label %{name}, label %{name}.end")
        code.label(name)
        before = code.let(f"mul i64 {step}, {waits}")
        value = code.let(f"add i64 {before}, {met + 1}")
        flags = self._pointer(FLAGS)
        code.do(f"call void @barrier(ptr {flags}, i64 %thread, i64 %threads, i64 {value})")
        code.do(f"br label %{name}.end")
        code.label(f"{name}.end")

    def _pointer(self, slot: int) -> str:
        return self.code.let(f"inttoptr i64 {self._argument(slot)} to ptr")

    @contextmanager
    def _blocks(self, most: int) -> Iterator[tuple[str, str]]:
        """This thread's rows in blocks of nearly equal size: first row, number of rows."""
        code = self.code
        count = code.let(f"sub i64 {self.last}, {self.first}")
        up = code.let(f"add i64 {count}, {most - 1}")
        blocks = code.let(f"udiv i64 {up}, {most}")
        with code.count(blocks) as block:
            after = code.let(f"add i64 {block}, 1")
            low = code.let(f"udiv i64 {code.let(f'mul i64 {count}, {block}')}, {blocks}")
            high = code.let(f"udiv i64 {code.let(f'mul i64 {count}, {after}')}, {blocks}")
            rows = code.let(f"sub i64 {high}, {low}")
            yield code.let(f"add i64 {self.first}, {low}"), rows

    def _call(self, i: int, step: str, row: str, rows: str, unit: str, vectors: str) -> None:
        self.code.do(
            f"call void @stage{i}(ptr %args, i64 {step}, i64 {row}, i64 {rows}, "
            f"i64 {unit}, i64 {vectors}, ptr %scratch)"
        )

    def _pointwise(self, i: int, stage: Stage, step: str) -> None:
        """A stage without products: all of this thread's units at once."""
        first, vectors = "0", "1"
        if stage.width != 1:
            first, last = self.units[stage.width]
            count = self.code.let(f"sub i64 {last}, {first}")
            vectors = self.code.let(f"sdiv i64 {count}, {self.code.lanes.count}")
        with self._blocks(_ROWS) as (row, rows):
            self._call(i, step, row, rows, first, vectors)

    def _products(self, i: int, stage: Stage, step: str, passed: int) -> None:
        """A stage with products: panel by panel, so that its weights stay in the cache."""
        code, tiling = self.code, self.tilings[i]
        if stage.width == 1:
            with self._blocks(tiling.rows) as (row, rows):
                self._tiles(i, stage, step, (row, rows), "0", passed)
                self._call(i, step, row, rows, "0", "1")
            return
        first, last = self.units[stage.width]
        with code.count(last, first, str(tiling.units)) as unit:
            left = code.let(f"sub i64 {last}, {unit}")
            inside = self._least(left, str(tiling.units))
            vectors = code.let(f"udiv i64 {inside}, {code.lanes.count}")
            panel = code.let(f"udiv i64 {unit}, {tiling.units}")
            with self._blocks(tiling.rows) as (row, rows):
                self._tiles(i, stage, step, (row, rows), panel, passed)
                self._call(i, step, row, rows, unit, vectors)

    def _tiles(
        self, i: int, stage: Stage, step: str, block: tuple[str, str], panel: str, passed: int
    ) -> None:
        """All products of a block of rows and a panel, into the scratch."""
        code, tiling, stride = self.code, self.tilings[i], self._block(i, stage).stride
        row, rows = block
        for number, (p, s) in enumerate(zip(stage.passes, tiling.shapes, strict=True)):
            slot = self.frame.pass_slot(passed + number)
            weights, k = self._pointer(slot), self._argument(slot + 1)
            reads, apart = self._argument(slot + 2), self._argument(slot + 3)
            read, lda = self._read(p.reads[0], step, row)
            wide = s.vectors * code.lanes.count
            columns = stride if stage.width == 1 else len(p.matrices) * tiling.units
            tile = code.let(f"mul i64 {k}, {wide}")
            several = code.let(f"mul i64 {tile}, {columns // wide}")
            whole = code.let(f"mul i64 {several}, {reads}")
            start = code.let(f"mul i64 {whole}, {panel}")
            start = code.at(weights, start)
            with code.count(reads) as part:
                a = code.at(read, code.let(f"mul i64 {part}, {apart}"))
                b = code.at(start, code.let(f"mul i64 {part}, {several}"))
                begun = code.let(f"icmp ne i64 {part}, 0") if not p.more else "true"
                for c in range(columns // wide):
                    panel_of = code.at(b, code.let(f"mul i64 {tile}, {c}"))
                    out = code.at(
                        "%scratch", str(p.column * tiling.units * (stage.width != 1) + c * wide)
                    )
                    code.do(
                        f"call void @tile{s.vectors}(ptr {a}, i64 {lda}, ptr {panel_of}, i64 {k}, "
                        f"ptr {out}, i64 {stride}, i1 {begun}, i64 {rows})"
                    )

    def _read(self, place: Place, step: str, row: str) -> tuple[str, str]:
        """Where a product's rows begin, and how far apart they are."""
        code, slot = self.code, self.frame.slot(place)
        base, far, down = self._pointer(slot), self._argument(slot + 1), self._argument(slot + 2)
        offset = code.let(
            f"add i64 {code.let(f'mul i64 {far}, {step}')}, {code.let(f'mul i64 {down}, {row}')}"
        )
        return code.at(base, offset), down

    def _finish(self, place: Place, step: str) -> None:
        """Add up the lanes of each row's partial sums."""
        code, lanes = self.code, self.code.lanes
        with code.count(self.last, self.first) as row:
            partial, _ = self._read(("partial", *place), "0", row)
            out, _ = self._read(place, step, row)
            value = code.load(partial)
            name = f"llvm.vector.reduce.fadd.{lanes.suffix}"
            zero = f"{lanes.real} {lanes.number(-0.0)}"
            total = code.let(f"call {lanes.real} @{name}({zero}, {lanes.type} {value})")
            code.do(f"store {lanes.real} {total}, ptr {out}")

    def _flush_denormals(self) -> None:
        """Numbers too small for full precision count as zero: some processors are slow at them."""
        if self.machine.arm:
            return
        code = self.code
        code.do("%control = alloca [2 x i32], align 8")
        code.do("call void @llvm.x86.sse.stmxcsr(ptr %control)")
        before = code.let("load i32, ptr %control")
        flushed = code.let(f"or i32 {before}, 32832")  # flush to zero, denormals are zero
        place = code.let("getelementptr i32, ptr %control, i64 1")
        code.do(f"store i32 {flushed}, ptr {place}")
        code.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {place})")

    def _restore_denormals(self) -> None:
        if not self.machine.arm:
            self.code.do("call void @llvm.x86.sse.ldmxcsr(ptr %control)")
