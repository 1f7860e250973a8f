"""Tiles against NumPy, and against each other bit for bit."""

import ctypes
import re
from itertools import product

import numpy as np
import pytest

from throughtime.engine.llvm.ir import Lanes
from throughtime.engine.llvm.jit import assembly, compiled
from throughtime.engine.llvm.machine import GENERIC, machine
from throughtime.engine.llvm.tiles import Shape, dispatch_text, shape, tile_text

PAD = 5
GIVEN = "ptr %a, i64 %lda, ptr %b, i64 %k, ptr %out, i64 %ldo, i1 %more"
KINDS: dict[str, type] = {"ptr": ctypes.c_void_p, "i64": ctypes.c_int64, "i1": ctypes.c_bool}
DEPTHS = (0, 1, 3, 4, 5, 8, 67)


def function(text, name, given):
    """An internal function as a Python function."""
    door = f"define void @door({given}) {{\n  call void @{name}({given})\n  ret void\n}}\n"
    address = compiled(text + door, machine()).address("door")
    kinds = [KINDS[each.split()[0]] for each in given.split(", ")]
    return ctypes.CFUNCTYPE(None, *kinds)(address)


def numbers(lanes, rows, k, columns, seed=0):
    """Rows of a with a stride, a panel of b, an output with a stride."""
    draw = np.random.default_rng(seed)
    kind = np.float32 if lanes.bytes == 4 else np.float64
    shapes = ((rows, k + PAD), (k, columns), (rows, columns + PAD))
    return [draw.standard_normal(s).astype(kind) for s in shapes]


def run(call, a, b, out, *rest, more=False):
    """The output after a call."""
    k, out = b.shape[-2], out.copy()
    before = (a.ctypes.data, a.shape[1], b.ctypes.data, k)
    call(*before, *rest[:-1], out.ctypes.data, out.shape[1], more, *rest[-1:])
    return out


def tile(lanes, rows, vectors):
    call = function(tile_text(lanes, rows, vectors), f"tile_{rows}x{vectors}", GIVEN)
    return lambda a, b, out, more=False: run(call, a, b, out, more=more)


def host(real):
    return machine().lanes(real)


@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (1, 4), (2, 3), (3, 4), (4, 3), (6, 2)])
def test_a_tile_is_a_product(real, rows, vectors):
    lanes = host(real)
    call, columns = tile(lanes, rows, vectors), vectors * lanes.count
    close = 1e-5 if real == "float" else 1e-13
    for k, more in product(DEPTHS, (False, True)):
        a, b, out = numbers(lanes, rows, k, columns)
        got = call(a, b, out, more)
        want = a[:, :k].astype(float) @ b + more * out[:, :columns].astype(float)
        np.testing.assert_allclose(got[:, :columns], want, rtol=close, atol=close * 9)
        np.testing.assert_array_equal(got[:, columns:], out[:, columns:])


@pytest.mark.parametrize("more", [False, True])
def test_a_row_alone_equals_the_row_in_company(more):
    lanes = host("float")
    a, b, out = numbers(lanes, 6, 67, 2 * lanes.count)
    together = tile(lanes, 6, 2)(a, b, out, more)
    for r in range(6):
        alone = tile(lanes, 1, 2)(a[r : r + 1], b, out[r : r + 1], more)
        np.testing.assert_array_equal(alone, together[r : r + 1])


def test_two_halves_of_the_sum_equal_the_whole():
    """Else a long sum could not be cut where the cache ends."""
    lanes = host("float")
    call = tile(lanes, 3, 2)
    a, b, out = numbers(lanes, 3, 67, 2 * lanes.count)
    whole = call(a, b, out)
    half = call(np.ascontiguousarray(a[:, :31]), b[:31], out)
    rest = call(np.ascontiguousarray(a[:, 31:]), b[31:], half, more=True)
    np.testing.assert_array_equal(rest, whole)


def test_dispatch_takes_any_number_of_rows():
    lanes, size = host("float"), Shape(vectors=2, rows=5)
    call = function(dispatch_text(lanes, size), "tile2", GIVEN + ", i64 %rows")
    a, b, out = numbers(lanes, 7, 9, 2 * lanes.count)
    for rows in range(6):
        got = out.copy()
        call(
            *(a.ctypes.data, a.shape[1], b.ctypes.data, 9),
            *(got.ctypes.data, got.shape[1], False, rows),
        )
        want = a[:rows, :9] @ b
        np.testing.assert_allclose(got[:rows, :-PAD], want, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(got[rows:], out[rows:])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("avx2", {1: (8, 1), 2: (6, 2), 3: (4, 3), 4: (6, 2), 6: (6, 2)}),
        ("avx512", {2: (8, 2), 3: (8, 3), 4: (6, 4), 5: (5, 5), 8: (6, 4)}),
        ("v128", {3: (4, 3), 4: (6, 2)}),
        ("neon", {3: (7, 3), 4: (8, 2)}),
    ],
)
def test_shapes_that_were_measured_or_fit(name, expected):
    made = GENERIC[name]
    got = {
        groups: shape(made.bits, made.registers, groups, made.lanes("float")) for groups in expected
    }
    assert {g: (s.rows, s.vectors) for g, s in got.items()} == expected


@pytest.mark.parametrize("groups", range(1, 13))
def test_a_shape_divides_its_panel(groups):
    lanes = Lanes("float", 8)
    size = shape(256, 16, groups, lanes)
    assert groups % size.vectors == 0
    twice = shape(128, 16, groups, lanes)
    assert 2 * twice.rows * twice.vectors < 16


@pytest.mark.parametrize("name", ["avx2", "avx512", "neon"])
@pytest.mark.parametrize("groups", range(1, 9))
def test_no_tile_runs_out_of_registers(name, groups):
    """A number that goes to the stack in the inner loop costs half the speed."""
    made = GENERIC[name]
    lanes = made.lanes("float")
    size = shape(made.bits, made.registers, groups, lanes)
    for rows in range(1, size.rows + 1):
        text = tile_text(lanes, rows, size.vectors)
        words = assembly(text.replace("internal ", ""), made)
        assert "fma" in words or "fmla" in words
        assert not re.search(r"[xyz]mm\d+, -?\d*\(%rsp\)|\bq\d+, (q\d+, )?\[sp", words)
        assert not re.search(r"vmovap[sd]\s+%([xyz])mm\d+, %\1mm", words)
