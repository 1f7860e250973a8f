"""Products of all steps against torch, in which tiles of our own and the vendor's library agree."""

import pytest
import torch

from throughtime.engine.llvm import gemm
from throughtime.engine.llvm.gemm import outer, product, project

KINDS = [torch.float32, torch.float64]
CLOSE = {torch.float32: 2e-5, torch.float64: 1e-12}
# rows, inputs, outputs: ours, ours with odd rows, too few rows, columns that no panel fits, wide
SIZES = [(600, 64, 128), (523, 16, 64), (5, 16, 64), (600, 7, 30), (520, 640, 64)]


def strided(rows, columns, dtype, seed):
    """A matrix whose rows are further apart than they are long."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns + 3, generator=draw, dtype=dtype)[:, :columns]


def blank(rows, columns, dtype):
    """Storage for a result, and all of what it lies in."""
    whole = torch.full((rows, columns + 16), 7.0, dtype=dtype)
    return whole[:, :columns], whole[:, columns:]


@pytest.fixture
def ran(monkeypatch):
    """How often our own kernel ran."""
    calls, launch = [], gemm.launch
    monkeypatch.setattr(gemm, "launch", lambda *given: (calls.append(given), launch(*given)))
    return calls


def agree(got, want):
    close = CLOSE[got.dtype]
    torch.testing.assert_close(got, want, rtol=close, atol=close * want.abs().max().item())


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_project(dtype, size):
    n, i, m = size
    x, weight = strided(n, i, dtype, 0), strided(m, i, dtype, 1)
    out, rest = blank(n, m, dtype)
    assert project(x, weight, out, 2) is out
    agree(out, x @ weight.T)
    assert (rest == 7).all()


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_product(dtype, size):
    n, i, m = size
    a, weight = strided(n, m, dtype, 0), strided(m, i, dtype, 1)
    out, rest = blank(n, i, dtype)
    assert product(a, weight, out, 2) is out
    agree(out, a @ weight)
    assert (rest == 7).all()


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_outer(dtype, size):
    n, i, m = size
    a, x = strided(n, m, dtype, 0), strided(n, i, dtype, 1)
    out, rest = blank(m, i, dtype)
    assert outer(a, x, out) is out
    agree(out, a.T @ x)
    assert (rest == 7).all()


def test_our_tiles_are_taken_where_they_pay(ran):
    """Wide enough rows, few inputs, and columns that fill panels."""
    taken = []
    for n, i, m in SIZES:
        x, weight = torch.zeros(n, i), torch.zeros(m, i)
        project(x, weight, torch.empty(n, m), 2)
        taken.append(bool(ran))
        ran.clear()
    assert taken == [True, True, False, False, False]
    product(torch.zeros(600, 128), torch.zeros(128, 64), torch.empty(600, 64), 2)
    assert ran
    ran.clear()
    product(torch.zeros(600, 640), torch.zeros(640, 30), torch.empty(600, 30), 2)
    assert not ran


@pytest.mark.parametrize("dtype", KINDS)
def test_threads_and_company_change_no_bit(dtype, ran):
    x, weight = strided(791, 48, dtype, 0), strided(64, 48, dtype, 1)
    results = [project(x, weight, torch.empty(791, 64, dtype=dtype), t) for t in (1, 2, 3)]
    some = project(x[100:], weight, torch.empty(691, 64, dtype=dtype), 2)
    assert len(ran) == 4
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=0)
    torch.testing.assert_close(some, results[0][100:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(0, 16, 64), (300, 0, 64), (300, 16, 0)])
def test_nothing_to_multiply(shape):
    n, i, m = shape
    out = project(torch.ones(n, i), torch.ones(m, i), torch.full((n, m), 7.0), 1)
    assert torch.equal(out, torch.full((n, m), float(i)))
    out = product(torch.ones(n, m), torch.ones(m, i), torch.full((n, i), 7.0), 1)
    assert torch.equal(out, torch.full((n, i), float(m)))
    out = outer(torch.ones(n, m), torch.ones(n, i), torch.full((m, i), 7.0))
    assert torch.equal(out, torch.full((m, i), float(n)))


def test_not_a_number_and_infinity_pass():
    x, weight = torch.ones(300, 16), torch.ones(64, 16)
    x[7, 3], x[9, 0] = torch.nan, torch.inf
    out = project(x, weight, torch.empty(300, 64), 1)
    assert out[7].isnan().all()
    assert out[9].isinf().all()
    assert torch.equal(out[10:], torch.full((290, 64), 16.0))
