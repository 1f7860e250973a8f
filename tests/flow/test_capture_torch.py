"""Are torch.nn's layers seen as they are? Values, gradients, and the error at every step."""

import itertools

import pytest
import torch
from stepped_by_hand import adjoints, kept_gradients, row_by_hand
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from throughtime.errors import ConfigError, ShapeError
from throughtime.flow.capture import watching
from throughtime.flow.torch_modules import LAYERS

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")  # torch's

T, B, I, H = 5, 3, 3, 4
LENGTHS = [3, 5, 1]


def kinds():
    """Every kind with every option of its constructor, as (class, options)."""
    flags = [(False, True)] * 3
    for layers, (bias, batch_first, bidirectional) in itertools.product(
        (1, 2), itertools.product(*flags)
    ):
        common = {
            "num_layers": layers,
            "bias": bias,
            "batch_first": batch_first,
            "bidirectional": bidirectional,
            "dropout": 0.5 if layers > 1 else 0.0,
        }
        yield nn.GRU, common
        for nonlinearity in ("tanh", "relu"):
            yield nn.RNN, common | {"nonlinearity": nonlinearity}
        for proj_size in (0, 2):
            yield nn.LSTM, common | {"proj_size": proj_size}


KINDS = list(kinds())


def label(case):
    kind, options = case
    return "-".join([kind.__name__, *(f"{k}={v}" for k, v in options.items())])


def inputs_of(module, how, dtype):
    """A module's arguments: padded, packed either way, without a batch; with a state or not."""
    shape = (T, I) if how == "unbatched" else (B, T, I) if module.batch_first else (T, B, I)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    rows = () if how == "unbatched" else (B,)
    count = module.num_layers * (1 + module.bidirectional)
    widths = [module.proj_size or H] + [H] * (module.mode == "LSTM")
    hx = tuple(torch.randn(count, *rows, w, dtype=dtype, requires_grad=True) for w in widths)
    hx = None if how == "no state" else hx if module.mode == "LSTM" else hx[0]
    if how.startswith("packed"):
        ordered = how == "packed"
        lengths = sorted(LENGTHS, reverse=True) if ordered else LENGTHS
        packed = pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=ordered)
        return packed, hx, [x]
    leaves = [x, *(hx if isinstance(hx, tuple) else () if hx is None else (hx,))]
    return x, hx, leaves


HOW = ["state", "no state", "packed", "packed in any order", "unbatched"]


def tensors(value):
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else [t for v in value for t in tensors(v)]


def energy(results):
    """A loss that depends on everything, unevenly."""
    return sum(
        (t * torch.linspace(1, 2, t.numel()).view(t.shape).to(t)).sin().sum()
        for t in tensors(results)
    )


def gradients(module, results, leaves):
    wanted = [*module.parameters(), *leaves]
    return torch.autograd.grad(energy(results), wanted, allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", KINDS, ids=label)
def test_replays_to_rounding(case, how, training):
    kind, options = case
    module = kind(I, H, **options | ({"dropout": 0.0} if training else {})).train(training)
    x, hx, _ = inputs_of(module, how, torch.float32)
    own = module(x, hx)
    with watching(module) as watch:
        seen = module(x, hx)
    found = watch.passages(energy(seen))
    assert len(found) == module.num_layers * (1 + module.bidirectional)
    assert all(p.replay_error <= 1e-6 for p in found)
    for a, b in zip(tensors(seen), tensors(own), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert isinstance(seen[0], PackedSequence) == how.startswith("packed")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", [c for c in KINDS if c[1]["num_layers"] == 2], ids=label)
def test_dropout_is_drawn_as_torch_draws_it(case, how):
    kind, options = case
    module = kind(I, H, dtype=torch.float64, **options).train()
    x, hx, leaves = inputs_of(module, how, torch.float64)
    torch.manual_seed(5)
    own = gradients(module, module(x, hx), leaves)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    with watching(module) as watch:
        seen = module(x, hx)
    assert torch.equal(torch.get_rng_state(), after)
    for a, b in zip(gradients(module, seen, leaves), own, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert all(p.replay_error <= 1e-12 for p in watch.passages(energy(seen)))


def test_another_mask_would_show():
    module = nn.LSTM(I, H, 2, dropout=0.5, dtype=torch.float64).train()
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert not torch.allclose(module(x)[0], module(x)[0])


MANY = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"num_layers": 2, "bias": False}),
    (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    (nn.GRU, {"num_layers": 3, "dropout": 0.4, "bidirectional": True}),
    (nn.LSTM, {"num_layers": 2, "dropout": 0.4}),
]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("case", MANY, ids=label)
def test_error_at_every_step_is_that_of_brute_force(case, lengths):
    kind, options = case
    torch.manual_seed(2)
    module = kind(I, H, dtype=torch.float64, **options)
    x = torch.randn(T, B, I, dtype=torch.float64)
    features = (1 + module.bidirectional) * (module.proj_size or H)
    weight = torch.randn(T, B, features, dtype=torch.float64)
    given = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
    torch.manual_seed(3)
    with watching(module) as watch:
        out = module(given)[0]
        out = out if lengths is None else pad_packed_sequence(out)[0]
        loss = (out * weight).sin().sum()
    passages = {p.name: p for p in watch.passages(loss, rows=B)}
    torch.manual_seed(3)
    masks = drawn(module, x, lengths, features)
    for row in range(B):
        length = T if lengths is None else lengths[row]
        y, states = row_by_hand(module, x[:length, row], masks=[m[:length, row] for m in masks])
        (y * weight[:length, row]).sin().sum().backward()
        for (layer, reverse), steps in states.items():
            name = kind.__name__ + (f" l{layer}" if module.num_layers > 1 else "")
            passage = passages[name + (" reverse" if reverse else "")]
            got = adjoints(passage)
            for i in range(len(steps[0])):
                want = kept_gradients(steps, i)
                torch.testing.assert_close(got[i][:length, row], want, rtol=1e-8, atol=1e-8)
                assert not got[i][length:, row].any()


def drawn(module, x, lengths, features):
    """The masks that torch draws, [T, B, O] each."""
    if not module.dropout:
        return []
    found = []
    for _ in range(module.num_layers - 1):
        ones = torch.ones(T, B, features, dtype=torch.float64)
        if lengths is None:
            found.append(nn.functional.dropout(ones, module.dropout))
        else:
            packed = pack_padded_sequence(ones, lengths, enforce_sorted=False)
            data = nn.functional.dropout(packed.data, module.dropout)
            found.append(pad_packed_sequence(packed._replace(data=data))[0])
    return found


def test_rows_are_drawn_by_the_seed_and_stand_in_order():
    module = nn.GRU(I, H, dtype=torch.float64)
    x = torch.randn(T, 9, I, dtype=torch.float64)
    with watching(module) as watch:
        loss = module(x)[0].sin().sum()
    whole = adjoints(watch.passages(loss, rows=9)[0])[0]
    some = {seed: adjoints(watch.passages(loss, rows=4, seed=seed)[0])[0] for seed in (0, 1)}
    rows = {}
    for seed, part in some.items():
        same = (part[0][:, None] == whole[0][None]).all(-1)
        rows[seed] = same.nonzero()[:, 1].tolist()
        assert rows[seed] == sorted(rows[seed])
        assert len(rows[seed]) == 4
        assert torch.equal(part, whole[:, rows[seed]])
    assert rows[0] != rows[1]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, I)
        self.body = nn.ModuleDict({"lower": nn.LSTM(I, H, batch_first=True)})
        self.upper = nn.GRU(H, H, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.unused = nn.RNN(H, H)
        self.head = nn.Linear(2 * H, 2)

    def forward(self, symbols):
        x, _ = self.body["lower"](self.embedding(symbols))
        x, _ = self.upper(nn.functional.relu(x, inplace=True))
        return self.head(x)


def test_layers_anywhere_inside_a_module_are_named_by_their_path():
    net, symbols = Net(), torch.randint(7, (B, T))
    with watching(net) as watch:
        loss = net(symbols).square().mean()
    found = [(p.name, p.kind) for p in watch.passages(loss)]
    assert found == [
        ("body.lower", "nn.LSTM"),
        ("upper l0", "nn.GRU"),
        ("upper l0 reverse", "nn.GRU"),
        ("upper l1", "nn.GRU"),
        ("upper l1 reverse", "nn.GRU"),
    ]
    assert watch.refused == {"unused": "it was not called"}


def test_what_the_caller_changes_in_place_changes_nothing_here():
    net, symbols = Net().double().eval(), torch.randint(7, (B, T))
    with watching(net) as watch:
        loss = net(symbols).square().mean()
    lower = watch.passages(loss)[0]
    x = net.embedding(symbols).detach()
    for row in range(B):
        y, states = row_by_hand(net.body["lower"], x[row])
        net.head(net.upper(torch.relu(y)[None])[0]).square().sum().div(B * T * 2).backward()
        want = kept_gradients(states[0, False], 0)
        torch.testing.assert_close(adjoints(lower)[0][:, row], want, rtol=1e-8, atol=1e-8)


def test_gradients_and_model_are_as_without_watching():
    net, symbols = Net().double(), torch.randint(7, (B, T))
    calls = []
    net.upper.register_forward_hook(lambda *_: calls.append("after"))
    before = {kind: kind.forward for kind in LAYERS}
    for mode in (True, False):
        net.train(mode)
        torch.manual_seed(1)
        own = torch.autograd.grad(net(symbols).square().mean(), used := list(named(net)))
        torch.manual_seed(1)
        with watching(net) as watch:
            loss = watch.model(symbols).square().mean()
        assert watch.passages(loss)
        for a, b in zip(torch.autograd.grad(loss, used), own, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert net.training is mode
    assert calls == ["after"] * 4
    assert all(p.grad is None for p in net.parameters())
    assert {kind: kind.forward for kind in LAYERS} == before


def named(net):
    return (p for n, p in net.named_parameters() if not n.startswith("unused"))


def test_everything_is_put_back_after_an_exception():
    net, before = Net(), {kind: kind.forward for kind in LAYERS}
    with pytest.raises(RuntimeError, match="in the middle"), watching(net):
        raise RuntimeError("in the middle")
    assert {kind: kind.forward for kind in LAYERS} == before


def test_other_models_are_left_alone_meanwhile():
    one, other = nn.LSTM(I, H), nn.LSTM(I, H)
    with watching(one) as watch:
        loss = one(other(torch.randn(T, B, I))[0][..., :I])[0].sum()
    assert len(watch.passages(loss)) == 1


class Scaled(nn.LSTM):
    def forward(self, x):
        return 2 * super().forward(x)[0]


def test_a_subclass_that_calls_forward_is_reached():
    module = Scaled(I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with watching(module) as watch:
        loss = module(x).sin().sum()
    (passage,) = watch.passages(loss)
    assert (passage.name, passage.kind) == ("Scaled", "nn.LSTM")
    for row in range(B):
        y, states = row_by_hand(module, x[:, row])
        (2 * y).sin().sum().backward()
        want = kept_gradients(states[0, False], 1)
        torch.testing.assert_close(adjoints(passage)[1][:, row], want, rtol=1e-8, atol=1e-8)


def test_a_compiled_model_is_seen():
    net = Net().eval()
    compiled = torch.compile(net, backend="aot_eager")
    with watching(compiled) as watch:
        loss = compiled(torch.randint(7, (B, T))).square().mean()
    assert [p.name for p in watch.passages(loss)][:2] == ["body.lower", "upper l0"]


def test_frozen_weights_are_no_obstacle():
    module = nn.GRU(I, H, dtype=torch.float64).requires_grad_(requires_grad=False)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with watching(module) as watch:
        loss = module(x)[0].sin().sum()
    frozen = adjoints(watch.passages(loss)[0])[0]
    module.requires_grad_()
    with watching(module) as watch:
        loss = module(x)[0].sin().sum()
    assert torch.equal(frozen, adjoints(watch.passages(loss)[0])[0])


def test_weights_that_are_no_numbers_are_no_error():
    module = nn.LSTM(I, H)
    with torch.no_grad():
        module.weight_hh_l0[0, 0] = torch.nan
    with watching(module) as watch:
        loss = module(torch.randn(T, B, I))[0].sum()
    (passage,) = watch.passages(loss)
    assert passage.seeds[0].shape == (T, B, H)


def test_half_precision_is_examined_in_single():
    module = nn.LSTM(I, H, dtype=torch.bfloat16)
    with watching(module) as watch:
        loss = module(torch.randn(T, B, I, dtype=torch.bfloat16))[0].float().sum()
    (passage,) = watch.passages(loss)
    assert passage.seeds[0].dtype == torch.float32
    assert 0 < passage.replay_error < 0.05  # rounded at other places


def test_a_layer_that_the_loss_does_not_use_is_told_by_name():
    net = nn.ModuleDict({"a": nn.GRU(I, H), "b": nn.GRU(I, H)})
    x = torch.randn(T, B, I)
    with watching(net) as watch:
        loss = net["a"](x)[0].sum()
        net["b"](x)
    assert [p.name for p in watch.passages(loss)] == ["a"]
    assert list(watch.refused) == ["b"]
    assert "no gradient" in watch.refused["b"]


def test_two_sequences_through_one_layer_are_two_passages():
    module = nn.LSTM(I, H)
    with watching(module) as watch:
        loss = module(torch.randn(T, B, I))[0].sum() + module(torch.randn(T + 2, B, I))[0].sum()
    found = watch.passages(loss)
    assert [(p.name, p.steps.count) for p in found] == [("LSTM call 1", T), ("LSTM call 2", T + 2)]


@pytest.mark.parametrize("loss", [torch.ones(2, requires_grad=True), 3.0, None])
def test_a_loss_that_is_no_scalar_is_refused(loss):
    with watching(nn.LSTM(I, H)) as watch:
        watch.model(torch.randn(T, B, I))
    with pytest.raises(ShapeError, match="expected a scalar tensor"):
        watch.passages(loss)


def test_a_loss_without_a_graph_is_refused():
    with watching(nn.LSTM(I, H)) as watch, torch.no_grad():
        loss = watch.model(torch.randn(T, B, I))[0].sum()
    with pytest.raises(ConfigError, match="no graph"):
        watch.passages(loss)


def test_a_model_without_recurrence_is_refused():
    net = nn.Sequential(nn.Linear(I, H), nn.Tanh())
    with watching(net) as watch:
        loss = net(torch.randn(B, I)).sum()
    with pytest.raises(ConfigError, match="found no recurrent layer in Sequential; looked for"):
        watch.passages(loss)


def test_what_is_no_model_is_refused():
    with pytest.raises(ConfigError, match=r"expected an nn\.Module"), watching(3):
        pass
