"""Which laws hold whatever the sizes? Drawn by hypothesis, on the fused engine alone."""

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from contract.own_cells import CELLS
from engine.llvm.on_trial import layer_of, needs_engine
from tolerances import TOLERANCE, error_to_largest

pytestmark = needs_engine

I = 3
NAMES = ("lstm", "gru_reset_before", "lstm_projection", "delayed_lstm", "clockwork")
# No shrinking: other sizes are other kernels, and each takes its time to compile.
EXAMPLES = settings(max_examples=8, phases=(Phase.explicit, Phase.generate))
UNITS = (1, 5)  # few, for every width is compiled anew


def layer_for(name, units, seed, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    units = max(units, 4) if name in {"lstm_projection", "clockwork"} else units
    options |= {"proj_size": units - 1} if name == "lstm_projection" else {}
    units = 4 if name == "clockwork" else units
    return layer_of(CELLS[name], I, units, dtype=dtype, **options)


def listed(hx):
    return list(hx) if isinstance(hx, tuple) else [hx]


def assert_close(got, want):
    for a, b in zip(got, want, strict=True):
        a, b = a.detach(), b.detach()
        if b.numel() and b.abs().max() > 0:
            assert error_to_largest(a, b) <= TOLERANCE["loop", torch.float64].bound
        else:
            assert torch.equal(a, b)


def gradients(layer, outputs):
    """Of everything that comes out, with weights that differ from number to number."""
    leaves = [p for p in layer.parameters() if p.requires_grad]
    loss = sum(p.sum() for p in leaves) * 0.0  # nothing else may move where there is no step
    for o in outputs:
        if o.requires_grad:
            loss = loss + (o * torch.linspace(0.5, 1.5, o.numel()).to(o).view_as(o)).sum()
    return torch.autograd.grad(loss, leaves)


sizes = {
    "name": st.sampled_from(NAMES),
    "units": st.sampled_from(UNITS),
    "rows": st.integers(1, 8),
    "seed": st.integers(0, 1000),
}


@EXAMPLES
@given(steps=st.integers(1, 12), cut=st.integers(0, 12), masked=st.booleans(), **sizes)
def test_two_windows_equal_the_whole(name, units, rows, seed, steps, cut, masked):
    layer, cut = layer_for(name, units, seed), min(cut, steps)
    x = torch.randn(steps, rows, I, dtype=torch.float64)
    reset = torch.rand(steps, rows) < (0.3 if masked else 0.0)
    lengths = torch.randint(0, steps + 1, (rows,)) if masked else torch.full((rows,), steps)
    whole, last = layer(x, lengths=lengths, reset=reset)
    first, hx = layer(x[:cut], lengths=lengths.clamp(max=cut), reset=reset[:cut])
    second, hx = layer(x[cut:], hx, lengths=(lengths - cut).clamp(min=0), reset=reset[cut:])
    ours, want = [torch.cat([first, second]), *listed(hx)], [whole, *listed(last)]
    assert_close(ours, want)
    assert_close(gradients(layer, ours), gradients(layer, want))


@EXAMPLES
@given(steps=st.integers(0, 9), masked=st.booleans(), **sizes)
def test_a_layer_in_reverse_is_a_layer_on_the_sequence_turned(
    name, units, rows, seed, steps, masked
):
    layer = layer_for(name, units, seed, bidirectional=True)
    with torch.no_grad():  # both directions have the same weights
        for key, parameter in layer.named_parameters():
            if key.endswith("_reverse"):
                parameter.copy_(dict(layer.named_parameters())[key.removesuffix("_reverse")])
    x = torch.randn(steps, rows, I, dtype=torch.float64)
    lengths = torch.randint(0, steps + 1, (rows,)) if masked else torch.full((rows,), steps)
    step = torch.arange(steps)[:, None]
    order = torch.where(step < lengths, lengths - 1 - step, step)[..., None]

    def turned(a):
        return a.gather(0, order.expand_as(a))

    assert torch.equal(turned(turned(x)), x)
    forward, back = layer(x, lengths=lengths)[0].chunk(2, -1)
    turned_forward, turned_back = layer(turned(x), lengths=lengths)[0].chunk(2, -1)
    assert_close([turned(turned_back), turned(turned_forward)], [forward, back])


@EXAMPLES
@given(data=st.data(), **sizes)
def test_lengths_equal_runs_one_by_one(name, units, rows, seed, data):
    layer = layer_for(name, units, seed)
    lengths = data.draw(st.lists(st.integers(0, 8), min_size=rows, max_size=rows))
    x = torch.randn(8, rows, I, dtype=torch.float64)
    together, last = layer(x, lengths=lengths)
    parts, states = [], []
    for row, length in enumerate(lengths):
        out, hx = layer(x[:length, row : row + 1])
        padding = out.new_zeros(8 - length, 1, out.shape[-1])
        parts.append(torch.cat([out, padding]))
        states.append(listed(hx))
    alone = [torch.cat(parts, 1), *(torch.cat(s, -2) for s in zip(*states, strict=True))]
    ours = [together, *listed(last)]
    assert_close(ours, alone)
    assert_close(gradients(layer, ours), gradients(layer, alone))


@EXAMPLES
@given(steps=st.integers(1, 9), **sizes)
def test_rows_may_stand_in_any_order(name, units, rows, seed, steps):
    layer = layer_for(name, units, seed)
    x, order = torch.randn(steps, rows, I, dtype=torch.float64), torch.randperm(rows)
    lengths = torch.randint(0, steps + 1, (rows,))
    output, hx = layer(x, lengths=lengths)
    moved, last = layer(x[:, order], lengths=lengths[order])
    want = [output[:, order], *(h[..., order, :] for h in listed(hx))]
    assert_close([moved, *listed(last)], want)
    assert_close(gradients(layer, [moved, *listed(last)]), gradients(layer, want))


@EXAMPLES
@given(steps=st.integers(1, 9), scale=st.sampled_from((0.25, 2.0, -1.0)), **sizes)
def test_gradients_are_linear_in_what_comes_in(name, units, rows, seed, steps, scale):
    layer = layer_for(name, units, seed)
    x = torch.randn(steps, rows, I, dtype=torch.float64, requires_grad=True)
    output, _ = layer(x)
    a, b = torch.randn_like(output), torch.randn_like(output)
    leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]

    def pulled(seed):
        return torch.autograd.grad(output, leaves, seed, retain_graph=True, materialize_grads=True)

    want = [scale * p + q for p, q in zip(pulled(a), pulled(b), strict=True)]
    for got, value in zip(pulled(scale * a + b), want, strict=True):
        bound = TOLERANCE["loop", torch.float64].bound
        assert (got - value).abs().max() <= bound * max(1.0, value.abs().max().item())


@EXAMPLES
@given(steps=st.integers(1, 9), **sizes)
def test_a_state_given_as_zeros_is_the_state_at_the_start(name, units, rows, seed, steps):
    layer = layer_for(name, units, seed)
    x = torch.randn(steps, rows, I, dtype=torch.float64)
    output, hx = layer(x)
    zeros = [torch.zeros_like(h) for h in listed(hx)]
    again, last = layer(x, tuple(zeros) if len(zeros) > 1 else zeros[0])
    assert all(map(torch.equal, [again, *listed(last)], [output, *listed(hx)]))
