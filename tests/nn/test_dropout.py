"""Where does dropout act? On the output of every layer but the last, in training."""

import pytest
import torch

import throughtime as tt

T, B, I = 4, 50, 5


@tt.cell("h")
def handed_on(x):
    return tt.affine("a", x, bias=False)


def identity(**options):
    """Layers that hand on what they get: what is lost is lost by dropout."""
    layer = tt.Recurrent(handed_on, I, I, 3, **options)
    for weight in layer.parameters():
        torch.nn.init.eye_(weight)
    return layer


def test_what_passes_two_dropouts_is_scaled_and_the_rest_is_zero():
    x = torch.rand(T, B, I) + 1.0
    output, _ = identity(dropout=0.5)(x)
    scale = output / x
    assert set(scale.unique().tolist()) == {0.0, 4.0}
    assert 0.2 < (scale > 0).float().mean() < 0.3


def test_states_are_those_before_dropout():
    x = torch.rand(T, B, I) + 1.0
    output, last = identity(dropout=0.5)(x)
    assert torch.equal(last[0], x[-1])
    assert torch.equal(last[2], output[-1])


def test_all_is_lost_with_certainty_and_nothing_in_eval_mode():
    x = torch.rand(T, B, I) + 1.0
    layer = identity(dropout=1.0)
    assert layer(x)[0].abs().max() == 0
    assert torch.equal(layer.eval()(x)[0], x)


def test_the_generator_decides():
    x, layer = torch.rand(T, B, I), identity(dropout=0.5)
    torch.manual_seed(3)
    first, second = layer(x)[0], layer(x)[0]
    torch.manual_seed(3)
    assert torch.equal(layer(x)[0], first)
    assert not torch.equal(second, first)


def test_dropout_of_a_single_layer_warns():
    with pytest.warns(UserWarning, match=r"dropout=0.5 has no effect with num_layers=1"):
        tt.Recurrent(handed_on, I, I, dropout=0.5)
