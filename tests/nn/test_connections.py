"""Does a layer's input pass it as it should: added, mixed by a gate, or not at all?"""

import copy
import pickle

import pytest
import torch
from nested import assert_same

import throughtime as tt
from throughtime.errors import ConfigError

T, B, I, H = 6, 4, 3, 5
LENGTHS = [6, 0, 2, 5]
REAL = (torch.arange(T)[:, None] < torch.tensor(LENGTHS)).unsqueeze(-1)
DOUBLE = {"dtype": torch.float64}


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), **DOUBLE)


def by_hand(layer, x):
    """The layers called one by one, and joined here."""
    last = []
    for k in range(layer.num_layers):
        single = type(layer)(x.shape[-1], H, bidirectional=layer.bidirectional, **DOUBLE)
        own = {n.replace(f"_l{k}", "_l0"): v for n, v in layer.named_parameters() if f"_l{k}" in n}
        gate = [own.pop(f"{n}_highway_l0", None) for n in ("weight", "bias")]
        y, h = torch.func.functional_call(single, own, (x,), {"lengths": LENGTHS})
        last.append(h)
        if y.shape != x.shape:
            x = y
        elif layer.connections == "residual":
            x = torch.where(REAL, x + y, 0.0)
        else:
            t = (x @ gate[0].T + gate[1]).sigmoid()
            x = torch.where(REAL, t * y + (1.0 - t) * x, 0.0)
    return x, torch.cat(last)


@pytest.mark.parametrize("both", [False, True], ids=["forward", "both directions"])
@pytest.mark.parametrize("features", [I, "as wide"])
@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_the_layers_are_joined(kind, features, both):
    features = H * (1 + both) if features == "as wide" else features
    layer = tt.GRU(features, H, 3, bidirectional=both, connections=kind, **DOUBLE)
    x = drawn(T, B, features)
    got, want = layer(x, lengths=LENGTHS), by_hand(layer, x)
    assert_same(got, want)
    parameters = list(layer.parameters())
    assert_same(
        torch.autograd.grad(got[0].square().sum(), parameters),
        torch.autograd.grad(want[0].square().sum(), parameters),
    )
    # The first layer only where it is as wide as its input.
    highways = [n for n, _ in layer.named_parameters() if n.startswith("weight_highway")]
    first = 0 if features != I else 1
    assert highways == [f"weight_highway_l{k}" for k in range(first, 3) if kind == "highway"]


def highway(bias):
    layer = tt.RNN(H, H, 2, connections="highway", **DOUBLE)
    for k in range(2):
        torch.nn.init.zeros_(getattr(layer, f"weight_highway_l{k}"))
        torch.nn.init.constant_(getattr(layer, f"bias_highway_l{k}"), bias)
    return layer


def test_an_open_highway_hands_x_on_and_a_closed_one_is_plain():
    x = drawn(T, B, H)
    y, _ = highway(-1e4)(x, lengths=LENGTHS)
    assert torch.equal(y, torch.where(REAL, x, 0.0))
    closed, plain = highway(1e4), tt.RNN(H, H, 2, **DOUBLE)
    plain.load_state_dict({k: v for k, v in closed.state_dict().items() if "highway" not in k})
    assert_same(closed(x, lengths=LENGTHS), plain(x, lengths=LENGTHS))


def test_at_the_start_most_of_x_passes():
    layer = tt.RNN(H, H, connections="highway")
    assert (layer.bias_highway_l0 == -1.0).all()
    assert 0 < layer.weight_highway_l0.abs().max() <= H**-0.5
    torch.nn.init.zeros_(layer.bias_highway_l0)
    layer.reset_parameters()
    assert (layer.bias_highway_l0 == -1.0).all()


def test_plain_is_the_layer_of_before():
    torch.manual_seed(0)
    joined = tt.LSTM(H, H, 2, connections="plain")
    torch.manual_seed(0)
    layer = tt.LSTM(H, H, 2)
    x = torch.randn(T, B, H)
    assert all(map(torch.equal, joined(x)[1], layer(x)[1]))
    assert list(joined.state_dict()) == list(layer.state_dict())


def test_an_untrained_residual_stack_passes_gradients_that_a_plain_one_loses():
    norms = []
    for kind in ("plain", "residual"):
        layer = tt.RNN(H, H, 8, connections=kind, init="normal:0.01", **DOUBLE)
        x = drawn(T, B, H).requires_grad_()
        layer(x)[0].square().sum().backward()
        norms.append(x.grad.norm().item())
    assert norms[0] < 1e-6 < 1.0 < norms[1]


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_padding_may_be_no_number(kind):
    layer = tt.GRU(H, H, connections=kind, **DOUBLE)
    x = torch.where(REAL, drawn(T, B, H), float("nan"))
    y, _ = layer(x, lengths=LENGTHS)
    y.square().sum().backward()
    assert torch.equal(y, torch.where(REAL, y, 0.0))
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_dropout_acts_on_what_is_joined(kind):
    layer = tt.RNN(H, H, 2, dropout=1.0, connections=kind)
    layer(torch.randn(T, B, H))[0].sum().backward()
    assert layer.weight_ih_l1.grad.abs().max() == 0


def test_widths_that_differ_between_layers():
    layer = tt.Recurrent(tt.cells.rnn, I, [4, 6, 6], 3, connections="highway")
    assert [n for n in layer.state_dict() if "highway" in n] == [
        "weight_highway_l2",
        "bias_highway_l2",
    ]
    layer(torch.randn(T, B, I))


def test_explain_is_unaffected():
    layer, plain = tt.LSTM(H, H, connections="residual"), tt.LSTM(H, H)
    x = torch.randn(T, B, H)
    assert layer.explain(x) == plain.explain(x)


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_batch_first_no_batch_packed_compiled_and_copied(kind):
    layer = tt.GRU(H, H, 2, connections=kind, batch_first=True, **DOUBLE)
    x = drawn(B, T, H)
    want = layer(x)[0]
    assert_same(layer(x[1])[0], want[1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 4, 2, 1], batch_first=True)
    unpacked, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
    assert_same(unpacked, layer(x, lengths=[6, 4, 2, 1])[0])
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert_same(compiled(x, lengths=[6, 4, 2, 1])[0], unpacked)
    assert f"connections='{kind}'" in repr(layer)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x)[0], want)
    other = tt.GRU(H, H, 2, connections=kind, batch_first=True, **DOUBLE)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], want)


def test_under_autocast_the_output_has_its_dtype():
    for kind in ("residual", "highway"):
        layer = tt.GRU(H, H, connections=kind)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(T, B, H))[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: tt.RNN(I, H, connections="residual"),
            r"connections='residual', but no layer is as wide as its input \(the layers are 3 -> 5",
        ),
        (
            lambda: tt.RNN(H, H, bidirectional=True, connections="highway"),
            r"connections='highway', but no layer .*\(the layers are 5 -> 10\); take two or more",
        ),
        (
            lambda: tt.RNN(H, H, connections="dense"),
            r"connections='dense'; expected 'plain', 'residual', 'highway'\.",
        ),
        (lambda: tt.RNN(H, H, connections=None), r"connections=None; expected 'plain'"),
        (lambda: tt.RNN(H, H, connections=["plain"]), r"connections=\['plain'\]; expected"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
