"""What does a stage compute from its products? A function over a block of rows and units.

It loads what it reads, computes in registers, and stores what is kept. A value of width 1 is one
number a row, spread over the lanes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from throughtime.declare.graph import Node, walk
from throughtime.engine.llvm.elementary import FUNCTIONS
from throughtime.engine.llvm.frame import Frame
from throughtime.engine.llvm.ir import Code
from throughtime.engine.llvm.lowering import Place
from throughtime.engine.llvm.schedule import Schedule, Stage

__all__ = ["pointwise_text"]

_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


@dataclass(frozen=True)
class Block:
    """How a stage's products lie in the scratch: `units` numbers a column, `stride` a row."""

    units: int
    stride: int


def pointwise_text(name: str, stage: Stage, schedule: Schedule, frame: Frame, block: Block) -> str:
    """Write a stage's function.

    Args:
        name: Of the function.
        stage: What it computes.
        schedule: Where the values of other stages lie.
        frame: Where addresses and strides stand among the arguments.
        block: How the scratch is laid out.
    """
    code = Code(frame.lanes)
    writer = _Writer(code, stage, schedule, frame, block)
    writer.write()
    head = (
        f"define internal void @{name}(ptr %args, i64 %step, i64 %row, i64 %rows, "
        "i64 %unit, i64 %vectors, ptr %scratch) {"
    )
    return "\n".join([head, "entry:", *code.lines, "  ret void", "}"])


class _Writer:
    def __init__(
        self, code: Code, stage: Stage, schedule: Schedule, frame: Frame, block: Block
    ) -> None:
        self.code, self.stage, self.frame, self.block = code, stage, frame, block
        self.places = schedule.places
        self.column = {n: i for i, n in enumerate(stage.products)}
        self.base: dict[Place, tuple[str, str]] = {}
        self.value: dict[Node, str] = {}
        self.single = stage.width == 1

    def write(self) -> None:
        """The loops around the operations: over vectors, and over rows within."""
        stage, code = self.stage, self.code
        kept = [r.value for r in stage.roots] + [s.args[0] for s in stage.sums]
        order = list(walk(kept, stop=self._is_given))
        sources = {n: self._source(n) for n in order}
        for place in (*sources.values(), *(r.place for r in stage.roots)):
            if place is not None:
                self._open(place)
        for n in stage.sums:
            self._open(("partial", *self.places[n]))
        with code.count("%vectors") as v:
            offset = code.let(f"mul i64 {v}, {code.lanes.count}")
            for n, place in sources.items():
                if place and self.frame.is_constant(place):
                    self.value[n] = self._load(place, "0", offset)
            with code.count("%rows") as r:
                constant = dict(self.value)
                self._row(order, sources, r, offset)
                self.value = constant

    def _row(
        self, order: list[Node], sources: Mapping[Node, Place | None], r: str, offset: str
    ) -> None:
        for n in order:
            place = sources[n]
            if n in self.value:
                continue
            if n in self.column and place is None:
                self.value[n] = self._product(n, r, offset)
            elif place is not None:
                self.value[n] = self._load(place, r, offset)
            elif n.op == "constant":
                self.value[n] = self.code.lanes.splat(n.data[0])
            else:
                self.value[n] = _operation(self.code, n, [self.value[a] for a in n.args])
        for root in self.stage.roots:
            self._store(root.place, self.value[root.value], r, offset, adds=root.adds)
        for n in self.stage.sums:
            self._add_up(("partial", *self.places[n]), self.value[n.args[0]], r, offset)

    def _is_given(self, n: Node) -> bool:
        """Whether a value is loaded, from the scratch or from its place."""
        return n in self.column or self._source(n) is not None

    def _source(self, n: Node) -> Place | None:
        """The place that a value is loaded from; None if it is computed here."""
        if n.op == "at":
            return n.data
        if n in self.column or n.op == "constant":
            return None
        return self.places[n] if n in self.stage.loaded else None

    def _open(self, place: Place) -> None:
        """Work out where a place's row and unit begin."""
        if place in self.base:
            return
        code, slot = self.code, self.frame.slot(place)
        base, step, row = (code.let(f"load i64, ptr {self._slot(slot + i)}") for i in range(3))
        pointer = code.let(f"inttoptr i64 {base} to ptr")
        far = code.let(f"mul i64 {step}, %step")
        down = code.let(f"mul i64 {row}, %row")
        offset = code.let(f"add i64 {far}, {down}")
        if self.frame.is_wide(place):
            offset = code.let(f"add i64 {offset}, %unit")
        self.base[place] = code.at(pointer, offset), row

    def _slot(self, number: int) -> str:
        return self.code.let(f"getelementptr i64, ptr %args, i64 {number}")

    def _address(self, place: Place, r: str, offset: str) -> str:
        base, row = self.base[place]
        down = self.code.let(f"mul i64 {row}, {r}")
        if self.frame.is_wide(place):
            down = self.code.let(f"add i64 {down}, {offset}")
        return self.code.at(base, down)

    def _load(self, place: Place, r: str, offset: str) -> str:
        address = self._address(place, r, offset)
        return self.code.load(address) if self.frame.is_wide(place) else self.code.spread(address)

    def _store(self, place: Place, value: str, r: str, offset: str, *, adds: bool) -> None:
        code, address = self.code, self._address(place, r, offset)
        if adds:
            before = self._load(place, r, offset)
            value = code.op("fadd", before, value)
        if self.frame.is_wide(place):
            code.store(value, address)
        else:
            real = code.lanes.real
            one = code.let(f"extractelement {code.lanes.type} {value}, i64 0")
            code.do(f"store {real} {one}, ptr {address}")

    def _product(self, n: Node, r: str, offset: str) -> str:
        code, column = self.code, self.column[n] * self.block.units
        down = code.let(f"mul i64 {r}, {self.block.stride}")
        if self.single:
            place = code.let(f"add i64 {down}, {column}")
            return code.spread(code.at("%scratch", place))
        along = code.let(f"add i64 {offset}, {column}")
        return code.load(code.at("%scratch", code.let(f"add i64 {down}, {along}")))

    def _add_up(self, place: Place, value: str, r: str, offset: str) -> None:
        """Add a row's units to its partial sums, one a lane; those past its end count nothing."""
        code, lanes = self.code, self.code.lanes
        unit = code.let(f"add i64 %unit, {offset}")
        width = code.let(f"load i64, ptr {self._slot(self.frame.width_slot(self.stage.width))}")
        left = code.let(f"sub i64 {width}, {unit}")
        numbers = ", ".join(f"i64 {i}" for i in range(lanes.count))
        many = f"<{lanes.count} x i64>"
        one = code.let(f"insertelement {many} poison, i64 {left}, i64 0")
        all_left = code.let(
            f"shufflevector {many} {one}, {many} poison, <{lanes.count} x i32> zeroinitializer"
        )
        real = code.let(f"icmp slt {many} <{numbers}>, {all_left}")
        value = code.select(real, value, lanes.splat(0.0))
        base, row = self.base[place]
        address = code.at(base, code.let(f"mul i64 {row}, {r}"))
        first = code.let(f"icmp eq i64 {unit}, 0")
        before = code.load(address)
        kind = lanes.type
        before = code.let(f"select i1 {first}, {kind} {lanes.splat(0.0)}, {kind} {before}")
        code.store(code.op("fadd", before, value), address)


def _operation(code: Code, n: Node, args: list[str]) -> str:
    """One operation on vectors, as torch defines it."""
    if n.op in FUNCTIONS:
        return FUNCTIONS[n.op](code, args[0])
    if n.op in _ARITHMETIC:
        return code.op(_ARITHMETIC[n.op], *args)
    if n.op in _COMPARE:
        return code.compare(_COMPARE[n.op], *args)
    if n.op in {"expand", "row_sum"}:  # of a value of width 1, which is spread already
        return args[0]
    return _OTHERS[n.op](code, n, args)


def _neg(code: Code, _: Node, args: list[str]) -> str:
    return code.let(f"fneg {code.lanes.type} {args[0]}")


def _abs(code: Code, _: Node, args: list[str]) -> str:
    return code.call("fabs", args[0])


def _relu(code: Code, _: Node, args: list[str]) -> str:
    zero = code.lanes.splat(0.0)  # NaN is not below zero, and passes
    return code.select(code.compare("ole", args[0], zero), zero, args[0])


def _sign(code: Code, _: Node, args: list[str]) -> str:
    lanes = code.lanes
    zero, one, minus = (lanes.splat(v) for v in (0.0, 1.0, -1.0))
    negative = code.select(code.compare("olt", args[0], zero), minus, zero)
    return code.select(code.compare("ogt", args[0], zero), one, negative)


def _extreme(how: str) -> Callable[[Code, Node, list[str]], str]:
    def write(code: Code, _: Node, args: list[str]) -> str:
        a, b = args  # a NaN in either passes
        chosen = code.select(code.compare(how, a, b), a, b)
        return code.select(code.compare("uno", a, a), a, chosen)

    return write


def _where(code: Code, _: Node, args: list[str]) -> str:
    return code.select(*args)


def _clamp(code: Code, n: Node, args: list[str]) -> str:
    value, (low, high) = args[0], n.data
    if low is not None:
        bound = code.lanes.splat(low)
        value = code.select(code.compare("olt", value, bound), bound, value)
    if high is not None:
        bound = code.lanes.splat(high)
        value = code.select(code.compare("ogt", value, bound), bound, value)
    return value


def _pow(code: Code, n: Node, args: list[str]) -> str:
    exponent = abs(int(n.data[0]))
    power, result = args[0], code.lanes.splat(1.0)
    started = False
    while exponent:
        if exponent & 1:
            result = code.op("fmul", result, power) if started else power
            started = True
        exponent >>= 1
        if exponent:
            power = code.op("fmul", power, power)
    return result if n.data[0] >= 0 else code.op("fdiv", code.lanes.splat(1.0), result)


_OTHERS: dict[str, Callable[[Code, Node, list[str]], str]] = {
    "neg": _neg,
    "abs": _abs,
    "relu": _relu,
    "sign": _sign,
    "minimum": _extreme("olt"),
    "maximum": _extreme("ogt"),
    "where": _where,
    "clamp": _clamp,
    "pow": _pow,
}
