"""Does each cured cell compute its published equation, and its gradient? Against loops by hand.

A loop takes the layer's tensors as they are stored, and autograd goes through it: outputs, last
states and the gradients of every parameter and of x are compared.
"""

import pytest
import torch
from torch import sigmoid, tanh
from torch.autograd import grad

import throughtime as tt
from throughtime import cells
from tolerances import TOLERANCE, error_to_largest

BOUND = TOLERANCE["loop", torch.float64].bound
T, B, I, H = 11, 2, 3, 8
PERIODS = (1, 2, 4, 8)


def layer_of(cell, **options):
    return tt.Recurrent(cell, I, H, dtype=torch.float64, **options)


def rnn_step(p, x, h):
    return tanh(x @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T + p["bias_l0"])


def lstm_step(p, x, h, c):
    a = x @ p["weight_ih_l0"].T + h @ p["weight_hh_l0"].T + p["bias_l0"]
    i, f, g, o = a.chunk(4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def leaky_rnn(p, xs, extras, h):
    for x in xs:
        h = 0.7 * h + 0.3 * rnn_step(p, x, h)
        yield (h,)


def sampled_rnn(p, xs, extras, h):
    for x in xs:
        h = (1 - p["rate_h_l0"]) * h + p["rate_h_l0"] * rnn_step(p, x, h)
        yield (h,)


def learned_lstm(p, xs, extras, h, c):
    a_h, a_c = sigmoid(p["retain_h_raw_l0"]), sigmoid(p["retain_c_raw_l0"])
    for x in xs:
        new_h, new_c = lstm_step(p, x, h, c)  # h is made from the c that does not leak
        h, c = a_h * h + (1 - a_h) * new_h, a_c * c + (1 - a_c) * new_c
        yield h, c


def lstm_with_leaky_memory(p, xs, extras, h, c):
    for x in xs:
        h, new_c = lstm_step(p, x, h, c)
        c = 0.6 * c + 0.4 * new_c
        yield h, c


def zoneout_lstm(p, xs, extras, h, c):
    for x, m_h, m_c in zip(xs, extras["zoneout_h"], extras["zoneout_c"], strict=True):
        new_h, new_c = lstm_step(p, x, h, c)
        h, c = m_h * h + (1 - m_h) * new_h, m_c * c + (1 - m_c) * new_c
        yield h, c


def clockwork_rnn(p, xs, extras, h):
    """Group by group: a group reads itself and the slower ones, and moves when its time comes."""
    groups = [slice(2 * i, 2 * i + 2) for i in range(4)]
    for t, x in enumerate(xs):
        new = []
        for i, rows in enumerate(groups):
            a = x @ p["weight_ih_l0"][rows].T + p["bias_l0"][rows]
            for columns in groups[i:]:
                a = a + h[:, columns] @ p["weight_hh_l0"][rows, columns].T
            new.append(tanh(a) if t % PERIODS[i] == 0 else h[:, rows])
        h = torch.cat(new, -1)
        yield (h,)


def unmasked_clockwork_lstm(p, xs, extras, h, c):
    slow = torch.arange(H) >= H // 2
    for t, x in enumerate(xs):
        new_h, new_c = lstm_step(p, x, h, c)
        held = slow & (t % 3 != 0)
        h, c = torch.where(held, h, new_h), torch.where(held, c, new_c)
        yield h, c


def skip_gru(p, xs, extras, h):
    """The reset gate of this step lies on every delayed state."""
    past = [torch.zeros_like(h)] * 4 + [h]
    W, b = p["weight_ih_l0"].chunk(3), p["bias_l0"].chunk(3)
    U = {d: p[name].chunk(3) for d, name in DELAYED.items()}
    for x in xs:
        r, z = (sigmoid(x @ W[k].T + b[k] + sum(past[-d] @ U[d][k].T for d in U)) for k in range(2))
        n = tanh(x @ W[2].T + b[2] + sum((r * past[-d]) @ U[d][2].T for d in U))
        past.append((1 - z) * n + z * past[-1])
        yield (past[-1],)


DELAYED = {1: "weight_hh_l0", 3: "weight_hh_d3_l0", 5: "weight_hh_d5_l0"}


def removed_lstm(p, xs, extras, h, c):
    """c is two steps back, like all that no matrix reads."""
    hs, cs = [torch.zeros_like(h)] * 5, [torch.zeros_like(c)] * 5
    for x in xs:
        a = x @ p["weight_ih_l0"].T + p["bias_l0"]
        a = a + hs[-2] @ p["weight_hh_l0"].T + hs[-5] @ p["weight_hh_d5_l0"].T
        i, f, g, o = a.chunk(4, -1)
        cs.append(sigmoid(f) * cs[-2] + sigmoid(i) * tanh(g))
        hs.append(sigmoid(o) * tanh(cs[-1]))
        yield hs[-1], cs[-1]


def leaky_outside(p, xs, extras, h):
    """Leaks from one step back, though nothing else is read from there."""
    past = [torch.zeros_like(h)] * 2
    for x in xs:
        past.append(0.7 * past[-1] + 0.3 * rnn_step(p, x, past[-2]))
        yield (past[-1],)


def leaky_inside(p, xs, extras, h):
    """Leaks from two steps back."""
    past = [torch.zeros_like(h)] * 2
    for x in xs:
        past.append(0.7 * past[-2] + 0.3 * rnn_step(p, x, past[-2]))
        yield (past[-1],)


def dropout_lstm(p, xs, extras, h, c):
    mask = extras["dropout_h"][0]
    for x in xs:
        a = x @ p["weight_ih_l0"].T + (mask * h) @ p["weight_hh_l0"].T + p["bias_l0"]
        i, f, g, o = a.chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        yield h, c


def dropout_gru(p, xs, extras, h):
    """One mask for all that reads h through a matrix; z * h is not masked."""
    mask = extras["dropout_h"][0]
    (Wr, Wz, Wn), (Ur, Uz, Un) = p["weight_ih_l0"].chunk(3), p["weight_hh_l0"].chunk(3)
    br, bz, bn = p["bias_l0"].chunk(3)
    for x in xs:
        r = sigmoid(x @ Wr.T + (mask * h) @ Ur.T + br)
        z = sigmoid(x @ Wz.T + (mask * h) @ Uz.T + bz)
        n = tanh(x @ Wn.T + (r * h * mask) @ Un.T + bn)
        h = (1 - z) * n + z * h
        yield (h,)


CASES = {
    "leaky rnn": (tt.leaky(cells.rnn, rate=0.3), leaky_rnn),
    "leaky rnn, retain": (tt.leaky(cells.rnn, 0.7), leaky_rnn),
    "leaky rnn, sampled": (tt.leaky(cells.rnn, rate=cells.NOTES_RATE), sampled_rnn),
    "leaky lstm, learned": (tt.leaky(cells.lstm, "learned"), learned_lstm),
    "leaky memory": (tt.leaky(cells.lstm, 0.6, states=["c"]), lstm_with_leaky_memory),
    "zoneout": (tt.zoneout(cells.lstm, {"h": 0.3, "c": 0.5}), zoneout_lstm),
    "clockwork": (tt.clockwork(cells.rnn, PERIODS), clockwork_rnn),
    "clockwork, unmasked": (
        tt.clockwork(cells.lstm, (1, 3), masked=False),
        unmasked_clockwork_lstm,
    ),
    "skip": (tt.skip(cells.gru_reset_before, [3, 5]), skip_gru),
    "remove": (tt.remove(cells.lstm, [2, 5]), removed_lstm),
    "leaky around remove": (tt.leaky(tt.remove(cells.rnn, [2]), rate=0.3), leaky_outside),
    "remove around leaky": (tt.remove(tt.leaky(cells.rnn, rate=0.3), [2]), leaky_inside),
    "dropout lstm": (tt.recurrent_dropout(cells.lstm, 0.5), dropout_lstm),
    "dropout gru": (tt.recurrent_dropout(cells.gru_reset_before, 0.5), dropout_gru),
}


def drawn_extras(cell):
    def draw(extra):
        mask = torch.bernoulli(torch.full((T, B, H), extra.sample.p, dtype=torch.float64))
        mask = mask * extra.sample.scale
        return mask[:1].expand(T, B, H) if extra.per == "sequence" else mask

    return {extra.name: draw(extra) for extra in cell.extras}


@pytest.mark.parametrize("name", CASES)
def test_the_equation_and_its_gradients(name):
    cell, loop = CASES[name]
    layer = layer_of(cell)
    xs = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    extras = drawn_extras(cell)
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    start = [xs.new_zeros(B, H) for s in cell.states if not s.clock]
    every = list(loop(tensors, xs, extras, *start))
    want = [torch.stack(states) for states in zip(*every, strict=True)]
    got = layer(xs, extras=extras, return_all_states=True)[2][0][: len(want)]
    seeds = [torch.randn_like(states) for states in want]
    leaves = {"x": xs} | dict(layer.named_parameters())
    pairs = zip(got, want, strict=True)
    errors = {f"state {i}": error_to_largest(*pair) for i, pair in enumerate(pairs)}
    found = zip(
        leaves,
        grad(got, list(leaves.values()), seeds),
        grad(want, list(leaves.values()), seeds),
        strict=True,
    )
    errors |= {leaf: error_to_largest(*both) for leaf, *both in found}
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] <= BOUND, (worst, errors[worst])


def test_masked_elements_are_idle_whatever_is_stored():
    layer = layer_of(tt.clockwork(cells.rnn, PERIODS))
    group = torch.arange(H) // 2
    idle = group[None, :] < group[:, None]
    weight = layer.weight_hh_l0
    assert torch.equal(weight == 0, idle)
    x = torch.randn(T, B, I, dtype=torch.float64)
    before = layer(x)[0]
    with torch.no_grad():
        weight[idle] = 7.0
    after = layer(x)[0]
    assert torch.equal(before, after)
    after.sum().backward()
    assert torch.equal(weight.grad == 0, idle)


def test_every_layer_and_direction_has_its_mask():
    cell = tt.clockwork(cells.gru, PERIODS)
    assert cell != tt.clockwork(cells.gru, PERIODS, masked=False)
    layer = layer_of(cell, num_layers=2, bidirectional=True)
    group = torch.arange(H) // 2
    idle = (group[None, :] < group[:, None]).repeat(3, 1)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        assert torch.equal(getattr(layer, f"weight_hh_{suffix}") == 0, idle)
        assert getattr(layer, f"weight_ih_{suffix}").all()
    x = torch.randn(T, B, I, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x)[0], layer(x)[0])


def test_masks_lie_on_every_matrix_between_vectors_and_on_no_other():
    cell = tt.clockwork(cells.lstm_projection, (1, 2, 4))
    assert [p.width for p in cell.params] == ["projection", "hidden"]
    masks = {gate: [t.masks for t in n.data[2]] for gate, n in cell.affines.items()}
    both = (("period_2", "period"),)
    assert masks == {gate: [(), both] for gate in "ifgo"} | {"hr": [(("period", "period_2"),)]}
    layer = tt.Recurrent(cell, I, H, proj_size=6, dtype=torch.float64)
    blocks = (layer.weight_hr_l0 == 0).tolist()
    rows, columns = [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2]
    assert blocks == [[column < row for column in columns] for row in rows]


def test_two_clockworks_cut_both_ways():
    cell = tt.clockwork(tt.clockwork(cells.rnn, (1, 2)), (2, 1))
    assert [s.name for s in cell.states] == ["h", "clock", "clock_2"]
    layer = layer_of(cell)
    kept = layer.weight_hh_l0 != 0
    half = H // 2
    assert kept[:half, :half].all()
    assert kept[half:, half:].all()
    assert not kept[:half, half:].any()
    assert not kept[half:, :half].any()


def test_all_groups_move_first_and_after_a_reset():
    layer = layer_of(tt.clockwork(cells.rnn, PERIODS))
    x = torch.randn(T, B, I, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3, 1] = True
    h = layer(x, reset=reset, return_all_states=True)[2][0][0]
    assert (h[0] != 0).all()
    assert torch.equal(h[1:3, :, 6:], h[:1, :, 6:].expand(2, B, 2))
    assert (h[3, 1, 6:] != h[2, 1, 6:]).all()
    assert torch.equal(h[3, 0, 6:], h[2, 0, 6:])


def test_outside_training_masks_are_their_constants():
    x = torch.randn(T, B, I, dtype=torch.float64)
    zoned = layer_of(tt.zoneout(cells.lstm, 0.25)).eval()
    leaking = layer_of(tt.leaky(cells.lstm, 0.25)).eval()
    dropped = layer_of(tt.recurrent_dropout(cells.lstm, 0.25)).eval()
    plain = layer_of(cells.lstm, engine="reference").eval()
    for layer in (leaking, dropped, plain):
        layer.load_state_dict(zoned.state_dict())
    assert error_to_largest(zoned(x)[0], leaking(x)[0]) <= BOUND
    assert torch.equal(dropped(x)[0], plain(x)[0])
    assert not torch.equal(zoned.train()(x)[0], leaking(x)[0])
    assert not torch.equal(dropped.train()(x)[0], plain(x)[0])


def test_a_leaky_unit_alone_forgets_with_its_time_constant():
    """Without matrices h_t = a^t h_0; the notes' range as printed and as the rate."""
    layer = layer_of(tt.leaky(cells.rnn, 0.9))
    for weight in layer.parameters():
        torch.nn.init.zeros_(weight)
    start = torch.rand(1, B, H, dtype=torch.float64)
    _, last = layer(torch.zeros(T, B, I, dtype=torch.float64), start)
    assert error_to_largest(last, 0.9**T * start) <= BOUND
    sampled = layer_of(tt.leaky(cells.lstm, rate=cells.NOTES_RATE))
    rates = torch.stack([sampled.rate_h_l0, sampled.rate_c_l0])
    assert rates.min() >= 0.02
    assert rates.max() < 0.2
    assert rates.unique().numel() == 2 * H
    learned = layer_of(tt.leaky(cells.lstm, "learned"))
    assert 0.8 <= learned.retain_c_l0.min() <= learned.retain_c_l0.max() < 0.98
    assert learned.retain_c_raw_l0.requires_grad
