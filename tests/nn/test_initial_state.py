"""What does a layer know before the first step? A declared value, or a learned one."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from nn.nested import assert_same

T, B, I, H = 5, 3, 2, 4


def made(name, **options):
    layer = tt.Recurrent(CELLS[name], I, H, dtype=torch.float64, **options)
    return layer, torch.randn(T, B, I, dtype=torch.float64)


def test_declared_values_without_learning():
    layer, x = made("projected", proj_size=2)
    start = (torch.zeros(1, B, 2).double(), torch.full((1, B, H), 0.5).double())
    assert_same(layer(x), layer(x, start))
    assert not [name for name, _ in layer.named_parameters() if name.startswith("initial")]


def test_learned_values_start_as_declared():
    layer, _ = made("projected", proj_size=2, learn_initial_state=True, bidirectional=True)
    found = {n: p for n, p in layer.named_parameters() if n.startswith("initial")}
    assert {n: p.shape for n, p in found.items()} == {
        "initial_h_l0": (2,),
        "initial_c_l0": (H,),
        "initial_h_l0_reverse": (2,),
        "initial_c_l0_reverse": (H,),
    }
    assert found["initial_h_l0"].eq(0.0).all()
    assert found["initial_c_l0_reverse"].eq(0.5).all()


def test_a_clock_has_no_learned_start():
    layer, x = made("every_third", learn_initial_state=True)
    assert [n for n, _ in layer.named_parameters() if n.startswith("initial")] == ["initial_h_l0"]
    layer(x)


@pytest.mark.parametrize("engine", ["reference", "vendor", "llvm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_learned_values_are_where_every_row_starts(bidirectional, engine):
    layer, x = made(
        "lstm", learn_initial_state=True, bidirectional=bidirectional, engine=engine, num_layers=2
    )
    starts = [p for n, p in layer.named_parameters() if n.startswith("initial")]
    for start in starts:
        torch.nn.init.normal_(start)

    def state(which):
        found = [p for n, p in layer.named_parameters() if n.startswith(f"initial_{which}")]
        return torch.stack(found)[:, None].expand(-1, B, -1)

    output, _ = layer(x)
    want, _ = layer(x, (state("h"), state("c")))
    assert_same(output, want)
    found = torch.autograd.grad(output.sin().sum(), starts)
    assert_same(found, torch.autograd.grad(want.sin().sum(), starts))


def test_a_state_given_counts_until_a_reset():
    layer, x = made("gru", learn_initial_state=True)
    torch.nn.init.normal_(layer.initial_h_l0)
    hx, reset = torch.randn(1, B, H).double(), torch.zeros(T, B, dtype=torch.bool)
    output, _ = layer(x, hx, reset=reset)
    start = layer.initial_h_l0
    assert torch.autograd.grad(output.sum(), start, materialize_grads=True)[0].eq(0.0).all()
    reset[2, 1] = True
    got, _ = layer(x, hx, reset=reset)
    fresh, _ = layer(x[2:])
    assert_same([got[:2], got[:, [0, 2]], got[2:, 1]], [output[:2], output[:, [0, 2]], fresh[:, 1]])
    gradient = torch.autograd.grad(got.sum(), layer.initial_h_l0)[0]
    assert_same(gradient, torch.autograd.grad(fresh[:, 1].sum(), layer.initial_h_l0)[0])


def test_a_delayed_cell_repeats_its_learned_start():
    layer, x = made("delayed", learn_initial_state=True)
    torch.nn.init.normal_(layer.initial_h_l0)
    history = layer.initial_h_l0.expand(3, 1, B, H)
    output, want = layer(x)[0], layer(x, history)[0]
    assert_same(output, want)
    leaf = [layer.initial_h_l0]
    found, wanted = (torch.autograd.grad(o.sum(), leaf) for o in (output, want))
    assert_same(found, wanted)
