"""How are weights packed and first states laid out before a kernel runs? By one small kernel.

It goes through a list of tasks, twelve numbers each, so that the same code serves every cell:

    copy   rows of numbers from one place to another, or zeros where there is no source
    pack   a matrix [units, k] into the panels that the tiles read
    turn   a matrix [k, units] likewise
"""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from throughtime.engine.llvm.ir import Code, Lanes

__all__ = ["SIZE", "Panels", "Task", "setup_text"]

SIZE = 12
COPY, PACK, TURN = range(3)


class Panels(NamedTuple):
    """Where the numbers of one matrix go among the panels of a pass.

    Attributes:
        units: A panel has, of each column.
        tile: Numbers a row of a tile.
        panel, tiles: How far apart panels and tiles are.
        column: Where the matrix's column begins in a panel's row.
    """

    units: int
    tile: int
    panel: int
    tiles: int
    column: int


class Task:
    """One line of the list; addresses are filled in at each call."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = array("q", (*numbers, *[0] * (SIZE - len(numbers))))

    @classmethod
    def copy(cls, rows: int, width: int, to: int, of: int) -> "Task":
        """Copy rows, `to` and `of` numbers apart."""
        return cls(COPY, 0, 0, rows, width, to, of)

    @classmethod
    def pack(cls, units: int, k: int, strides: tuple[int, int], panels: Panels) -> "Task":
        """Pack a matrix whose units and ks are so far apart; without units its column is zero."""
        unit, step = strides
        turned = unit == 1 and panels.units > 1
        return cls(TURN if turned else PACK, 0, 0, units, k, unit, step, *panels)


def setup_text(lanes: Lanes) -> str:
    """The kernel `@setup(ptr tasks, i64 thread, i64 threads)`; the first number is their count."""
    return "\n".join([_main(lanes), _copy(lanes), _pack(lanes), _turn(lanes)])


def _main(lanes: Lanes) -> str:
    code = Code(lanes)
    code.label("entry")
    count = code.let("load i64, ptr %tasks")
    with code.count(count) as i:
        offset = code.let(f"mul i64 {i}, {SIZE}")
        task = code.let(f"getelementptr i64, ptr %tasks, i64 {code.let(f'add i64 {offset}, 1')}")
        kind = code.let(f"load i64, ptr {task}")
        after = code.fresh("done")
        names = ("copy", "pack", "turn")
        cases = " ".join(f"i64 {n}, label %{after}.{name}" for n, name in enumerate(names))
        code.do(f"switch i64 {kind}, label %{after} [ {cases} ]")
        for name in names:
            code.label(f"{after}.{name}")
            code.do(f"call void @{name}(ptr {task}, i64 %thread, i64 %threads)")
            code.do(f"br label %{after}")
        code.label(after)
    code.do("ret void")
    return _function("define void @setup(ptr %tasks, i64 %thread, i64 %threads)", code)


def _function(head: str, code: Code) -> str:
    return "\n".join([f"{head} nounwind {{", *code.lines, "}", ""])


def _head(name: str) -> str:
    return f"define internal void @{name}(ptr %task, i64 %thread, i64 %threads)"


def _numbers(code: Code, count: int) -> list[str]:
    """The numbers of a task after its kind."""
    places = [code.let(f"getelementptr i64, ptr %task, i64 {i}") for i in range(1, count)]
    return [code.let(f"load i64, ptr {p}") for p in places]


@contextmanager
def _shared(code: Code, whole: str) -> Iterator[str]:
    """This thread's part of a loop."""
    after = code.let("add i64 %thread, 1")
    low = code.let(f"udiv i64 {code.let(f'mul i64 {whole}, %thread')}, %threads")
    high = code.let(f"udiv i64 {code.let(f'mul i64 {whole}, {after}')}, %threads")
    with code.count(high, low) as i:
        yield i


def _copy(lanes: Lanes) -> str:
    code = Code(lanes)
    code.label("entry")
    to, of, rows, width, far, apart = _numbers(code, 7)
    target, source = (code.let(f"inttoptr i64 {a} to ptr") for a in (to, of))
    size = code.let(f"mul i64 {width}, {lanes.bytes}")
    none = code.let(f"icmp eq i64 {of}, 0")
    with _shared(code, rows) as r:
        there = code.at(target, code.let(f"mul i64 {r}, {far}"))
        here = code.at(source, code.let(f"mul i64 {r}, {apart}"))
        name = code.fresh("row")
        code.do(f"br i1 {none}, label %{name}.zero, label %{name}.copy")
        code.label(f"{name}.zero")
        code.do(f"call void @llvm.memset.p0.i64(ptr {there}, i8 0, i64 {size}, i1 false)")
        code.do(f"br label %{name}")
        code.label(f"{name}.copy")
        code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {there}, ptr {here}, i64 {size}, i1 false)")
        code.do(f"br label %{name}")
        code.label(name)
    code.do("ret void")
    return _function(_head("copy"), code)


def _place(code: Code, target: str, unit: str, panels: list[str]) -> str:
    """Where a unit's first number goes: panel, tile, place in the tile's row."""
    units, tile, panel, tiles, column = panels
    number = code.let(f"udiv i64 {unit}, {units}")
    within = code.let(f"add i64 {code.let(f'urem i64 {unit}, {units}')}, {column}")
    parts = [
        code.let(f"mul i64 {number}, {panel}"),
        code.let(f"mul i64 {code.let(f'udiv i64 {within}, {tile}')}, {tiles}"),
        code.let(f"urem i64 {within}, {tile}"),
    ]
    place = code.let(f"add i64 {parts[0]}, {parts[1]}")
    return code.at(target, code.let(f"add i64 {place}, {parts[2]}"))


def _padded(code: Code, count: str, units: str) -> str:
    """A number of units rounded up to whole panels, at least one."""
    one = code.let(f"call i64 @llvm.umax.i64(i64 {count}, i64 1)")
    up = code.let(f"sub i64 {code.let(f'add i64 {one}, {units}')}, 1")
    return code.let(f"mul i64 {code.let(f'udiv i64 {up}, {units}')}, {units}")


def _pack(lanes: Lanes) -> str:
    """Unit by unit: a row is read along k and written a tile's row apart."""
    code, real = Code(lanes), lanes.real
    code.label("entry")
    to, of, count, k, apart, step, *panels = _numbers(code, SIZE)
    target, source = (code.let(f"inttoptr i64 {a} to ptr") for a in (to, of))
    with _shared(code, _padded(code, count, panels[0])) as unit:
        there = _place(code, target, unit, panels)
        here = code.at(source, code.let(f"mul i64 {unit}, {apart}"))
        name, is_real = code.fresh("unit"), code.let(f"icmp slt i64 {unit}, {count}")
        code.do(f"br i1 {is_real}, label %{name}.real, label %{name}.none")
        code.label(f"{name}.real")
        with code.count(k) as i:
            from_here = code.at(here, code.let(f"mul i64 {i}, {step}"))
            number = code.let(f"load {real}, ptr {from_here}")
            place = code.at(there, code.let(f"mul i64 {i}, {panels[1]}"))
            code.do(f"store {real} {number}, ptr {place}")
        code.do(f"br label %{name}")
        code.label(f"{name}.none")
        with code.count(k) as i:
            place = code.at(there, code.let(f"mul i64 {i}, {panels[1]}"))
            code.do(f"store {real} {lanes.number(0.0)}, ptr {place}")
        code.do(f"br label %{name}")
        code.label(name)
    code.do("ret void")
    return _function(_head("pack"), code)


def _turn(lanes: Lanes) -> str:
    """Vector by vector of units: a row of the matrix is a row of a tile already."""
    code = Code(lanes)
    code.label("entry")
    to, of, count, k, _, step, *panels = _numbers(code, SIZE)
    target, source = (code.let(f"inttoptr i64 {a} to ptr") for a in (to, of))
    whole = code.let(f"udiv i64 {_padded(code, count, panels[0])}, {lanes.count}")
    with _shared(code, whole) as vector:
        unit = code.let(f"mul i64 {vector}, {lanes.count}")
        there = _place(code, target, unit, panels)
        here = code.at(source, unit)
        end = code.let(f"add i64 {unit}, {lanes.count}")
        name, fits = code.fresh("vector"), code.let(f"icmp sle i64 {end}, {count}")
        code.do(f"br i1 {fits}, label %{name}.whole, label %{name}.part")
        code.label(f"{name}.whole")
        with code.count(k) as i:
            row = code.load(code.at(here, code.let(f"mul i64 {i}, {step}")))
            code.store(row, code.at(there, code.let(f"mul i64 {i}, {panels[1]}")))
        code.do(f"br label %{name}")
        code.label(f"{name}.part")
        left = code.let(f"sub i64 {count}, {unit}")
        left = code.let(f"call i64 @llvm.smax.i64(i64 {left}, i64 0)")
        bytes_left = code.let(f"mul i64 {left}, {lanes.bytes}")
        with code.count(k) as i:
            place = code.at(there, code.let(f"mul i64 {i}, {panels[1]}"))
            code.store("zeroinitializer", place)
            row = code.at(here, code.let(f"mul i64 {i}, {step}"))
            given = f"ptr {place}, ptr {row}, i64 {bytes_left}, i1 false"
            code.do(f"call void @llvm.memcpy.p0.p0.i64({given})")
        code.do(f"br label %{name}")
        code.label(name)
    code.do("ret void")
    return _function(_head("turn"), code)
