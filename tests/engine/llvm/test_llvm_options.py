"""Do a layer's arguments, shapes and strides come through to the fused engine?"""

import pytest
import torch

from contract.own_cells import CELLS
from engine.llvm.on_trial import everything, layer_of, needs_engine, worst
from tolerances import TOLERANCE

pytestmark = needs_engine

T, B, I, H, P = 6, 4, 3, 5, 2
LENGTHS = [4, 0, 6, 1]
DTYPES = [torch.float64, torch.float32]
NAMES = ("lstm", "delayed_lstm", "lstm_projection", "emitting")

LAYERS = {
    "plain": {},
    "no bias": {"bias": False},
    "both directions": {"bidirectional": True},
    "two layers, batch first": {"num_layers": 2, "batch_first": True},
    "learned start": {"learn_initial_state": True, "bidirectional": True},
}
CALLS = {
    "whole": {},
    "lengths": {"lengths": LENGTHS},
    "resets and all states": {"reset": "drawn", "return_all_states": True},
    "all at once": {"lengths": LENGTHS, "reset": "drawn", "return_all_states": True, "hx": "drawn"},
}


def made(name, **options):
    projects = {"proj_size": P} if name in {"lstm_projection", "projected"} else {}
    return layer_of(CELLS[name], I, H, **projects, **options)


def batch(layer, *shape, dtype=torch.float64):
    """Random numbers [T, B, ...] as the layer wants them laid out."""
    values = torch.randn(*shape, dtype=dtype)
    return values.transpose(0, 1).contiguous() if layer.batch_first else values


def states_for(layer, rows, dtype=torch.float64):
    with torch.no_grad():
        last = layer(batch(layer, 3, rows, I, dtype=dtype))[1]
    return tuple(torch.randn_like(h) for h in (last if isinstance(last, tuple) else (last,)))


def assert_same(layer, x, bound=None, **call):
    """Hold that the engine gives what the reference gives."""
    got, want = everything(layer, x, **call), everything(layer, x, **call, engine="reference")
    error, where = worst(got, want)
    assert error <= (TOLERANCE["loop", x.dtype].bound if bound is None else bound), where
    return got


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_option_in_every_call(name, options, call):
    layer = made(name, **LAYERS[options])
    given = dict(CALLS[call])
    if "hx" in given:
        given["hx"] = states_for(layer, B)
    if "reset" in given:
        mask = torch.rand(T, B) < 0.3
        given["reset"] = mask.T.contiguous() if layer.batch_first else mask
    assert_same(layer, batch(layer, T, B, I), **given)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_near_the_references_float64(name):
    layer = made(name, bidirectional=True).float()
    x, hx = torch.randn(T, B, I), states_for(layer, B, torch.float32)
    got = everything(layer, x, hx, lengths=LENGTHS)
    layer.double()
    hx = tuple(h.double() for h in hx)
    want = everything(layer, x.double(), hx, lengths=LENGTHS, engine="reference")
    assert all(value.dtype == torch.float32 for value in got.values())
    error, where = worst({k: v.double() for k, v in got.items()}, want)
    assert error <= TOLERANCE["loop", torch.float32].bound, where


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "inputs", "units"),
    [(1, 1, 1), (2, 3, 5), (3, 16, 17), (7, 5, 100), (33, 2, 33), (1, 7, 129), (5, 8, 8)],
)
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_relu", "gru_reset_before"])
def test_odd_sizes(name, rows, inputs, units, dtype):
    layer = layer_of(CELLS[name], inputs, units, bidirectional=True, dtype=dtype)
    with torch.no_grad():  # keeps float32's error below what a wrong row or column would make
        for parameter in layer.parameters():
            parameter.mul_(2 / units**0.5)
    lengths = [4, *[n % 5 for n in range(rows - 1)]]
    assert_same(layer, torch.randn(4, rows, inputs, dtype=dtype), lengths=lengths)


@pytest.mark.parametrize(("units", "narrow"), [(2, 1), (17, 5), (100, 33), (64, 48)])
def test_odd_projections(units, narrow):
    layer = layer_of(CELLS["lstm_projection"], 3, units, proj_size=narrow)
    assert_same(layer, torch.randn(4, 3, 3, dtype=torch.float64), lengths=[2, 4, 0])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0), (1, 1), (1, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_no_steps_no_rows_one_step(name, shape):
    layer = made(name, bidirectional=True, learn_initial_state=True)
    x, reset = torch.randn(*shape, I, dtype=torch.float64), torch.rand(*shape) < 0.5
    steps, rows = shape
    lengths = [min(row, steps) for row in range(rows)]
    assert_same(layer, x)
    assert_same(layer, x, lengths=lengths, reset=reset, return_all_states=True)


@pytest.mark.parametrize("name", ["lstm", "delayed"])
def test_without_a_batch(name):
    layer = made(name)
    assert_same(layer, torch.randn(T, I, dtype=torch.float64))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", ["decaying", "zoneout_lstm", "chosen", "twice_given"])
def test_extras(name, training):
    layer = made(name, bidirectional=True).train(training)
    data = [e for e in layer.cell.extras if e.sample is None]
    extras = {e.name: torch.rand(T, B, 1, dtype=torch.float64) + 0.5 for e in data}
    x = torch.randn(T, B, I, dtype=torch.float64)
    found = []
    for engine in (None, "reference"):
        torch.manual_seed(1)  # of the masks that are drawn
        found.append(everything(layer, x, extras=extras, lengths=LENGTHS, engine=engine))
    assert worst(*found)[0] <= TOLERANCE["loop", torch.float64].bound


def test_extras_given_with_a_value_for_each_unit():
    layer = made("zoneout_lstm")
    masks = {e.name: (torch.rand(T, B, H) < 0.5).double() for e in layer.cell.extras}
    assert_same(layer, torch.randn(T, B, I, dtype=torch.float64), extras=masks)


# --- memory

LAYOUTS = {
    "transposed": lambda a: a.transpose(0, 1).contiguous().transpose(0, 1),
    "features first": lambda a: a.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "every second": lambda a: torch.stack([a.flip(0), a], -1)[..., 1],
    "one feature for all": lambda a: a[..., :1].expand_as(a),
    "one row for all": lambda a: a[:, :1].expand_as(a),
    "one step for all": lambda a: a[:1].expand_as(a),
    "from the middle": lambda a: torch.cat([a, a, a], -1)[..., a.shape[-1] : 2 * a.shape[-1]],
    "not on a border of 16 bytes": lambda a: torch.cat([a.new_zeros(1), a.flatten()])[1:].view_as(
        a
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["lstm", "gru", "delayed_lstm"])
def test_memory_may_lie_in_any_way(name, layout):
    layer = made(name, bidirectional=True)
    x = LAYOUTS[layout](torch.randn(T, B, I, dtype=torch.float64))
    hx = tuple(
        LAYOUTS[layout](h.flatten(0, -3)).view_as(h) if h.dim() == 3 else h
        for h in states_for(layer, B)
    )
    call = {"lengths": LENGTHS, "reset": torch.rand(B, T).T < 0.3}
    assert_same(layer, x, hx=hx, **call)
    plain = everything(layer, x.contiguous(), tuple(h.contiguous() for h in hx), **call)
    error, where = worst(everything(layer, x, hx, **call), plain)
    assert error <= TOLERANCE["loop", torch.float64].bound, where


def test_gradients_that_come_in_may_lie_in_any_way():
    layer = made("lstm")
    x = torch.randn(T, B, I, dtype=torch.float64)
    seeds = {
        "expanded": torch.randn(H, dtype=torch.float64).expand(T, B, H),
        "transposed": torch.randn(B, T, H, dtype=torch.float64).transpose(0, 1),
        "one number": torch.ones((), dtype=torch.float64).expand(T, B, H),
    }
    leaves = list(layer.parameters())
    for seed in seeds.values():
        odd, plain = (torch.autograd.grad(layer(x)[0], leaves, s) for s in (seed, seed.clone()))
        layer.engine, before = "reference", layer.engine
        want = torch.autograd.grad(layer(x)[0], leaves, seed)
        layer.engine = before
        named = [dict(enumerate(found)) for found in (odd, plain, want)]
        assert worst(named[0], named[2])[0] <= TOLERANCE["loop", torch.float64].bound
        assert worst(named[1], named[2])[0] <= TOLERANCE["loop", torch.float64].bound


# --- only some gradients


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_reset_before", "lstm_projection"])
def test_gradients_of_one_leaf_or_of_all_but_one(name):
    layer = made(name, learn_initial_state=True)
    x, hx = torch.randn(T, B, I, dtype=torch.float64), states_for(layer, B)
    full = everything(layer, x, hx, lengths=LENGTHS, reset=torch.eye(T, B) > 0)
    leaves = {"x": x} | {f"hx {i}": h for i, h in enumerate(hx)} | dict(layer.named_parameters())

    def check(chosen):
        for key, leaf in leaves.items():
            leaf.requires_grad_(key in chosen)
        given = hx if len(hx) > 1 else hx[0]
        output, last = layer(x, given, lengths=LENGTHS, reset=torch.eye(T, B) > 0)
        outputs = [output, *(last if isinstance(last, tuple) else (last,))]
        moving = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in moving], [leaves[k] for k in chosen], [s for _, s in moving]
        )
        for key, gradient in zip(chosen, found, strict=True):
            error, _ = worst({"": gradient}, {"": full[f"gradient of {key}"]})
            assert error <= TOLERANCE["loop", torch.float64].bound, (key, chosen)

    seeds = entering_like(full)
    names = list(leaves)
    for one in names:
        check([one])
        check([name for name in names if name != one])


def entering_like(full):
    """The gradients that `everything` sends in."""
    from throughtime.testing.outcome import entering

    outputs = [value for name, value in full.items() if name.startswith("output ")]
    return entering(tuple(outputs))


@pytest.mark.parametrize("part", ["output", "last"])
def test_a_loss_on_a_part_of_what_comes_out(part):
    layer = made("lstm", bidirectional=True)
    x = torch.randn(T, B, I, dtype=torch.float64)

    def gradients(engine):
        layer.engine, before = engine, layer.engine
        output, (_, c) = layer(x, lengths=LENGTHS)
        layer.engine = before
        loss = {"output": output[-1], "last": c[0]}[part].square().sum()
        found = torch.autograd.grad(loss, list(layer.parameters()), materialize_grads=True)
        return {str(i): g for i, g in enumerate(found)}

    assert worst(gradients(layer.engine), gradients("reference"))[0] <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_recorded_where_no_gradient_is_wanted(name):
    layer = made(name).requires_grad_(requires_grad=False)
    output, _ = layer(torch.randn(T, B, I, dtype=torch.float64))
    assert not output.requires_grad
    assert output.grad_fn is None


@pytest.mark.parametrize(("first", "second"), [("lstm", "gru"), ("gru", "lstm"), ("lstm", "lstm")])
def test_layers_do_not_disturb_one_another(first, second):
    """Workspaces are shared: a backward pass after another layer's forward pass finds its own."""
    a, b = made(first), made(second)
    x = torch.randn(T, B, I, dtype=torch.float64)
    want = everything(a, x)
    outputs = torch.utils._pytree.tree_leaves(a(x))
    everything(b, torch.randn(T + 3, B + 2, I, dtype=torch.float64))
    leaves = list(a.parameters())
    found = torch.autograd.grad(outputs, leaves, entering_like(want))
    for (name, _), gradient in zip(a.named_parameters(), found, strict=True):
        assert torch.equal(gradient, want[f"gradient of {name}"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_may_lie_in_any_way_where_our_tiles_multiply_all_steps(layout):
    layer = layer_of(CELLS["lstm"], 48, 16)  # whole panels, and rows enough for every thread
    x = LAYOUTS[layout](torch.randn(400, 3, 48, dtype=torch.float64) / 8)
    assert_same(layer, x, bound=TOLERANCE["loop", torch.float64].bound * 400)


@pytest.mark.parametrize("units", [1, 16, 17])
@pytest.mark.parametrize("name", ["zoneout_lstm", "bounded", "chosen", "twice_given"])
def test_values_per_unit_and_per_row_where_units_are_few(name, units):
    """A width that is 1 by declaration is one number a row; a width that happens to be 1 is not."""
    layer = layer_of(CELLS[name], I, units)
    data = [e for e in layer.cell.extras if e.sample is None]
    extras = {e.name: torch.rand(T, B, 1, dtype=torch.float64) + 0.5 for e in data}
    x, found = torch.randn(T, B, I, dtype=torch.float64), []
    for engine in (None, "reference"):
        torch.manual_seed(1)  # of the masks that are drawn
        found.append(everything(layer, x, extras=extras, engine=engine))
    assert worst(*found)[0] <= TOLERANCE["loop", torch.float64].bound
