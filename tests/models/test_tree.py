"""Is a tree network the fold it states, whatever the shapes of the trees in a batch?"""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import throughtime as tt
from throughtime.errors import ConfigError, DtypeError, ShapeError
from throughtime.models import TreeNetwork, balanced, chain
from throughtime.models.tree_plan import inner_nodes, plan
from tolerances import TOLERANCE, error_to_largest

T, B, I, H = 9, 5, 3, 4
BOUND = TOLERANCE["loop", torch.float64].bound


def make(cell="rnn"):
    torch.manual_seed(3)
    return TreeNetwork(I, H, cell).double()


def draw(steps=T, rows=B):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, rows, I, generator=generator, dtype=torch.float64)


def any_tree(leaves, seed):
    """A tree of any shape whose leaves stand in any order."""
    choose = random.Random(seed)
    parts = list(range(leaves))
    while len(parts) > 1:
        pair = tuple(parts.pop(choose.randrange(len(parts))) for _ in range(2))
        parts.append(pair)
    return parts[0]


TREES = [any_tree(9, 1), any_tree(6, 2), 0, chain(8), balanced(7)]


def folded(model, x, tree, found):
    """One row's tree by recursion, one node at a time: h and c, left before right."""
    w, v = model.node, model.leaf
    if isinstance(tree, int):
        made, children = x[tree] @ v.weight.T + v.bias, []
    else:
        children = [folded(model, x, part, found) for part in tree]
        made = torch.cat([h for h, _ in children]) @ w.weight.T + w.bias
    if model.cell == "rnn":
        h, c = (torch.tanh(made) if children else made), None
    else:
        i, o, u, *forget = made.split(H)
        c = torch.sigmoid(i) * torch.tanh(u)
        for f, (_, below) in zip(forget, children, strict=True):
            c = c + torch.sigmoid(f) * below
        h = torch.sigmoid(o) * torch.tanh(c)
    if children:
        found.append(h)
    return h, c


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_batch_of_trees_is_every_tree_by_recursion(cell):
    model, x = make(cell), draw().requires_grad_()
    root, nodes = model(x, TREES)
    want_root, want_nodes = [], torch.zeros(2 * T - 1, B, H, dtype=torch.float64)
    for row, tree in enumerate(TREES):
        found = []
        want_root.append(folded(model, x[:, row], tree, found)[0])
        leaves = len(found) + 1
        for leaf in range(leaves):
            want_nodes[leaf, row] = folded(model, x[:, row], leaf, [])[0]
        for k, h in enumerate(found):
            want_nodes[leaves + k, row] = h
    assert error_to_largest(root, torch.stack(want_root)) <= BOUND
    assert error_to_largest(nodes, want_nodes) <= BOUND
    weights = [torch.randn(B, H).double(), torch.randn(2 * T - 1, B, H).double()]
    inputs = [x, *model.parameters()]
    got = torch.autograd.grad([root, nodes], inputs, weights)
    want = torch.autograd.grad([torch.stack(want_root), want_nodes], inputs, weights)
    for a, b in zip(got, want, strict=True):
        assert error_to_largest(a, b) <= TOLERANCE["derivatives", torch.float64].bound


def test_a_chain_is_a_simple_recurrent_network():
    """The left child is the state and the right one the input, with all gradients."""
    model, x = make(), draw().requires_grad_()
    layer = tt.Recurrent(tt.cells.CATALOGUE["rnn"], H, H, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(model.node.weight[:, :H])
        layer.weight_ih_l0.copy_(model.node.weight[:, H:])
        layer.bias_l0.copy_(model.node.bias)
    read = model.leaf(x)
    hidden, _ = layer(read[1:], read[:1])
    root, nodes = model(x, [chain(T)] * B)
    assert error_to_largest(root, hidden[-1]) <= BOUND
    assert error_to_largest(nodes[T:], hidden) <= BOUND
    weight = torch.randn(B, H).double()
    ours = torch.autograd.grad((root * weight).sum(), [x, *model.parameters()])
    leaves = [x, *model.leaf.parameters()]
    both = [*leaves, layer.weight_hh_l0, layer.weight_ih_l0, layer.bias_l0]
    theirs = torch.autograd.grad((hidden[-1] * weight).sum(), both)
    joined = [*theirs[:3], torch.cat([theirs[3], theirs[4]], 1), theirs[5]]
    for a, b in zip(ours, joined, strict=True):
        assert error_to_largest(a, b) <= TOLERANCE["derivatives", torch.float64].bound


@pytest.mark.parametrize(("leaves", "depth"), [(1, 0), (2, 1), (5, 3), (8, 3), (9, 4), (1000, 10)])
def test_a_balanced_tree_has_depth_log_n_and_a_chain_n(leaves, depth):
    def levels(tree):
        return len(plan([tree], leaves, 1, torch.device("cpu")).levels) - 1

    assert levels(balanced(leaves)) == depth
    assert levels(chain(leaves)) == leaves - 1


def in_order(tree):
    return [tree] if isinstance(tree, int) else in_order(tree[0]) + in_order(tree[1])


@pytest.mark.parametrize("leaves", [1, 2, 7, 16])
def test_helpers_keep_the_order_of_the_leaves(leaves):
    assert in_order(balanced(leaves)) == in_order(chain(leaves)) == list(range(leaves))


@pytest.mark.parametrize("leaves", [0, -1, 2.0, True])
@pytest.mark.parametrize("helper", [balanced, chain])
def test_helpers_refuse_what_is_no_number_of_leaves(helper, leaves):
    with pytest.raises(ConfigError, match=f"leaves={leaves!r}; expected a whole number"):
        helper(leaves)


def test_a_level_of_all_rows_is_one_product():
    model, calls = make(), []
    model.node.register_forward_hook(lambda m, args, out: calls.append(len(args[0])))
    model(draw(), [balanced(8)] * B)
    assert calls == [4 * B, 2 * B, B]
    calls.clear()
    model(draw(), TREES)
    assert sum(calls) == sum(len(inner_nodes(tree, "", T)) for tree in TREES)


def test_every_node_is_sent_once():
    """Copying is linear in the nodes, for a chain too: nothing waits in a level's way."""
    for tree in (chain(300), balanced(300)):
        levels = plan([tree] * 2, 300, 2, torch.device("cpu")).levels
        assert sum(count for level in levels for _, count in level.sent) == 2 * 599
        assert sum(len(level.sent) for level in levels) <= 2 * 300


def test_arrays_and_pairs_are_the_same_trees():
    model, x = make("lstm"), draw()
    arrays = [inner_nodes(tree, "", T) for tree in TREES]
    tensors = [torch.tensor(a, dtype=torch.int64).reshape(-1, 2) for a in arrays]
    numpy = [np.array(a, dtype=np.int32).reshape(-1, 2) for a in arrays]
    lists = [listed(tree) for tree in TREES]
    want = model(x, TREES)[1]
    for trees in (tensors, numpy, lists):
        assert torch.equal(model(x, trees)[1], want)


def listed(tree):
    return tree if isinstance(tree, int) else [listed(part) for part in tree]


def test_what_no_tree_reaches_changes_nothing():
    model, x = make("lstm"), draw()
    poisoned = x.clone()
    for row, tree in enumerate(TREES):
        poisoned[len(in_order(tree)) :, row] = torch.nan
    found = []
    for given in (x, poisoned):
        given.requires_grad_()
        root, nodes = model(given, TREES)
        grads = torch.autograd.grad(root.sum() + nodes.square().sum(), [given, *model.parameters()])
        found.append([root, nodes, *grads])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert (found[0][2][:, 2][1:] == 0).all(), "row 2 has one leaf"


def test_no_rows():
    root, nodes = make()(draw(rows=0), [])
    assert root.shape == (0, H)
    assert nodes.shape == (2 * T - 1, 0, H)


def test_a_chain_deeper_than_pythons_stack():
    leaves = 3000
    model, x = make(), draw(leaves, 1)
    assert torch.isfinite(model(x, [chain(leaves)])[0]).all()


SHORT = [(2, balanced(2)), (3, chain(3)), (3, (0, (1, 2))), (4, balanced(4)), (4, chain(4))]


def parity(generator, trees):
    """Bits as -1 and 1 at the leaves, and whether their sum is odd."""
    counts = torch.tensor([leaves for leaves, _ in trees])
    bits = torch.randint(2, (int(counts.max()), len(trees)), generator=generator)
    odd = (bits * (torch.arange(len(bits))[:, None] < counts)).sum(0) % 2
    return 2.0 * bits.unsqueeze(-1).float() - 1.0, odd, [tree for _, tree in trees]


def test_parity_learned_on_short_trees_holds_on_deeper_ones():
    """One set of weights for every node: what 2 to 4 leaves teach is right for 16."""
    torch.manual_seed(0)
    model, head = TreeNetwork(1, 16, "lstm"), nn.Linear(16, 2)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], 0.03)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        x, odd, trees = parity(generator, SHORT * 8)
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(model(x, trees)[0]), odd).backward()
        optimiser.step()
    x, odd, trees = parity(generator, [(16, balanced(16))] * 256)
    assert (head(model(x, trees)[0]).argmax(-1) == odd).double().mean() > 0.95


def test_it_survives_copies_and_its_state_dict(tmp_path):
    model, x = make("lstm"), draw()
    want = model(x, TREES)[0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x, TREES)[0], want)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh = TreeNetwork(I, H, "lstm").double()
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(fresh(x, TREES)[0], want)


class Endless(list):
    """A list that is its own left child."""

    def __init__(self):
        super().__init__([self, 0])


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ((0, 1, 2), ShapeError, "has a node of 3 parts; expected pairs"),
        ((), ShapeError, "has a node of 0 parts"),
        ((0, (1,)), ShapeError, "has a node of 1 parts"),
        ((0, "1"), DtypeError, "holds a str; expected nested pairs"),
        ((0, True), DtypeError, "holds a bool"),
        (None, DtypeError, "holds a NoneType"),
        ((0, (1, 0)), ShapeError, "has leaf 0 twice"),
        ((0, (1, 3)), ShapeError, "has the leaf 3 among 3; expected each of 0 to 2 once"),
        ((0, -1), ShapeError, "has the leaf -1 among 2"),
        (1, ShapeError, "has the leaf 1 among 1"),
        (chain(T + 1), ShapeError, f"has more than {T} leaves; expected at most T={T}"),
        (Endless(), ShapeError, f"has more than {T} leaves"),
        (torch.zeros(3, dtype=torch.int64), ShapeError, r"has shape \[3\]; expected \[n - 1, 2\]"),
        (torch.zeros(1, 2), DtypeError, "has dtype torch.float32; expected whole numbers"),
        (np.array([[0, 1], [2, 4]]), ShapeError, "gives node 4 the child 4; expected 0 to 3"),
        (np.array([[0, 1], [-1, 3]]), ShapeError, "gives node 4 the child -1"),
        (np.array([[0, 1], [1, 3]]), ShapeError, "has node 1 twice; expected one parent"),
        (
            np.array(inner_nodes(chain(T + 1), "", T + 1)),
            ShapeError,
            f"has {T + 1} leaves; expected",
        ),
    ],
    ids=lambda value: "tree" if not isinstance(value, str | type) else None,
)
def test_malformed_trees(tree, error, message):
    with pytest.raises(error, match=rf"trees\[1\] {message}"):
        make()(draw(rows=2), [chain(T), tree])


@pytest.mark.parametrize(
    ("x", "trees", "error", "message"),
    [
        (draw(), [0], ShapeError, f"trees has 1 trees; expected {B}"),
        (draw(), 0, DtypeError, "trees is a int; expected a list"),
        (draw()[..., :2], TREES, ShapeError, "got 2 expected 3"),
        (draw()[0], TREES, ShapeError, "Expected input to be 3D, got 2D"),
        (draw().float(), TREES, DtypeError, "does not match weight dtype"),
        (draw(0, 1), [0], ShapeError, "at most T=0"),
    ],
)
def test_calls_that_do_not_fit(x, trees, error, message):
    with pytest.raises(error, match=message):
        make()(x, trees)


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError, match="cell='gru'; expected one of rnn, lstm"):
        TreeNetwork(I, H, "gru")
    with pytest.raises(ConfigError, match="hidden_size must be greater than zero, got 0"):
        TreeNetwork(I, 0)
