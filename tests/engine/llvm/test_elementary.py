"""How far from the truth are the functions of vectors, and are their ends right?"""

import ctypes
import functools
import platform
import re

import llvmlite.binding as llvm
import numpy as np
import pytest

from throughtime.engine.llvm.elementary import FUNCTIONS
from throughtime.engine.llvm.ir import Code, Lanes

# Largest errors in units in the last place, as docs/elementary.md gives them: with a fused
# multiplication, and without one.
BOUNDS = {
    ("cos", "float"): (1.0, 1.0),
    ("exp", "float"): (1.05, 1.05),
    ("log", "float"): (0.95, 1.0),
    ("sigmoid", "float"): (2.5, 2.5),
    ("sin", "float"): (1.0, 1.0),
    ("softplus", "float"): (2.1, 2.2),
    ("sqrt", "float"): (0.501, 0.501),
    ("tanh", "float"): (2.5, 4.4),
    ("cos", "double"): (1.0, 1.0),
    ("exp", "double"): (1.2, 1.2),
    ("log", "double"): (0.95, 1.0),
    ("sigmoid", "double"): (2.6, 2.6),
    ("sin", "double"): (1.0, 1.0),
    ("softplus", "double"): (2.6, 2.6),
    ("sqrt", "double"): (0.501, 0.501),
    ("tanh", "double"): (2.6, 4.6),
}
OWN = ("exp", "log", "sigmoid", "softplus", "tanh")
WIDTHS = (("float", 4), ("float", 8), ("float", 16), ("double", 2), ("double", 4), ("double", 8))
TYPES = {"float": np.float32, "double": np.float64}
LARGER = {np.float32: np.float64, np.float64: np.longdouble}
X86 = platform.machine() in {"x86_64", "AMD64"}
PRECISE = np.finfo(np.longdouble).nmant >= 63

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def text(name, lanes):
    """A function that maps n numbers at %x to %y, n a multiple of the lanes."""
    code = Code(lanes)
    with code.count("%n", step=str(lanes.count)) as i:
        x = code.load(code.at("%x", i))
        code.store(FUNCTIONS[name](code, x), code.at("%y", i))
    code.do("ret void")
    body = "\n".join(code.lines)
    calls = set(re.findall(r"call (<[^>]+>) (@llvm\.[a-z0-9.]+)\((.*)\)", body))
    lines = {f"declare {t} {f}({', '.join([t] * a.count('<'))})" for t, f, a in calls}
    head = "define void @map(ptr noalias %x, ptr noalias %y, i64 %n) {\nentry:\n"
    return "\n".join(sorted(lines)) + f"\n{head}{body}\n}}\n"


def machine(cpu, features, triple=None):
    triple = triple or llvm.get_process_triple()
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)


def module(name, lanes, target):
    made = llvm.parse_assembly(text(name, lanes))
    made.triple, made.data_layout = target.triple, str(target.target_data)
    made.verify()
    return made


@functools.cache
def built(name, lanes, fused):
    """The compiled function; without a fused multiplication: for the oldest machine."""
    if fused:
        target = machine(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    else:
        target = machine("x86-64", "-fma,-avx")
    engine = llvm.create_mcjit_compiler(module(name, lanes, target), target)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return call(engine.get_function_address("map")), engine


def values(name, x, count=None, fused=True):
    """What the compiled function makes of x, of any length."""
    real = "float" if x.dtype == np.float32 else "double"
    lanes = Lanes(real, count or 32 // x.dtype.itemsize)
    padded = np.concatenate([x, np.ones(-len(x) % lanes.count, x.dtype)])
    y = np.empty_like(padded)
    built(name, lanes, fused)[0](padded.ctypes.data, y.ctypes.data, len(padded))
    return y[: len(x)]


def truth(name, x):
    """The same in a larger type."""
    x = x.astype(LARGER[x.dtype.type])
    if name == "sigmoid":
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, 1) / (1 + small) + 0 * x
    if name == "softplus":
        return np.where(x > 20, x, np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
    return getattr(np, name)(x)


def ulps(got, true):
    """The distance to the truth in units in its last place, those of subnormals included.

    What is not finite must be what the truth rounds to, else the distance is infinite.
    """
    kind = np.finfo(got.dtype)
    _, exponent = np.frexp(true)
    unit = np.ldexp(true.dtype.type(1), np.maximum(exponent - 1, kind.minexp) - kind.nmant)
    rounded = true.astype(got.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    finite = np.isfinite(got) & np.isfinite(rounded)
    return np.where(finite, np.abs(got - true) / unit, np.where(same, 0, np.inf)).astype(float)


def patterns(start, stop, every):
    """The float32 numbers with every such pattern of bits."""
    return np.arange(start, stop, every, dtype=np.uint64).astype(np.uint32).view(np.float32)


def doubles(name):
    """Numbers of all sizes, more of them where the function has a shape."""
    draw = np.random.default_rng(sum(name.encode()))
    spread = [draw.uniform(-size, size, 50_000) for size in (0.4, 1.5, 25, 60, 760)]
    any_bits = draw.integers(0, 2**64, 50_000, dtype=np.uint64).view(np.float64)
    small = draw.uniform(-1, 1, 20_000) * 2.0 ** draw.integers(-1070, 0, 20_000)
    x = np.concatenate([*spread, any_bits, small])
    return np.abs(x) if name in {"log", "sqrt"} else x


def worst(name, x, fused=True):
    """The largest error and where it is."""
    with np.errstate(all="ignore"):
        errors = ulps(values(name, x, fused=fused), truth(name, x))
    at = int(np.argmax(errors))
    return errors[at], x[at]


def assert_within(name, x, fused=True):
    real = "float" if x.dtype == np.float32 else "double"
    error, at = worst(name, x, fused)
    assert error <= BOUNDS[name, real][0 if fused else 1], f"{name} at {at!r}: {error:.3f}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float_is_near_the_truth_over_all_numbers(name):
    assert_within(name, patterns(0, 2**32, 6007))


@pytest.mark.parametrize("name", OWN)
def test_float_is_near_the_truth_where_the_function_has_a_shape(name):
    x = np.random.default_rng(7).uniform(-20, 20, 2**19).astype(np.float32)
    assert_within(name, np.abs(x) if name == "log" else x)
    assert_within(name, 1 + x / 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fused", [True, pytest.param(False, marks=pytest.mark.skipif(not X86, reason="SSE"))]
)
@pytest.mark.parametrize("name", OWN)
def test_every_float_is_near_the_truth(name, fused):
    for start in range(0, 2**32, 2**22):
        assert_within(name, patterns(start, start + 2**22, 1), fused)


@pytest.mark.skipif(not PRECISE, reason="no type larger than double here")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_is_near_the_truth(name):
    assert_within(name, doubles(name))


@pytest.mark.skipif(not X86, reason="other machines always have a fused multiplication")
@pytest.mark.parametrize("name", OWN)
def test_without_a_fused_multiplication_the_errors_stay_small(name):
    assert_within(name, patterns(0, 2**32, 12007), fused=False)
    if PRECISE:
        assert_within(name, doubles(name), fused=False)


@pytest.mark.parametrize(("real", "count"), WIDTHS)
@pytest.mark.parametrize("name", OWN)
def test_every_width_gives_the_same_bits(name, real, count):
    x = np.linspace(-110, 110, 4001, dtype=TYPES[real])
    whole = {4: np.uint32, 8: np.uint64}[x.itemsize]
    here, usual = values(name, x, count), values(name, x)
    assert np.array_equal(here.view(whole), usual.view(whole))


ENDS = {
    "exp": {-np.inf: 0, np.inf: np.inf, 0.0: 1, -1e30: 0, 1e30: np.inf, 1e-30: 1},
    "log": {0.0: -np.inf, np.inf: np.inf, 1.0: 0, -1.0: np.nan, -np.inf: np.nan},
    "sigmoid": {-np.inf: 0, np.inf: 1, 0.0: 0.5, 50.0: 1, -1e30: 0, 1e30: 1},
    "softplus": {-np.inf: 0, np.inf: np.inf, 20.5: 20.5, 1e30: 1e30, -1e30: 0},
    "tanh": {-np.inf: -1, np.inf: 1, 20.0: 1, -20.0: -1, 1e30: 1, 1e-30: 1e-30},
    "sqrt": {0.0: 0, np.inf: np.inf, -1.0: np.nan, 4.0: 2},
    "sin": {0.0: 0, np.inf: np.nan},
    "cos": {0.0: 1, np.inf: np.nan},
}


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ends_are_exact_and_nan_passes(name, real):
    x = np.array([*ENDS[name], np.nan, -np.nan], TYPES[real])
    expected = np.array([*ENDS[name].values(), np.nan, np.nan], TYPES[real])
    for fused in (True, False) if X86 else (True,):
        np.testing.assert_array_equal(values(name, x, fused=fused), expected)


@pytest.mark.parametrize("real", TYPES)
def test_exp_overflows_and_vanishes_where_it_should(real):
    kind = np.finfo(TYPES[real])
    last = TYPES[real](np.log(LARGER[TYPES[real]](kind.max)))
    if np.exp(last.astype(LARGER[TYPES[real]])) > kind.max:
        last = np.nextafter(last, 0)
    got = values("exp", np.array([last, np.nextafter(last, np.inf)]))
    assert got[0] > kind.max * (1 - 2.0 ** (6 - kind.nmant // 2))
    assert got[1] == np.inf
    first = TYPES[real](np.log(np.longdouble(kind.smallest_subnormal) / 2))
    low = np.array([first * (1 + 4 * kind.eps), first * (1 - 4 * kind.eps)], TYPES[real])
    assert values("exp", low).tolist() == [0, kind.smallest_subnormal]


@pytest.mark.parametrize("real", TYPES)
def test_tanh_is_odd_to_the_last_bit_and_keeps_the_sign_of_zero(real):
    infinity = int(np.float32(np.inf).view(np.uint32))
    x = patterns(0, infinity, 5003).astype(TYPES[real])
    assert np.array_equal(values("tanh", -x), -values("tanh", x))
    for fused in (True, False) if X86 else (True,):
        signs = np.signbit(values("tanh", np.array([0.0, -0.0], TYPES[real]), fused=fused))
        assert signs.tolist() == [False, True]


def test_sigmoid_and_softplus_go_down_through_the_subnormals():
    x = np.array([-30, -87, -90, -100, -103], np.float32)
    expected = np.exp(x.astype(float)).astype(np.float32)
    assert expected[-1] == np.finfo(np.float32).smallest_subnormal
    np.testing.assert_array_max_ulp(values("sigmoid", x), expected, 1)
    np.testing.assert_array_max_ulp(values("softplus", x), expected, 1)


@pytest.mark.parametrize("real", TYPES)
def test_softplus_changes_to_x_at_torchs_threshold(real):
    x = np.array([20.0, np.nextafter(TYPES[real](20), TYPES[real](21)), 25], TYPES[real])
    got = values("softplus", x)
    assert got[1:].tolist() == x[1:].tolist()
    assert got[0] == TYPES[real](20 + np.log1p(np.exp(-20.0)))


@pytest.mark.parametrize("real", TYPES)
def test_log_of_subnormals(real):
    least = np.finfo(TYPES[real]).smallest_subnormal
    x = np.array([1, 3, 1000], TYPES[real]) * least
    np.testing.assert_allclose(values("log", x), np.log(x), rtol=2 * np.finfo(TYPES[real]).eps)


@pytest.mark.skipif(not X86, reason="an assembler of x86")
@pytest.mark.parametrize(("real", "count"), [("float", 16), ("double", 8)])
@pytest.mark.parametrize("name", OWN)
def test_avx512_takes_whole_registers_and_calls_nothing(name, real, count):
    target = machine("skylake-avx512", "")
    assembly = target.emit_assembly(module(name, Lanes(real, count), target))
    assert "zmm" in assembly
    assert not re.search(r"\tcall|ymm", assembly)


@pytest.mark.parametrize("real", TYPES)
@pytest.mark.parametrize("name", OWN)
def test_the_text_names_no_machine_and_divides_at_most_once(name, real):
    written = text(name, Lanes(real, 4))
    used = set(re.findall(r"call \S+ x \S+ @llvm\.([a-z0-9]+)\.", written))
    assert used <= {"fmuladd", "fabs"}
    assert written.count("fdiv") <= 1


@pytest.mark.parametrize("name", OWN)
def test_a_constant_argument_is_taken(name):
    lanes = Lanes("float", 8)
    code = Code(lanes)
    assert FUNCTIONS[name](code, lanes.splat(0.5)).startswith("%")
