"""Does a cell survive being written down, copied, and sent to another process?"""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from random_cells import random_cell
from throughtime import declare as tt
from throughtime.cells import CATALOGUE
from throughtime.declare import affine
from throughtime.declare.slots import slots

N_SENT = 20

KEYS = f"""
from random_cells import random_cell
from throughtime.cells import CATALOGUE
cells = [*CATALOGUE.values(), *map(random_cell, range({N_SENT}))]
for cell in cells:
    print(cell.graph_key, cell.key, hash(cell.text) and len(cell.text))
"""


def assert_same(a, b):
    """All that a cell is, names and order too."""
    assert a == b
    for field in a.__dataclass_fields__:
        assert getattr(a, field) == getattr(b, field)  # nodes are shared, so this is identity
    assert a.text == b.text
    assert slots(a) == slots(b)


@pytest.mark.parametrize("name", CATALOGUE)
def test_text_and_back(name):
    assert_same(tt.restore(CATALOGUE[name].text), CATALOGUE[name])


@given(st.integers(0, 10_000))
def test_text_and_back_of_random_cells(seed):
    cell = random_cell(seed)
    assert_same(tt.restore(cell.text), cell)


@given(st.floats(allow_nan=False))
def test_numbers_are_exact(number):
    cell = tt.cell([tt.State("h", initial=number)], params=[tt.Param("p", init=number)])(
        lambda x, h, p: affine("a", x, h) * p + number
    )
    assert_same(tt.restore(cell.text), cell)


def test_the_text_is_flat_json():
    content = json.loads(CATALOGUE["lstm"].text)
    for i, (_op, args, _data, _width) in enumerate(content["nodes"]):
        assert all(a < i for a in args)


def from_lambdas():
    return tt.cell(
        "h",
        params=[tt.Param("p", tt.Uniform(0.1, 0.9), low=0.0, high=1.0)],
        extras=[tt.Extra("m", tt.Bernoulli(0.5, 2.0), eval=1.0, per="sequence")],
        emit=lambda h: tt.tanh(h),
        source="nobody",
    )(lambda x, h, p, m: affine("a", x, h * m) * p)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_cell_from_lambdas_is_pickled(protocol):
    cell = from_lambdas()
    assert_same(pickle.loads(pickle.dumps(cell, protocol)), cell)


def test_a_cell_is_copied_as_itself():
    cell = from_lambdas()
    assert copy.copy(cell) is cell
    assert copy.deepcopy({"cell": [cell]})["cell"][0] is cell


def test_a_cell_is_saved_by_torch(tmp_path):
    torch.save(from_lambdas(), tmp_path / "cell.pt")
    assert_same(torch.load(tmp_path / "cell.pt", weights_only=False), from_lambdas())


def sent_back(cell):
    return cell, cell.key


def test_a_cell_is_sent_to_a_spawned_process():
    cell = from_lambdas()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back, key = pool.apply(sent_back, (cell,))
    assert_same(back, cell)
    assert key == cell.key


def run(code: str, **env: str) -> str:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_keys_and_texts_are_equal_in_every_process():
    first, second = (run(KEYS, PYTHONHASHSEED=seed).splitlines() for seed in ("1", "4711"))
    cells = [*CATALOGUE.values(), *map(random_cell, range(N_SENT))]
    here = [f"{c.graph_key} {c.key} {len(c.text)}" for c in cells]
    assert len(here) == len(CATALOGUE) + N_SENT
    assert first == second == here


@pytest.mark.parametrize("module", ["throughtime.declare", "throughtime.cells"])
def test_a_declaration_needs_no_torch(module):
    loaded = run(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not {"torch", "numpy"} & set(loaded)
