"""LLVM's text becomes machine code in memory, once, and nothing else happens."""

import ctypes
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from throughtime.engine.llvm import jit
from throughtime.engine.llvm import machine as machines
from throughtime.engine.llvm.ir import Lanes
from throughtime.engine.llvm.jit import assembly, compiled
from throughtime.engine.llvm.machine import GENERIC, Machine, forced, machine
from throughtime.errors import EngineError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # 3.12 on

F8 = "<8 x float>"


def unary(name, body, kind=F8):
    """A function that replaces the vector at its first pointer by a value computed from it."""
    return f"""define void @{name}(ptr %p) {{
  %x = load {kind}, ptr %p, align 4
{body}
  store {kind} %y, ptr %p, align 4
  ret void
}}
"""


def fma(name="f", kind=F8, suffix="v8f32"):
    return unary(
        name,
        f"  %y = call {kind} @llvm.fma.{suffix}({kind} %x, {kind} %x, {kind} splat (float 1.0))",
        kind,
    )


def applied(text, x, name="f"):
    """What the function makes of the numbers."""
    result = x.clone()
    address = compiled(text, machine()).address(name)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)(result.data_ptr())
    return result


X = torch.linspace(-2, 2, 8)


def test_a_function_runs():
    assert torch.equal(applied(fma(), X), torch.addcmul(torch.ones(8), X, X))


@pytest.mark.parametrize("name", ["sin", "exp", "log2"])
def test_functions_of_the_c_library_are_found(name):
    x = X + 3
    text = unary("f", f"  %y = call {F8} @llvm.{name}.v8f32({F8} %x)")
    torch.testing.assert_close(applied(text, x), getattr(torch, name)(x))


def test_declarations_are_read_from_calls():
    four = "float 1.0, float 2.0, float 3.0, float 4.0"
    text = f"""
  %a = call {F8} @llvm.fma.v8f32({F8} %x, {F8} <{four}, {four}>, {F8} splat (float 0x3FF0000000000000))
  %b = call i64 @llvm.umax.i64(i64 %n, i64 1)
  %c = tail call {{ i32, i1 }} @llvm.sadd.with.overflow.i32(i32 %i, i32 2)
  call void @llvm.prefetch.p0(ptr getelementptr (i8, ptr %p, i64 8), i32 0, i32 3, i32 1)
  call void @llvm.x86.sse2.pause()
  call void @llvm.lifetime.start.p0(ptr nonnull %p)
  call void @llvm.lifetime.start.p0(ptr nonnull %q)
  %d = call i32 @omp_get_thread_num()
"""  # noqa: E501 (a call is one line)
    assert jit._declarations(text).split("\n")[1:-1] == [
        f"declare {F8} @llvm.fma.v8f32({F8}, {F8}, {F8})",
        "declare void @llvm.lifetime.start.p0(ptr)",
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        "declare { i32, i1 } @llvm.sadd.with.overflow.i32(i32, i32)",
        "declare i64 @llvm.umax.i64(i64, i64)",
        "declare void @llvm.x86.sse2.pause()",
        "declare i32 @omp_get_thread_num()",
    ]


def test_what_a_text_declares_itself_is_not_declared_again():
    own = fma() + f"declare {F8} @llvm.fma.v8f32({F8}, {F8}, {F8})\n"
    assert "declare" not in jit._declarations(own)
    assert torch.equal(applied(own, X), applied(fma(), X))


def test_equal_texts_are_compiled_once(monkeypatch):
    made = []
    compile_ = jit._compile

    def count(*given):
        made.append(given)
        return compile_(*given)

    monkeypatch.setattr(jit, "_compile", count)
    text = fma("once")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(compiled(text, machine()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 8
    assert len(set(found)) == 1
    assert compiled(text + "\n", machine()) is not found[0]


def test_external_functions_may_be_given_by_address():
    seen = []
    first = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: seen.append("first") or 1)
    second = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: seen.append("second") or 2)
    text = "define i32 @f() {\n  %r = call i32 @sched_yield()\n  ret i32 %r\n}\n"
    for function in (first, second):
        symbols = {"sched_yield": ctypes.cast(function, ctypes.c_void_p).value, "unused": 8}
        address = compiled(text, machine(), symbols).address("f")
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    assert seen == ["first", "second"]
    assert ctypes.CFUNCTYPE(ctypes.c_int)(compiled(text, machine()).address("f"))() == 0


def test_an_unknown_function_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        compiled(fma(), machine()).address("nothing")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("define void @f( {", "expected type"),
        (
            "define i32 @f() {\n  %a = add i32 %b, 1\n  %b = add i32 1, 1\n  ret i32 %a\n}",
            "dominate",
        ),
        ("define i32 @f(i32 %a) {\n  %b = add i32 %c, 1\n  ret i32 %b\n}", "undefined value"),
    ],
)
def test_a_wrong_text_is_refused(text, why):
    with pytest.raises(EngineError, match=why):
        compiled(text, machine())


def test_an_unknown_target_is_refused():
    with pytest.raises(EngineError, match="no-such-machine"):
        assembly(fma(), Machine("v128", "z80", "", 128, 16, "no-such-machine"))


def test_without_llvmlite_the_refusal_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    jit._initialised.cache_clear()
    with pytest.raises(EngineError, match="pip install llvmlite"):
        compiled(fma("missing"), Machine("v128", "x86-64", "", 128, 16))


@pytest.mark.parametrize(
    ("name", "count", "has", "lacks"),
    [
        ("avx512", 16, ["zmm", "vfmadd"], ["callq", "jmp"]),
        ("avx2", 8, ["ymm", "vfmadd"], ["zmm", "callq", "jmp"]),
        ("neon", 4, ["fmla"], ["\tbl\t"]),
    ],
)
def test_any_machine_can_be_compiled_for(name, count, has, lacks):
    given = GENERIC[name]
    lanes = given.lanes("float")
    assert lanes == Lanes("float", count)
    assert given.lanes("double").count == count // 2
    code = assembly(fma("f", lanes.type, lanes.suffix), given)
    assert all(word in code for word in has)
    assert not any(word in code for word in lacks)


def test_the_machine_is_the_widest_that_the_host_has():
    features = machines._host().features
    found = machine()
    assert machine() is found
    assert found.lanes("float").count * 32 == found.bits
    assert found.lanes("double").count * 64 == found.bits
    if found.arm:
        assert (found.name, found.registers) == ("v128", 32)
    elif features["avx512f"]:
        assert (found.name, found.bits, found.registers) == ("avx512", 512, 32)
    elif features["avx2"]:
        assert (found.name, found.bits, found.registers) == ("avx2", 256, 16)


@pytest.mark.parametrize(
    ("able", "name"),
    [
        ({"avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma"}, "avx512"),
        ({"avx512f", "avx512vl", "avx2", "fma"}, "avx2"),
        ({"avx2", "fma"}, "avx2"),
        ({"avx2"}, "v128"),
        (set(), "v128"),
    ],
)
@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "arm64-apple-darwin"])
def test_hosts(monkeypatch, able, name, triple):
    known = {"avx512f", "avx512vl", "avx512dq", "avx512bw", "avx2", "fma", "sse2"}
    host = machines._Host(triple, "some", {key: key in able for key in known})
    monkeypatch.setattr(machines, "_host", lambda: host)
    given = machines._narrowed.__wrapped__(machines._widest())
    assert given.name == name
    assert given.registers == (32 if name == "avx512" or "arm" in triple else 16)
    assert {key[1:] for key in given.features.split(",") if key[0] == "+"} == {
        key for key in able if name == "avx512" or "avx512" not in key
    }
    assert len(given.features.split(",")) == len(known)
    with pytest.raises(EngineError, match="'v128'"):
        machines._narrowed.__wrapped__("sse9")


def test_other_processors_are_refused(monkeypatch):
    monkeypatch.setattr(
        machines.binding(), "get_process_triple", lambda: "riscv64-unknown-linux-gnu"
    )
    with pytest.raises(EngineError, match="riscv64"):
        machines._host.__wrapped__()


def test_narrower_vectors_can_be_forced_in_all_threads():
    before, seen = machine(), []
    with forced("v128") as given:
        assert machine() is given
        thread = threading.Thread(target=lambda: seen.append(machine()))
        thread.start()
        thread.join()
        four = "<4 x float>"
        assert torch.equal(applied(fma("f", four, "v4f32"), X)[:4], applied(fma(), X)[:4])
        if machines._host().features.get("fma"):
            assert "+fma" in given.features
            assert "vfmadd" in assembly(fma("f", four, "v4f32"), given)
    assert seen == [given]
    assert given.lanes("float").count == 4
    assert given.registers == (32 if given.arm else 16)
    assert machine() is before


@pytest.mark.skipif(machine().name == "avx512", reason="the host has the widest vectors")
def test_wider_vectors_than_the_host_has_are_refused():
    before = machine()
    with pytest.raises(EngineError, match=r"it has .*'v128'"), forced("avx512"):
        pass
    assert machine() is before


def fresh(code, **environment):
    """What a new Python prints."""
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=given, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_llvmlite_is_imported_when_first_used():
    code = """
import sys
import throughtime.engine.llvm.jit, throughtime.engine.llvm.machine
import throughtime.engine.llvm.team, throughtime.engine.llvm.workspace
print([name for name in sys.modules if name.startswith("llvmlite")])
"""
    assert fresh(code).strip() == "[]"


WATCH = """
import os, sys
import torch
seen = []
def watch(event, args):
    if event == "open":
        _, mode, flags = args
        writes = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or set(mode or "") & set("wax+"):
            seen.append((event, args))
    elif event.startswith(("subprocess", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                           "os.spawn", "pty.spawn", "tempfile", "os.mkdir", "os.rename")):
        seen.append((event, args))
sys.addaudithook(watch)
{extra}
from throughtime.engine.llvm.jit import compiled
from throughtime.engine.llvm.machine import machine
from throughtime.engine.llvm.team import barrier_text, launch
from throughtime.engine.llvm.workspace import borrow
text = barrier_text(machine()) + '''
define void @k(ptr %p, i64 %thread, i64 %threads) {{
  call void @barrier(ptr %p, i64 %thread, i64 %threads, i64 7)
  ret void
}}
'''
flags = borrow(10_000, torch.float64).zero_()
for threads in (1, 2):
    launch(compiled(text, machine()).address("k"), flags.data_ptr(), threads)
print(seen, flags.view(torch.int64)[0].item())
"""


def test_no_file_is_written_and_no_program_started(tmp_path):
    places = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    assert fresh(WATCH.format(extra=""), **places).strip() == "[] 7"
    assert list(tmp_path.iterdir()) == []
    written = fresh(WATCH.format(extra="open(os.environ['HOME'] + '/a', 'w').close()"), **places)
    assert written.startswith("[('open'"), "the watch is blind"


def compile_another(number):
    compiled(fma(f"busy{number}"), machine())


def look_up_again(number):
    compiled(fma("looked_up"), machine()).address("looked_up")


@pytest.mark.parametrize("busy", [compile_another, look_up_again])
def test_a_fork_amid_a_call_of_llvm_leaves_a_working_child(busy):
    stop = threading.Event()

    def work():
        number = 0
        while not stop.is_set():
            number += 1
            busy(number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        codes = [_child_compiles(number) for number in range(20)]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 20


def _child_compiles(number):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        name = f"child{number}"
        good = torch.equal(applied(fma(name), X, name), X * X + 1)
        os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
