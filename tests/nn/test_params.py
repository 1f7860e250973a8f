"""Do a cell's own params keep their promises? Bounds, initial values, buffers, names."""

import pytest
import torch

import throughtime as tt
from contract.own_cells import CELLS
from throughtime import Param, Uniform

H = 6


def made(**options):
    return tt.Recurrent(CELLS["bounded"], 3, H, dtype=torch.float64, **options)


def scaled(param):
    return tt.cell("h", params=[param])(lambda x, p: p * tt.affine("a", x))


def test_names_of_parameters_and_buffers():
    layer = made(bidirectional=True)
    own = {"retain_raw", "floor_raw", "roof_raw", "gain", "scale"}
    suffixes = ("_l0", "_l0_reverse")
    found = {name for name, _ in layer.named_parameters()}
    found -= {name for name in found if name.startswith(("weight", "bias"))}
    assert found == {f"{name}{suffix}" for name in own for suffix in suffixes}
    assert {name for name, _ in layer.named_buffers()} == {f"fixed{s}" for s in suffixes}


def test_initial_values_are_as_declared():
    layer = made()
    assert ((layer.retain_l0 > 0.2) & (layer.retain_l0 < 0.8)).all()
    assert layer.retain_l0.unique().numel() == H
    torch.testing.assert_close(layer.floor_l0, torch.full((H,), 0.5).double())
    torch.testing.assert_close(layer.roof_l0, torch.full((H,), -0.5).double())
    assert layer.gain_l0.tolist() == [0.5] * 3 + [1.5] * 3
    assert layer.scale_l0.tolist() == [1.0]
    assert ((layer.fixed_l0 >= 0.9) & (layer.fixed_l0 < 1.1)).all()


def test_bounds_hold_after_any_update():
    layer = made()
    for size in (1e-3, 1.0, 30.0):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += size * torch.randn_like(parameter)
        assert ((layer.retain_l0 >= 0.0) & (layer.retain_l0 <= 1.0)).all()
        assert (layer.floor_l0 >= 0.1).all()
        assert (layer.roof_l0 <= 2.0).all()


def test_values_near_a_bound_survive_being_stored():
    layer = tt.Recurrent(scaled(Param("p", init=1e-9, low=0.0)), 1, 1)
    torch.testing.assert_close(layer.p_l0, torch.tensor([1e-9]), rtol=1e-5, atol=0)


def test_gradients_reach_the_raw_tensor():
    layer = made()
    layer(torch.randn(3, 2, 3).double())[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
    assert not layer.fixed_l0.requires_grad


def test_fixed_values_are_saved_and_moved_with_the_layer():
    layer, other = made(), made()
    assert not torch.equal(layer.fixed_l0, other.fixed_l0)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer.fixed_l0, other.fixed_l0)
    assert other.float().fixed_l0.dtype == torch.float32


def test_blocks_that_do_not_divide_the_units():
    cell = scaled(Param("p", tt.Blocks((1, 2, 3))))
    assert tt.Recurrent(cell, 1, 7).p_l0.tolist() == [1, 1, 1, 2, 2, 2, 3]


def test_a_uniform_start_differs_between_layers():
    layer = tt.Recurrent(scaled(Param("p", Uniform(0, 1))), 3, 3, 2)
    assert not torch.equal(layer.p_l0, layer.p_l1)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="retain_l1"):
        _ = made().retain_l1


def test_reset_parameters_draws_again():
    layer = made()
    before = layer.retain_l0.detach().clone(), layer.weight_ih_l0.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.retain_l0, before[0])
    assert not torch.equal(layer.weight_ih_l0, before[1])
    assert layer.gain_l0.tolist() == [0.5] * 3 + [1.5] * 3


def test_matrices_start_as_in_torch():
    layer = tt.LSTM(3, 400, dtype=torch.float64)
    for weight in layer.parameters():
        assert weight.abs().max() <= 400**-0.5
        assert weight.abs().max() > 0.98 * 400**-0.5
        assert weight.mean().abs() < 0.05 * 400**-0.5
