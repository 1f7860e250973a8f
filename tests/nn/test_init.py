"""Do initialisers give what they promise, in every layer, direction and block?"""

import copy
import pickle

import pytest
import torch

import throughtime as tt
from throughtime.declare import Blocks, Param
from throughtime.errors import ConfigError, DtypeError
from throughtime.nn.init import (
    Chrono,
    ForgetBias,
    Glorot,
    Identity,
    Normal,
    Orthogonal,
    SpectralRadius,
    parse_init,
)

I, H, L = 3, 30, 2
STACK = {"num_layers": L, "bidirectional": True, "dtype": torch.float64}
LAYERS = {
    "RNN": lambda **options: tt.RNN(I, H, **STACK, **options),
    "LSTM": lambda **options: tt.LSTM(I, H, **STACK, **options),
    "GRU": lambda **options: tt.GRU(I, H, **STACK, **options),
    "notes' GRU": lambda **options: tt.Recurrent(tt.cells.gru_notes, I, H, **STACK, **options),
    "skipping": lambda **options: tt.Recurrent(
        tt.skip(tt.cells.rnn, [4]), I, H, **STACK, **options
    ),
}


def named(layer, start):
    """The tensors of all layers and directions whose names begin like this."""
    found = [w.detach() for name, w in layer.named_parameters() if name.startswith(start)]
    assert len(found) >= 2 * L or not found
    return found


def blocks(layer):
    return [block for weight in named(layer, "weight_hh") for block in weight.split(H)]


def biases(layer, gate):
    """For each layer and direction the sum of a gate's biases."""
    order = (
        layer.cell.gates if layer.biases == "one" else {"LSTM": "ifgo", "GRU": "rzn"}[layer.mode]
    )
    place = list(order).index(gate)
    single, first, second = (named(layer, n) for n in ("bias_l", "bias_ih", "bias_hh"))
    if single:
        return [bias.split(H)[place] for bias in single]
    return [a.split(H)[place] + b.split(H)[place] for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("kind", LAYERS)
def test_identity(kind):
    layer = LAYERS[kind](init=Identity(0.5))
    assert all(torch.equal(block, 0.5 * torch.eye(H).double()) for block in blocks(layer))
    assert all(bias.abs().max() == 0 for bias in named(layer, "bias"))
    assert all(weight.abs().min() > 0 for weight in named(layer, "weight_ih"))


def test_an_irnn_hands_its_state_on():
    layer = tt.RNN(I, H, nonlinearity="relu", init="identity")
    h = torch.rand(1, 2, H)
    assert torch.equal(layer(torch.zeros(7, 2, I), h)[1], h)


@pytest.mark.parametrize("kind", LAYERS)
def test_orthogonal(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind](init=Orthogonal(2.0))
    found = blocks(layer)
    for block in found:
        error = (block @ block.T - 4.0 * torch.eye(H)).abs().max()
        assert error < 1e-12
    assert not any(torch.equal(found[0], other) for other in found[1:])


def test_orthogonal_blocks_need_not_be_square():
    layer = tt.LSTM(I, H, proj_size=5, dtype=torch.float64, init="orthogonal")
    for block in layer.weight_hh_l0.split(H):
        assert (block.T @ block - torch.eye(5)).abs().max() < 1e-12


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_radius(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind](init=SpectralRadius(0.95, nonzeros=4))
    for block in blocks(layer):
        assert torch.linalg.eigvals(block).abs().max().item() == pytest.approx(0.95)
        assert set((block != 0).sum(0).tolist()) == {4}
        assert len(set((block != 0).sum(1).tolist())) > 1


def test_spectral_radius_of_few_units_and_of_one():
    for units in (1, 3):
        layer = tt.RNN(I, units, init=SpectralRadius(1.2, nonzeros=15))
        radius = torch.linalg.eigvals(layer.weight_hh_l0.detach()).abs().max()
        assert radius.item() == pytest.approx(1.2)


@pytest.mark.parametrize("units", [2, 9])
def test_a_unit_that_sends_to_one_other_never_makes_a_matrix_without_eigenvalues(units):
    torch.manual_seed(0)
    for _ in range(50):
        weight = tt.RNN(I, units, init=SpectralRadius(1.0, nonzeros=1)).weight_hh_l0
        assert weight.isfinite().all()


def test_normal():
    torch.manual_seed(0)
    layer = LAYERS["LSTM"](init=Normal(0.01))
    for weight in named(layer, "weight"):
        assert 0.008 < weight.std() < 0.012
    assert all(bias.abs().max() == 0 for bias in named(layer, "bias"))


@pytest.mark.parametrize("kind", LAYERS)
def test_glorot(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind](init=Glorot(2.0))
    for weight in named(layer, "weight"):
        for block in weight.split(H):
            limit = 2.0 * (6 / sum(block.shape)) ** 0.5
            assert 0.9 * limit < block.abs().max() <= limit
    assert all(bias.abs().max() == 0 for bias in named(layer, "bias"))


def test_glorot_within_a_cell_of_two_layers():
    torch.manual_seed(0)
    layer = tt.Recurrent(tt.cells.gf_gru(layers=2), I, H, init="glorot")
    upper = [weight for name in ("r2", "z2", "n2") for weight in named_one(layer, name)]
    assert len(upper) == 3
    for weight in upper:
        assert 0.9 < weight.abs().max() / (6 / (2 * H)) ** 0.5 <= 1.0


def named_one(layer, gate):
    return [p.detach() for name, p in layer.named_parameters() if name == f"weight_{gate}_l0"]


def test_presets():
    smart = tt.RNN(40, 40, init="pascanu-smart")
    assert set((smart.weight_hh_l0 != 0).sum(0).tolist()) == {15}
    assert 0.009 < smart.weight_ih_l0.std() < 0.011
    assert 0.009 < tt.RNN(40, 40, init="pascanu-sigmoid").weight_hh_l0.std() < 0.011
    assert 0.09 < tt.RNN(40, 40, init="pascanu-tanh").weight_hh_l0.std() < 0.11


KEEPING = {"LSTM": ("f", "i", 1, -1), "GRU": ("z", None, 1, 0), "notes' GRU": ("z", None, -1, 0)}


@pytest.mark.parametrize("kind", KEEPING)
def test_chrono(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind](init=Chrono(100, t_min=20))
    keep, write, sign, other = KEEPING[kind]
    found = biases(layer, keep)
    for bias in found:
        times = (sign * bias).exp()
        assert 20 <= times.min() < 40 < 80 < times.max() <= 99
    assert not torch.equal(found[0], found[1])
    for bias, written in zip(found, biases(layer, write) if write else [], strict=False):
        assert torch.equal(written, other * bias)


def test_chrono_gives_the_time_constants_it_promises():
    """With gates that see their biases alone, what is left of a state after T steps is 1/e."""
    layer = tt.LSTM(I, 200, init="normal:0,chrono:50")
    c = torch.ones(1, 1, 200)
    _, (_, after) = layer(torch.zeros(1, 1, I), (torch.zeros(1, 1, 200), c))
    steps = -1.0 / after.detach().log()  # exact: 1 / log(1 + 1/u), within half a step of 1 + u
    assert 1.4 < steps.min() < 6
    assert 44 < steps.max() < 49.6


def test_forget_bias():
    layer = LAYERS["LSTM"](init=ForgetBias(1.5))
    assert all((bias == 1.5).all() for bias in biases(layer, "f"))
    assert all(
        (bias == -1.5).all() for bias in biases(LAYERS["notes' GRU"](init="forget:1.5"), "z")
    )
    other = torch.cat(biases(layer, "i") + biases(layer, "o"))
    assert not (other == 1.5).any()
    assert other.std() > 0


def test_of_two_biases_the_sum_has_the_value():
    layer = tt.LSTM(I, H, init="forget:1")
    assert (layer.bias_ih_l0[H : 2 * H] == 1.0).all()
    assert (layer.bias_hh_l0[H : 2 * H] == 0.0).all()


def test_the_shift_behind_a_layer_norm_is_the_bias():
    layer = tt.Recurrent(tt.cells.lstm_layer_norm, I, H, init="chrono:30")
    assert torch.equal(layer.shift_f_l0, -layer.shift_i_l0)
    assert layer.shift_f_l0.mean() > 0


def test_cures_change_nothing():
    cell = tt.leaky(tt.zoneout(tt.cells.lstm, 0.1), rate=0.3)
    layer = tt.Recurrent(cell, I, H, init="forget:2")
    assert (layer.bias_l0[H : 2 * H] == 2.0).all()


def test_a_params_shift_with_bounds_is_no_bias_to_set():
    def step(x, h, s):
        z = tt.sigmoid(tt.affine("z", x, h, bias=False) + s)
        return z * h + (1.0 - z) * tt.tanh(tt.affine("n", x, h))

    cell = tt.cell("h", params=[Param("s", Blocks((0.1, 0.2)), low=0.0, high=1.0)])(step)
    with pytest.raises(ConfigError, match="gate 's' of step has no bias here to set"):
        tt.Recurrent(cell, I, H, init=ForgetBias())


def test_in_order_the_last_one_counts():
    layer = tt.LSTM(I, H, init=[Orthogonal(), Normal(0.0), ForgetBias(3.0)])
    assert layer.weight_hh_l0.abs().max() == 0
    assert (layer.bias_ih_l0[H : 2 * H] == 3.0).all()
    assert layer.bias_ih_l0.sum() == 3.0 * H


def test_none_is_torchs_own():
    torch.manual_seed(5)
    ours = tt.LSTM(I, H, L)
    torch.manual_seed(5)
    theirs = torch.nn.LSTM(I, H, L)
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("made", [tt.RNNCell, tt.LSTMCell, tt.GRUCell])
def test_single_steps(made):
    assert torch.equal(made(I, H, init="identity").weight_hh[:H], torch.eye(H))


def test_the_generator_decides_and_reset_parameters_repeats_it():
    torch.manual_seed(1)
    layer = tt.GRU(I, H, init="orthogonal,chrono:10")
    first = [p.detach().clone() for p in layer.parameters()]
    torch.manual_seed(1)
    layer.reset_parameters()
    assert all(map(torch.equal, first, layer.parameters()))
    layer.reset_parameters()
    assert not torch.equal(first[1], layer.weight_hh_l0)


@pytest.mark.parametrize("options", [{"device": "meta"}, {"dtype": torch.bfloat16}], ids=str)
def test_other_devices_and_dtypes(options):
    layer = tt.LSTM(I, H, init="spectral:0.9,orthogonal,identity,chrono:9,forget", **options)
    assert layer.weight_hh_l0.dtype == options.get("dtype", torch.float32)


def test_it_is_printed_and_survives_copies():
    layer = tt.LSTM(I, H, init="orthogonal,chrono:9")
    assert "init=(Orthogonal(gain=1.0), Chrono(t_max=9, t_min=1.0))" in repr(layer)
    assert "init=(ForgetBias(value=1.0),)" in repr(tt.GRUCell(I, H, init=ForgetBias()))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.init == layer.init
        twin.reset_parameters()
        assert torch.equal(twin.bias_hh_l0[H : 2 * H], torch.zeros(H))


TEXTS = {
    "identity": (Identity(1.0),),
    "identity:0.01": (Identity(0.01),),
    "orthogonal": (Orthogonal(),),
    "spectral:0.95": (SpectralRadius(0.95),),
    "spectral:1.2:15": (SpectralRadius(1.2, 15),),
    "normal:1e-2": (Normal(0.01),),
    "chrono:100": (Chrono(100.0),),
    "chrono:100:5": (Chrono(100, 5),),
    "forget": (ForgetBias(1.0),),
    "forget:-1": (ForgetBias(-1.0),),
    "orthogonal, forget:1": (Orthogonal(), ForgetBias(1.0)),
    "pascanu-smart": (Normal(0.01), SpectralRadius(0.95, 15)),
}


@pytest.mark.parametrize("text", TEXTS)
def test_text(text):
    assert parse_init(text) == TEXTS[text]
    assert tt.LSTM(I, H, init=text).init == TEXTS[text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"init='': '' is none; expected identity\[:SCALE\], glorot.* pascanu-smart\.$"),
        ("xavier", r"'xavier' is none; expected identity"),
        ("orthogonal,", r"'' is none"),
        ("chrono", r"'chrono' does not fit chrono:T_MAX\[:T_MIN\]\.$"),
        ("chrono:1", r"does not fit chrono.*t_max=1 and t_min=1.0; expected 0 < t_min"),
        ("chrono:ten", r"'chrono:ten' does not fit"),
        ("identity:nan", r"does not fit identity.*scale=nan; expected a finite number"),
        ("spectral:-1", r"radius=-1.0; expected a finite number from 0"),
        ("spectral:1:2.5", r"nonzeros=2.5; expected a whole number from 1"),
        ("normal:-0.1", r"std=-0.1"),
        ("pascanu-smart:3", r"'pascanu-smart:3' is none"),
        ("orthogonal:1:2", r"does not fit orthogonal\[:GAIN\]\.$"),
    ],
)
def test_texts_that_name_none(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_init(text)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.RNN(I, H, init="chrono:9"), ConfigError, r"init=Chrono.*rnn has no gate that"),
        (lambda: tt.RNN(I, H, init="forget"), ConfigError, r"rnn has no gate that keeps"),
        (lambda: tt.LSTM(I, H, bias=False, init="forget"), ConfigError, r"gate 'f'.* no bias here"),
        (
            lambda: tt.Recurrent(tt.cells.mingru, I, H, init="orthogonal"),
            ConfigError,
            r"mingru has no recurrent matrix to set",
        ),
        (
            lambda: tt.LSTM(I, H, proj_size=4, init="identity"),
            ConfigError,
            r"lstm_projection has no square recurrent matrix",
        ),
        (lambda: tt.LSTM(I, H, init=3), DtypeError, r"init has 3; expected None, an initialiser"),
        (lambda: tt.LSTM(I, H, init=[Orthogonal]), DtypeError, r"init has <class"),
        (lambda: Chrono(True), ConfigError, r"Chrono: t_max=True"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()
