"""May one layer be called from many threads?"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS

THREADS, CALLS = 8, 40


@pytest.mark.parametrize("name", ["lstm", "gru", "delayed_lstm", "emitting"])
def test_every_thread_gets_the_bits_of_a_call_alone(name):
    layer = tt.Recurrent(CELLS[name], 3, 5, 2, bidirectional=True)
    inputs = [torch.randn(6, 4, 3) for _ in range(CALLS)]
    lengths = [torch.randint(0, 7, (4,)) for _ in range(CALLS)]

    def result(i):
        x = inputs[i].clone().requires_grad_()
        output, _ = layer(x, lengths=lengths[i])
        return output.detach(), torch.autograd.grad(output.sum(), x, materialize_grads=True)[0]

    alone = [result(i) for i in range(CALLS)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(result, range(CALLS)))
    for got, want in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_layers_are_made_in_many_threads():
    def made(i):
        cell = tt.cell("h")(lambda x, h: tt.tanh(tt.affine(f"a{i}", x, h)) + float(i))
        layer = tt.Recurrent(cell, 3, 5)
        return layer(torch.zeros(1, 1, 3))[0].floor().min().item()

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(made, range(1, CALLS)))
    assert all(i - 1 <= n <= i for i, n in zip(range(1, CALLS), found, strict=True))
