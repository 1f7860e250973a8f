"""What holds for every test: poisoned memory, fixed seeds, no network."""

import os
import socket

import hypothesis
import pytest
import torch

from throughtime.engine import dispatch
from throughtime.engine.llvm import jit
from throughtime.testing import check

# Folders whose subject is not the fused engine: cells and what is built on layers are judged there
# by the reference and torch's op. The fused engine is held to the same cells, cures and options in
# tests/engine/llvm, and "auto" is as users have it everywhere else.
WITHOUT_FUSED = frozenset({
    "cells",
    "declare",
    "diagnosis",
    "flow",
    "models",
    "report",
    "studies",
    "tasks",
    "train",
})

# These take minutes each: at the end they would keep one worker busy and the others idle.
FIRST = ("test_readme.py", "test_kill.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)


# No deadline: machines are shared. The same examples every time: a red run can be repeated.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


# Workers side by side have a core each: more threads would wait for one another, spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fresh memory is NaN, so that whatever is read before it is written shows."""
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(autouse=True, scope="module")
def engines(request):
    """Outside tests/engine/llvm kernels are built with little effort; in some folders, none is.

    For a module, not a test: what its other fixtures compute must come from the same engines.
    """
    folders = set(request.node.path.parts)
    with pytest.MonkeyPatch.context() as patch:
        if "llvm" not in folders:
            patch.setattr(jit, "_EFFORT", 0)
        if WITHOUT_FUSED & folders:
            others = (dispatch.VENDOR, dispatch.REFERENCE)
            patch.setattr(dispatch, "fastest_first", lambda *_: others)
            patch.setattr(check, "ENGINES", others)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    connect = socket.socket.connect

    def local_only(self, address):
        assert self.family == socket.AF_UNIX, f"a test tried to reach {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
