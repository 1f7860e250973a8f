"""A kernel runs on torch's team, on fewer threads than asked, or on Python's: always right."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from throughtime.engine.llvm import team
from throughtime.engine.llvm.jit import compiled
from throughtime.engine.llvm.machine import machine
from throughtime.engine.llvm.team import barrier_text, launch, team_size

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # 3.12 on

# Notes at cell t of its array how many threads there are, and that thread t came once more.
WHO = """
define void @who(ptr %cells, i64 %thread, i64 %threads) {
  %own = getelementptr i64, ptr %cells, i64 %thread
  store i64 %threads, ptr %own
  %slot = add i64 %thread, 100
  %calls = getelementptr i64, ptr %cells, i64 %slot
  %old = atomicrmw add ptr %calls, i64 1 monotonic
  ret void
}
"""

# In each round every thread writes the round's number, and counts the threads whose number it does
# not see. From the array: 16 numbers a thread for the barrier, from number 1024 on the cells, 16 a
# thread, from 2048 on the mistakes, and at 4000 how many rounds there are.
ROUNDS = """
define void @rounds(ptr %all, i64 %thread, i64 %threads) {
entry:
  %row = mul i64 %thread, 16
  %to_cell = add i64 %row, 1024
  %cell = getelementptr i64, ptr %all, i64 %to_cell
  %to_wrong = add i64 %row, 2048
  %wrong = getelementptr i64, ptr %all, i64 %to_wrong
  %to_last = getelementptr i64, ptr %all, i64 4000
  %last = load i64, ptr %to_last
  br label %round
round:
  %i = phi i64 [ 1, %entry ], [ %next, %after ]
  store i64 %i, ptr %cell
  %even = mul i64 %i, 2
  %odd = sub i64 %even, 1
  call void @barrier(ptr %all, i64 %thread, i64 %threads, i64 %odd)
  br label %other
other:
  %t = phi i64 [ 0, %round ], [ %t1, %other ]
  %row_t = mul i64 %t, 16
  %to_t = add i64 %row_t, 1024
  %cell_t = getelementptr i64, ptr %all, i64 %to_t
  %seen = load i64, ptr %cell_t
  %differs = icmp ne i64 %seen, %i
  %one = zext i1 %differs to i64
  %old = load i64, ptr %wrong
  %sum = add i64 %old, %one
  store i64 %sum, ptr %wrong
  %t1 = add i64 %t, 1
  %more = icmp slt i64 %t1, %threads
  br i1 %more, label %other, label %after
after:
  call void @barrier(ptr %all, i64 %thread, i64 %threads, i64 %even)
  %next = add i64 %i, 1
  %on = icmp sle i64 %next, %last
  br i1 %on, label %round, label %done
done:
  ret void
}
"""


def kernel(text, name):
    return compiled(text, machine()).address(name)


def who(threads):
    """How many threads came, after checking that each came once and all agree."""
    cells = torch.zeros(200, dtype=torch.int64)
    launch(kernel(WHO, "who"), cells.data_ptr(), threads)
    number = int(cells[0])
    assert cells[:100].tolist() == [number] * number + [0] * (100 - number)
    assert cells[100:].tolist() == [1] * number + [0] * (100 - number)
    return number


def rounds(threads, last, barrier=None):
    """How many threads took part in the rounds, and how many mistakes they saw."""
    cells = torch.zeros(4096, dtype=torch.int64)
    cells[4000] = last
    text = (barrier or barrier_text(machine())) + ROUNDS
    launch(kernel(text, "rounds"), cells.data_ptr(), threads)
    came = cells[1024:2048:16]
    assert set(came.tolist()) <= {0, last}
    return int((came > 0).sum()), int(cells[2048:3072].sum())


@pytest.fixture
def no_openmp(monkeypatch):
    monkeypatch.setattr(team, "_team", lambda: None)


def in_child(check):
    """Whether a check passes in a forked child, which ends by itself if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_once(count, work):
    """What a function gives in several threads of Python at once."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count, "a thread failed"
    return results


def test_torch_has_a_team_here():
    assert "OpenMP" not in torch.__config__.parallel_info() or team._team() is not None


@pytest.mark.parametrize("threads", [-1, 0, 1, 2, 3, 8])
def test_every_thread_comes_once(threads):
    assert who(threads) == max(threads, 1)


@pytest.mark.usefixtures("no_openmp")
@pytest.mark.parametrize("threads", [1, 3, 2, 8])
def test_every_thread_of_python_comes_once(threads):
    assert who(threads) == threads
    assert rounds(threads, 200) == (threads, 0)


def test_the_team_is_as_large_as_torch_says():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert team_size() == threads
            assert who(team_size()) == threads
    finally:
        torch.set_num_threads(before)


def test_the_barrier_holds():
    assert rounds(2, 100_000) == (2, 0)


def test_without_a_barrier_mistakes_are_seen():
    none = "define internal void @barrier(ptr %f, i64 %t, i64 %n, i64 %v) {\n  ret void\n}\n"
    assert any(rounds(2, 1_000_000, none)[1] > 0 for _ in range(20))


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_the_barrier_holds_with_more_threads_than_cores(threads):
    assert rounds(threads, 500) == (threads, 0)


def test_a_team_within_a_team_is_smaller_and_right():
    """OpenMP gives one thread to a region within a region."""
    inner = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def outer(_, thread, threads):
        inner.append((thread, threads, who(4), rounds(4, 10)))

    launch(ctypes.cast(outer, ctypes.c_void_p).value, 0, 2)
    assert sorted(inner) == [(0, 2, 1, (1, 0)), (1, 2, 1, (1, 0))]


LIMITED = """
import sys
sys.path[:0] = {path!r}
from test_team import rounds, who
print(who(8), rounds(8, 100))
"""


def test_a_smaller_team_than_asked_is_right():
    given = {**os.environ, "OMP_THREAD_LIMIT": "2", "OMP_NUM_THREADS": "2"}
    code = LIMITED.format(path=sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=given, check=False
    )
    assert done.stdout.strip() == "2 (2, 0)", done.stderr


def test_eight_threads_of_python_launch_at_once():
    assert at_once(8, lambda: [who(2) for _ in range(50)]) == [[2] * 50] * 8
    assert at_once(8, lambda: rounds(2, 100)) == [(2, 0)] * 8


@pytest.mark.usefixtures("no_openmp")
def test_threads_of_python_serve_one_kernel_at_a_time():
    for come in at_once(8, lambda: [rounds(3, 20) for _ in range(20)]):
        assert {mistakes for _, mistakes in come} == {0}
        assert {number for number, _ in come} <= {1, 3}
    assert who(3) == 3


@pytest.mark.usefixtures("no_openmp")
def test_a_system_without_more_threads_gives_a_smaller_team(monkeypatch):
    crew = team._Crew()
    monkeypatch.setattr(team, "_crew", crew)
    start, allowed = threading.Thread.start, []

    def refuse(thread):
        if not allowed:
            raise RuntimeError("can't start new thread")
        allowed.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert who(4) == 1
    allowed += [1, 1]
    assert who(4) == 2
    assert rounds(4, 100) == (2, 0)


@pytest.mark.parametrize("python", [False, True])
def test_a_signal_does_not_abandon_a_running_kernel(python, monkeypatch):
    if python:
        monkeypatch.setattr(team, "_team", lambda: None)
    cells = torch.zeros(4096, dtype=torch.int64)
    cells[4000] = 20_000
    address = kernel(barrier_text(machine()) + ROUNDS, "rounds")
    assert rounds(2, 1) == (2, 0)  # the team is there

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def launch_and_sleep():
        launch(address, cells.data_ptr(), 2)
        time.sleep(5)  # where the kernel was done before the signal came

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        with pytest.raises(KeyboardInterrupt):
            launch_and_sleep()
        assert cells[1024:1056:16].tolist() == [20_000] * 2
        assert who(2) == 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_forked_child_works_on_one_thread():
    assert who(2) == 2
    torch.mm(torch.ones(300, 300), torch.ones(300, 300))  # torch's own use of the team
    assert in_child(lambda: [who(1), who(2), who(8), rounds(2, 100)] == [1, 1, 1, (1, 0)]) == 0
    assert in_child(lambda: in_child(lambda: who(2) == 1) == 0) == 0
    assert who(2) == 2


def test_a_fork_amid_launches_leaves_a_working_child():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            rounds(2, 50)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        codes = [in_child(lambda: rounds(2, 100) == (1, 0)) for _ in range(5)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 5


def test_32_processes_at_once():
    children = []
    for number in range(32):
        child = os.fork()
        if child == 0:
            signal.alarm(120)
            text = WHO.replace("@who", f"@who{number}")
            cells = torch.zeros(200, dtype=torch.int64)
            launch(kernel(text, f"who{number}"), cells.data_ptr(), 2)
            os._exit(0 if cells[0] == 1 and rounds(2, 1000) == (1, 0) else 1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 32


@pytest.mark.slow
def test_32_fresh_processes_at_once():
    code = LIMITED.format(path=sys.path)
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(32)
    ]
    assert [child.communicate()[0].strip() for child in children] == ["8 (8, 0)"] * 32
