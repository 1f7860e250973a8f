"""Does the fused engine work beside others: in threads, after a fork, in many processes, unseen?"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from contract.own_cells import CELLS
from engine.llvm.on_trial import ENGINE, everything, layer_of, needs_engine

pytestmark = needs_engine

THREADS, ROUNDS = 8, 4
NAMES = ("rnn", "lstm", "gru", "mgu", "gru_reset_before", "lstm_peephole", "delayed", "emitting")
SOURCES = os.pathsep.join(path for path in sys.path if path)


def together(tasks):
    """The results of tasks that start at the same moment, one a thread."""
    barrier = Barrier(len(tasks))

    def run(task):
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def tensors(layer, sizes):
    source = torch.Generator().manual_seed(sum(sizes))
    return torch.randn(*sizes, 3, generator=source, dtype=layer.weight_ih_l0.dtype)


def equal(some, others):
    return all(torch.equal(some[name], others[name]) for name in others)


def test_threads_each_with_a_layer_of_its_own():
    """Cold: no kernel of these sizes was ever made, so that all threads make theirs at once."""
    layers = [layer_of(CELLS[name], 3, 23 + i) for i, name in enumerate(NAMES)]
    sizes = [(5 + i, 3 + i) for i in range(THREADS)]

    def work(i):
        return lambda: [everything(layers[i], tensors(layers[i], sizes[i])) for _ in range(ROUNDS)]

    results = together([work(i) for i in range(THREADS)])
    for i, layer in enumerate(layers):
        want = everything(layer, tensors(layer, sizes[i]))
        assert all(equal(found, want) for found in results[i]), NAMES[i]


@pytest.mark.parametrize("name", ["lstm", "delayed_lstm"])
def test_threads_with_one_layer(name):
    layer = layer_of(CELLS[name], 3, 29)
    sizes = [(5 + i % 3, 3 + i % 2) for i in range(THREADS)]

    def work(i):
        return lambda: [everything(layer, tensors(layer, sizes[i])) for _ in range(ROUNDS)]

    results = together([work(i) for i in range(THREADS)])
    for i in range(THREADS):
        want = everything(layer, tensors(layer, sizes[i]))
        assert all(equal(found, want) for found in results[i])


def test_forward_in_one_thread_and_backward_in_another():
    layer = layer_of(CELLS["lstm"], 3, 31)
    x = tensors(layer, (6, 4))
    want = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    losses = together([lambda: layer(x)[0].sum()] * THREADS)
    found = together([
        lambda loss=loss: torch.autograd.grad(loss, list(layer.parameters())) for loss in losses
    ])
    for gradients in found:
        assert all(map(torch.equal, gradients, want))


# --- other processes

STEP = """
import json, os, sys
import torch, throughtime as tt

def numbers(engine, cell="lstm", steps=60, rows=16, units=64):
    torch.manual_seed(3)
    layer = tt.Recurrent(tt.cells.CATALOGUE[cell], 3, units, engine=engine)
    x = torch.randn(steps, rows, 3, requires_grad=True)
    output, _ = layer(x, lengths=[steps - r for r in range(rows)])
    loss = output.square().mean()
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()])
    return [loss.item().hex(), *(g.double().sum().item().hex() for g in gradients)]
"""

FORKING = (
    STEP
    + """
torch.set_num_threads(int(sys.argv[2]))
before = numbers(sys.argv[1])
read, write = os.pipe()
child = os.fork()
if child == 0:
    code = 1
    try:
        torch.set_num_threads(1)  # torch's own team does not survive a fork
        known, unknown = numbers(sys.argv[1]), numbers(sys.argv[1], "gru", units=33)
        os.write(write, json.dumps([known, unknown]).encode())
        code = 0
    finally:
        os._exit(code)
os.close(write)
text = b""
while part := os.read(read, 65536):
    text += part
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
mine = [numbers(sys.argv[1]), numbers(sys.argv[1], "gru", units=33)]
print(json.dumps([status, before, json.loads(text or b"null"), mine]))
"""
)


def run(code, *arguments, **environment):
    """A fresh process, started."""
    variables = os.environ | {"PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )


def ended(process):
    """What a process printed, as JSON; it must have ended well, and is gone in any case."""
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, (process.returncode, err)
    return json.loads(out)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_process_forked_after_use_computes_the_same(threads):
    status, before, child, after = ended(run(FORKING, ENGINE, threads))
    assert status == 0
    assert before == after[0]
    if threads == "1":  # products of torch may add up otherwise for two threads
        assert child == after
    assert [len(numbers) for numbers in child] == [len(numbers) for numbers in after]
    for found, want in zip(child, after, strict=True):
        for a, b in zip(map(float.fromhex, found), map(float.fromhex, want), strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_thirty_two_processes_at_once():
    code = STEP + "\ntorch.set_num_threads(1)\nprint(json.dumps(numbers(sys.argv[1])))"
    processes = [run(code, ENGINE) for _ in range(32)]
    try:
        found = [ended(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(numbers == found[0] for numbers in found)


# --- unseen

WATCHED = """
import sys
bad, reading = [], ("r", "rb", None)

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        import os
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if flags & writes and path != os.devnull:
            bad.append(f"open {path} {mode} {flags}")
    begins = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
              "pty.", "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate",
              "shutil.", "tempfile.", "socket.connect", "socket.bind")
    if event.startswith(begins):
        bad.append(f"{event} {arguments}")
"""
UNSEEN = (
    STEP
    + WATCHED
    + """
import resource
import torch._dynamo  # torch's own import of it, at a first backward pass, makes a folder
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # not even from C can a file be written now
sys.addaudithook(watch)
found = numbers(sys.argv[1])
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([bad, found, children.ru_maxrss, os.listdir()]))
"""
)


def test_no_file_is_written_and_no_process_started(tmp_path):
    nowhere = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), "/nowhere")
    before = ended(run(STEP + "\nprint(json.dumps(numbers(sys.argv[1])))", ENGINE))
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + UNSEEN
    bad, found, children, left = ended(run(code, ENGINE, PATH="", **nowhere))
    assert bad == []
    assert (children, left) == (0, [])
    assert found == before


def test_the_watch_sees_what_it_should():
    code = WATCHED + (
        "import json, os, subprocess, sys, tempfile\n"
        "sys.addaudithook(watch)\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
        "open(os.path.join(tempfile.gettempdir(), f'watched-{os.getpid()}'), 'w').close()\n"
        "os.remove(os.path.join(tempfile.gettempdir(), f'watched-{os.getpid()}'))\n"
        "print(json.dumps([b.split()[0] for b in bad]))"
    )
    seen = ended(run(code))
    assert {"open", "subprocess.Popen", "os.remove"} <= set(seen)
