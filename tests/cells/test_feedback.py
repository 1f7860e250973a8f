"""Is gated feedback the published equations, and does it have their limits? A stack as one cell."""

import pytest
import torch
from torch import sigmoid, tanh

import throughtime as tt
from cells.by_hand import BOUND, SIZES, H, given_to, largest_error
from graph_loop import Weights, forward
from throughtime.cells import CATALOGUE, FACTORIES, gf_gru, gf_lstm, gf_rnn
from throughtime.declare.graph import has_bias, terms
from throughtime.declare.slots import Sizes, slots
from throughtime.errors import DeclarationError
from throughtime.testing import check_cell
from tolerances import TOLERANCE, error_to_largest

KINDS = {"gf_rnn": "rnn", "gf_lstm": "lstm_notes", "gf_gru": "gru_notes"}
CASES = [
    (kind, layers, gates)
    for kind in KINDS
    for layers, gates in ((1, "all"), (2, "all"), (3, "all"), (3, "open"), (3, "own"))
]


class Stack:
    """The paper's equations for one row after another, layer by layer."""

    def __init__(self, kind, layers, gates):
        self.kind, self.layers, self.gates = kind, range(1, layers + 1), gates
        self.cell = FACTORIES[kind](layers=layers, gates=gates)

    def __call__(self, x, w, p, *start):
        made = Weights(self.cell, SIZES, w)
        self.matrix, self.bias = made.matrix, made.bias
        count = len(self.layers)
        h, c = [None, *start[:count]], [None, *start[count:]]
        for x_t in x:
            new = [x_t, *([None] * count)]
            for j in self.layers:
                new[j] = getattr(self, self.kind)(j, new[j - 1], h, c)
            h = [None, *new[1:]]
            yield h[-1], (*h[1:], *c[1:])

    def product(self, gate, *reads):
        found = sum(read @ self.matrix[gate, i].T for i, read in enumerate(reads))
        return found + sum(self.bias.get(gate, []))

    def g(self, i, j, below, h):
        if self.gates == "all":
            return sigmoid(self.product(f"g{i}_{j}", below, *h[1:]))
        return 1.0 if self.gates == "open" or i == j else 0.0

    def fed_back(self, j, below, h):
        sources = [j] if self.gates == "own" else self.layers
        return sum(self.g(i, j, below, h) * self.product(f"u{i}_{j}", h[i]) for i in sources)

    def gf_rnn(self, j, below, h, c):
        return tanh(self.product(f"a{j}", below) + self.fed_back(j, below, h))

    def gf_gru(self, j, below, h, c):
        r, z = (sigmoid(self.product(f"{gate}{j}", below, h[j])) for gate in "rz")
        n = tanh(self.product(f"n{j}", below) + r * self.fed_back(j, below, h))
        return (1 - z) * h[j] + z * n

    def gf_lstm(self, j, below, h, c):
        i, f, o = (sigmoid(self.product(f"{gate}{j}", below, h[j])) for gate in "ifo")
        n = tanh(self.product(f"n{j}", below) + self.fed_back(j, below, h))
        c[j] = f * c[j] + i * n
        return o * tanh(c[j])


@pytest.mark.parametrize(("kind", "layers", "gates"), CASES)
def test_a_stack_is_its_equations(kind, layers, gates):
    stack = Stack(kind, layers, gates)
    assert largest_error(stack.cell, stack) <= BOUND


@pytest.mark.parametrize("kind", KINDS)
def test_global_gates_are_told_from_none(kind):
    gated, opened = Stack(kind, 2, "all"), Stack(kind, 2, "open")
    opened.cell = gated.cell  # its matrices, all gates one
    assert largest_error(gated.cell, opened) > 1e-3


def test_feedback_whose_gates_saturate_at_one_is_open():
    """A unit that is always one in each layer drives every gate; no gate is left out."""
    gated, opened = gf_rnn(2), gf_rnn(2, gates="open")
    given = given_to(gated)
    for name in ("h1", "h2"):
        given.histories[name][..., 0] = 1.0
    made = Weights(gated, SIZES, given.weights)
    for gate in ("g1_1", "g2_1", "g1_2", "g2_2"):
        made.matrix[gate, 1][:, 0] = 60.0  # on h1's first unit
    for gate in ("a1", "a2"):
        made.bias[gate][0][0] = 60.0
    seen = forward(gated, SIZES, given)
    assert (seen.states["h1"][..., 0] == 1.0).all()
    given.weights = weights_for(opened, made.matrix, made.bias)
    want = forward(opened, SIZES, given)
    for name, states in want.states.items():
        torch.testing.assert_close(seen.states[name], states, rtol=0, atol=BOUND)


def weights_for(cell, matrix, bias):
    """The tensors of a cell from its matrices and biases."""
    given = {s.name: torch.zeros(s.shape(SIZES), dtype=torch.float64) for s in slots(cell)}
    made = Weights(cell, SIZES, given)
    for key, own in made.matrix.items():
        own.copy_(matrix[key])
    for gate, own in made.bias.items():
        own[0].copy_(bias[gate][0])
    return given


# --- the ordinary stack --------------------------------------------------------------------------


def place_of(gate, place, layer):
    """Where a plain layer's matrix stands in the stack: its gate and the place of its read."""
    if gate == "n_h" or (gate in {"a", "g"} and place == 1):
        return f"u{layer}_{layer}", 0
    return {"n_x": "n", "g": "n"}.get(gate, gate) + str(layer), place


def carried(plain, cell, value_of):
    """A stack's tensors, from something of each parameter of the plain layers."""
    matrix, bias = {}, {}
    for k in range(plain.num_layers):
        sizes = Sizes(SIZES.input if k == 0 else H, H, H)
        found = {s.name: value_of(getattr(plain, f"{s.name}_l{k}")) for s in slots(plain.cell)}
        made = Weights(plain.cell, sizes, found)
        matrix |= {place_of(*key, k + 1): value for key, value in made.matrix.items()}
        bias |= {place_of(gate, 0, k + 1)[0]: value for gate, value in made.bias.items()}
    return weights_for(cell, matrix, bias)


def plain_and_stack(kind, layers):
    """L plain layers and one stack that feeds every layer back to itself alone, of one weights."""
    cell = FACTORIES[kind](layers=layers, gates="own")
    plain = tt.Recurrent(CATALOGUE[KINDS[kind]], SIZES.input, H, layers, dtype=torch.float64)
    stack = tt.Recurrent(cell, SIZES.input, H, dtype=torch.float64)
    for parameter in plain.parameters():
        torch.nn.init.uniform_(parameter, -1.0, 1.0)
    weights = carried(plain, cell, torch.Tensor.detach)
    stack.load_state_dict({f"{name}_l0": value for name, value in weights.items()})
    return plain, stack


def run(layer, x, hx, masks):
    """The output and the last states, [L, B, H] a kind; then the gradients of x and of hx."""
    x, hx = x.clone().requires_grad_(), [h.clone().requires_grad_() for h in hx]
    own = hx if layer.num_layers > 1 else [h[k : k + 1] for h in hx for k in range(len(h))]
    out, last = layer(x, tuple(own) if len(own) > 1 else own[0], **masks)
    last = torch.cat(last) if isinstance(last, tuple) else last
    outputs = [out, *last.split(hx[0].shape[0])]
    entering = torch.Generator().manual_seed(1)
    drawn = [torch.randn(o.shape, generator=entering, dtype=o.dtype) for o in outputs]
    torch.autograd.backward(outputs, drawn)
    return [*outputs, x.grad, *(h.grad for h in hx)]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_feedback_of_its_own_layer_alone_is_the_ordinary_stack(kind, layers):
    """Outputs, last states, and the gradients of everything; with lengths and resets."""
    plain, stack = plain_and_stack(kind, layers)
    x = torch.randn(6, 2, SIZES.input, dtype=torch.float64)
    hx = [torch.randn(layers, 2, H, dtype=torch.float64) for _ in plain.cell.states]
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[2, 0] = reset[3, 1] = True
    masks = {"lengths": [6, 4], "reset": reset}
    want, got = run(plain, x, hx, masks), run(stack, x, hx, masks)
    gradients = carried(plain, stack.cell, lambda parameter: parameter.grad)
    want += gradients.values()
    got += [getattr(stack, f"{name}_l0").grad for name in gradients]
    errors = [error_to_largest(*pair) for pair in zip(got, want, strict=True)]
    assert max(errors) <= TOLERANCE["loop", torch.float64].bound, errors


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_are_two_stacks(kind):
    """The upper layers of one direction never see the other's, as those of `num_layers` do."""
    both = tt.Recurrent(FACTORIES[kind](2), 3, 4, bidirectional=True, dtype=torch.float64)
    one = tt.Recurrent(FACTORIES[kind](2), 3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    halves = both(x)[0].split(4, -1)
    for half, suffix, way in zip(halves, ("_l0", "_l0_reverse"), (x, x.flip(0)), strict=True):
        found = dict(both.named_parameters())
        own = {name: found[name.removesuffix("_l0") + suffix] for name, _ in one.named_parameters()}
        one.load_state_dict(own)
        want = one(way)[0] if suffix == "_l0" else one(way)[0].flip(0)
        torch.testing.assert_close(half, want, rtol=0, atol=BOUND)


def test_one_gru_that_feeds_itself_back_is_the_plain_cell():
    assert gf_gru(1, gates="own") == CATALOGUE["gru_notes"]


# --- the cell as a cell --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "layers", "gates"),
    [("gf_rnn", 2, "all"), ("gf_lstm", 2, "all"), ("gf_gru", 3, "all"), ("gf_gru", 2, "open")],
)
def test_a_stack_keeps_the_contract(kind, layers, gates):
    check_cell(FACTORIES[kind](layers=layers, gates=gates))


def test_states_stand_by_kind_and_the_last_layer_is_the_output():
    assert [s.name for s in gf_lstm(3).states] == ["h1", "h2", "h3", "c1", "c2", "c3"]
    out, states = tt.Recurrent(gf_lstm(3), 2, 4)(torch.randn(5, 1, 2))
    assert torch.equal(out[-1:], states[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_one_phase(kind):
    """What reads the past alone is multiplied first; each layer then waits for the one below."""
    assert len(FACTORIES[kind](layers=4).phases()) == 4


def test_every_ordered_pair_of_layers_has_a_gate_and_a_recurrent_matrix():
    cell = gf_lstm(3)
    pairs = [f"{i}_{j}" for j in (1, 2, 3) for i in (1, 2, 3)]
    assert [g for g, n in cell.affines.items() if n.width == 1] == [f"g{p}" for p in pairs]
    kinds = {g: [t.kind for t in terms(n)] for g, n in cell.affines.items()}
    assert {kinds[f"u{p}"][0] for p in pairs} == {"recurrent"}
    assert kinds["g3_1"] == ["input"] + 3 * ["recurrent"]
    assert kinds["g1_3"] == ["inner"] + 3 * ["recurrent"]
    assert kinds["i1"] == ["input", "recurrent"]
    assert kinds["i3"] == ["inner", "recurrent"]


@pytest.mark.parametrize(
    ("kind", "biased"),
    [("gf_rnn", "a1 a2"), ("gf_lstm", "i1 f1 o1 i2 f2 o2"), ("gf_gru", "r1 z1 r2 z2")],
)
def test_biases_stand_where_the_plain_cells_have_them(kind, biased):
    assert " ".join(g for g, n in FACTORIES[kind](2).affines.items() if has_bias(n)) == biased


@pytest.mark.parametrize("layers", [0, -1, True, 2.0, "2"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_makes_no_stack_is_refused(kind, layers):
    wanted = rf"{kind}: layers is {layers!r}; a whole number from 1 was expected"
    with pytest.raises(DeclarationError, match=wanted):
        FACTORIES[kind](layers=layers)


def test_other_gates_are_refused():
    with pytest.raises(DeclarationError, match=r"gates is 'none'; expected one of 'all', 'open'"):
        gf_gru(2, gates="none")
