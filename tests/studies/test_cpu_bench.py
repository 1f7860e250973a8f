"""The CPU bench: does everybody compute the same, and is its arithmetic right?"""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch

from throughtime.errors import ConfigError
from throughtime.studies import cpu_bench, cpu_calls, cpu_timing
from throughtime.studies.cpu_bench import CpuBench, CpuRow, bands, measured, share_of_mm
from throughtime.studies.cpu_calls import decaying, report_first_result
from throughtime.studies.cpu_cells import KINDS
from throughtime.studies.cpu_jax import jax_scan
from throughtime.studies.cpu_peers import Contestant, Problem, disagreement, loop, ours, torch_nn
from throughtime.studies.cpu_timing import Effort, big_mm, side_by_side

SIZE = (7, 3, 5, 6)
LEAST = Effort(budget_s=0.0, fewest=1, most=1, fewest_slow=1, mm_size=8)
BY_NAME = {kind.name: kind for kind in KINDS}
GATES = {
    "rnn": 1, "lstm": 4, "gru": 3, "lstm_packed": 4, "lstm_peephole": 4, "gru_reset_before": 3,
    "user": 3,
}  # fmt: skip


# --- Everybody computes the same ------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_peers_compute_what_we_compute(kind, mode):
    problem = Problem.make(kind, SIZE, mode, "reference")
    right = ours(problem).results()
    assert set(right) == {"y"} | ({"x", *problem.weights} if mode == "train" else set())
    peers = [peer for make in (torch_nn, loop, jax_scan) if (peer := make(problem)) is not None]
    assert ("torch.nn" in [p.name for p in peers]) == (
        kind.name in {"rnn", "lstm", "gru"} or kind.packed
    )
    for peer in peers:
        assert disagreement(right, peer.results()) is None, peer.name
        assert disagreement(right, peer.results()) is None, "gradients are not added up"
    assert all(bool(value.any()) for value in right.values())


def test_packed_rows_end_where_their_lengths_say():
    problem = Problem.make(BY_NAME["lstm_packed"], (9, 40, 5, 6), "infer", "reference")
    lengths = problem.lengths.tolist()
    assert min(lengths) == 5
    assert max(lengths) == 9
    assert lengths != sorted(lengths)
    y = loop(problem).results()["y"]
    for row, length in enumerate(lengths):
        assert not y[length:, row].any()
        assert y[length - 1, row].all()


def test_disagreement_is_measured_by_the_largest_element():
    right = {"y": torch.tensor([100.0, 0.0])}
    assert disagreement(right, {"y": torch.tensor([100.0, 0.009])}) is None
    assert "y differs by 1.1e-04" in disagreement(right, {"y": torch.tensor([100.0, 0.011])})
    assert "nan" in disagreement(right, {"y": torch.tensor([100.0, math.nan])})
    assert "shape" in disagreement(right, {"y": torch.zeros(1)})
    assert "x" in disagreement(right, right | {"x": torch.zeros(1)})
    assert disagreement({"y": torch.zeros(2)}, {"y": torch.ones(2)}) is not None


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch):
    kind = BY_NAME["user"]
    runs = []

    def wrong(problem):
        plain = loop(problem)

        def results():
            found = plain.results()
            return found | {"weight_hh": 1.001 * found["weight_hh"]}

        return dataclasses.replace(plain, results=results, run=lambda: runs.append(1))

    monkeypatch.setitem(cpu_bench.PEERS, "loop", wrong)
    row = measured(kind, SIZE, "train", "reference", LEAST)
    assert row.peers["loop"] is None
    assert "weight_hh differs by 1.0e-03" in row.refused["loop"]
    assert not runs
    assert row.ours_ms > 0
    assert not CpuBench("auto", [row], [], None).is_right


def test_an_engine_that_refuses_leaves_an_empty_row():
    row = measured(BY_NAME["user"], SIZE, "infer", "vendor", LEAST)
    assert (row.ours_ms, row.share_of_mm) == (None, None)
    assert set(row.peers.values()) == {None}
    assert "vendor" in row.refused["ours"]
    assert CpuBench("vendor", [row], [], None).is_right
    with pytest.raises(ConfigError, match="fastest"):
        measured(BY_NAME["user"], SIZE, "infer", "fastest", LEAST)


# --- Arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_operations_are_those_of_the_matrices(kind):
    T, B, I, H = SIZE
    problem = Problem.make(kind, SIZE, "infer", "reference")
    steps = sum(problem.lengths.tolist()) if kind.packed else T * B
    assert problem.flops == 2 * GATES[kind.name] * H * (I + H) * steps
    assert dataclasses.replace(problem, mode="train").flops == 3 * problem.flops


def test_share_of_mm():
    # 6 GFLOP in 0.25 s are 24 GFLOP/s; 2 * 2000^3 = 16 GFLOP in 0.2 s are 80.
    assert share_of_mm(6_000_000_000, 0.25, 2000, 0.2) == pytest.approx(0.3, rel=1e-12)


def test_a_rows_share_is_that_of_its_numbers():
    row = measured(BY_NAME["lstm"], SIZE, "train", "auto", LEAST)
    flops = 3 * 2 * 4 * 6 * (5 + 6) * 7 * 3
    by_hand = (flops / row.ours_ms) / (2 * 8**3 / row.mm_ms)
    assert row.share_of_mm == pytest.approx(by_hand, rel=1e-9)
    assert row.ratio("loop") == row.peers["loop"] / row.ours_ms
    assert row.name == "lstm/7x3x5x6/train"


def row_of(cell, mode, hidden, ours_ms, theirs_ms, share):
    peers = {"torch.nn": theirs_ms, "loop": None, "jax": None}
    return CpuRow(cell, 1, 1, 1, hidden, mode, ours_ms, peers, share)


def test_bands_have_geometric_means_and_worst_cases():
    found = bands([
        row_of("lstm", "train", 64, 2.0, 8.0, 0.5),
        row_of("lstm", "train", 32, 2.0, 2.0, 0.125),
        row_of("lstm", "train", 65, 1.0, 16.0, 0.25),
        row_of("gru", "train", 64, None, 3.0, None),
    ])
    assert [(b["cell"], b["H_up_to"], b["rows"]) for b in found] == [
        ("lstm", 64, 2), ("lstm", 128, 1), ("lstm", None, 3), ("gru", 64, 1), ("gru", None, 1)
    ]  # fmt: skip
    first, second, every = (b["peers"]["torch.nn"] for b in found[:3])
    assert first == {"geometric_mean": pytest.approx(2.0), "worst": 1.0}
    assert second == {"geometric_mean": pytest.approx(16.0), "worst": 16.0}
    assert every == {"geometric_mean": pytest.approx(4.0), "worst": 1.0}
    assert found[2]["share_of_mm"] == {"geometric_mean": pytest.approx(0.25), "worst": 0.125}
    nothing = {"geometric_mean": None, "worst": None}
    assert found[0]["peers"]["jax"] == found[3]["share_of_mm"] == nothing


def test_the_grid_is_the_published_one():
    assert len(cpu_bench.GRID) == 8
    assert {size[3] for size in cpu_bench.GRID} == set(cpu_bench.BANDS)
    assert set(cpu_bench.QUICK_GRID) < set(cpu_bench.GRID)


# --- Timing ---------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_only_the_call_is_timed(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(cpu_timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def contestant(name, seconds, *, is_slow=False):
        left = iter(seconds)

        def run():
            order.append(name)
            clock[0] += next(left)

        def ready():
            clock[0] += 1_000.0

        return Contestant(name, run, dict, ready, is_slow)

    # Two runs before; then medians of the rest.
    a = contestant("a", [50.0, 1.0, 1.0, 9.0, 2.0, 3.0, 1.5])
    b = contestant("b", [50.0, 8.0, 8.0, 6.0], is_slow=True)
    timed = side_by_side([a, b], Effort(budget_s=0.0, fewest=5, most=9, fewest_slow=2))
    assert timed.medians_s == {"a": 2.0, "b": 7.0}
    assert timed.runs == {"a": 5, "b": 2}
    assert "".join(order) == "abab" + "a" + "a" + "ab" + "a" + "ab"
    order.clear()
    both = [contestant(name, [1.0] * 5) for name in "ab"]
    _ = side_by_side(both, Effort(budget_s=0.0, fewest=3, most=9, fewest_slow=2))
    assert "".join(order) == "abab" + "ab" + "ba" + "ab"


def test_how_often_a_call_runs():
    effort = Effort(budget_s=6.0, fewest=7, most=41, fewest_slow=3)
    assert effort.runs(0.1, 3, is_slow=False) == 20
    assert effort.runs(1e-6, 3, is_slow=False) == 41
    assert effort.runs(2.0, 3, is_slow=False) == 7
    assert effort.runs(2.0, 3, is_slow=True) == 3
    assert effort.runs(0.0, 3, is_slow=True) == 41


def test_the_big_product_is_a_product():
    product = big_mm(5).run()
    drawn = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 5, generator=drawn), torch.randn(5, 5, generator=drawn)
    assert torch.allclose(product, a @ b)


# --- Pairs of calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_leaky_unit_becomes_denormal_and_its_twin_does_not(mode, monkeypatch):
    monkeypatch.setattr(cpu_calls, "DECAY", (1_000, 2, 3, 4))
    fading, kept = (one.results() for one in decaying(mode, "reference"))
    tiny = torch.finfo(torch.float32).tiny
    assert fading["y"][-1].all()
    assert (fading["y"][-1].abs() < tiny).all()
    assert (kept["y"][900:].abs() > 0.1).all()
    if mode == "train":
        assert fading["x"].shape == kept["x"].shape
        assert fading["x"][0].abs().max() < tiny < fading["x"][-1].abs().max()
        assert kept["x"][0].abs().max() > 1e-3


def test_a_users_lstm_that_is_none_is_not_timed(monkeypatch):
    monkeypatch.setattr(cpu_calls, "SAME_SIZES", (SIZE,))
    name = "same/7x3x5x6/train"
    row = cpu_calls.planned("reference", LEAST)[name]()
    assert row.ratio == row.ours_ms / row.against_ms
    assert not row.refused
    monkeypatch.setattr(
        cpu_calls, "_users_lstm", BY_NAME["lstm_peephole"].layer(1, 1, engine="auto").cell
    )
    with pytest.raises(RuntimeError, match="p_i"):
        cpu_calls.planned("reference", LEAST)[name]()
    # Gates in another order: the same tensors mean something else.
    monkeypatch.setattr(cpu_calls, "_users_lstm", swapped())
    row = cpu_calls.planned("reference", LEAST)[name]()
    assert row.ratio is None
    assert "differs" in row.refused["our LSTM"]
    assert not CpuBench("auto", [], [row], None).is_right


def swapped():
    import throughtime as tt

    @tt.cell("h c")
    def other(x, h, c):
        f, i, g, o = tt.affine("f i g o", x, h)
        c = tt.sigmoid(f) * c + tt.sigmoid(i) * tt.tanh(g)
        return tt.sigmoid(o) * tt.tanh(c), c

    return other


def test_pairs_that_the_engine_refuses_stay_empty(monkeypatch):
    monkeypatch.setattr(cpu_calls, "DECAY", (10, 2, 3, 4))
    row = cpu_calls.planned("vendor", LEAST)["denormal/train"]()
    assert row.ratio is None
    assert "vendor" in row.refused["ours"]


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_first_result_is_reported_in_seconds(mode, capsys):
    report_first_result("reference", mode, torch.get_num_threads())
    assert 0 < json.loads(capsys.readouterr().out) < 600


@pytest.mark.slow
def test_the_first_result_is_measured_in_new_processes():
    found = cpu_calls.planned("auto", LEAST)["first"]()
    assert set(found.seconds) == {"train", "infer"}
    assert all(seconds > 0 for seconds in found.seconds.values())
