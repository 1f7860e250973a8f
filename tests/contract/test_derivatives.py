"""One table of derivatives for every cell: numbers compared with those of a plain loop.

"It does not raise" proves nothing here: an op whose tangents are dropped raises nothing either.
"""

import pickle
import warnings

import pytest
import torch
from torch import func
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import throughtime as tt
from plain_loop import plain_loop
from throughtime.cells import CATALOGUE
from throughtime.engine import operators
from tolerances import TOLERANCE

T, B, I, H, P = 4, 2, 3, 5, 2
CLOSE = TOLERANCE["derivatives", torch.float64].bound


class Case:
    """A layer of a cell, an input, a state, and the same as a plain function."""

    def __init__(self, name):
        torch.manual_seed(sum(map(ord, name)))
        cell = CATALOGUE[name]
        projects = any(s.width == "projection" for s in cell.states)
        self.layer = tt.Recurrent(cell, I, H, proj_size=P if projects else 0, dtype=torch.float64)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.mul_(2.0)
        self.params = {k: v.detach().clone() for k, v in self.layer.named_parameters()}
        self.x = torch.randn(T, B, I, dtype=torch.float64)
        widths = self.layer._runs[0].jobs[False, None].state_sizes()
        self.states = [torch.randn(1, B, w, dtype=torch.float64) * 0.5 for w in widths]

    def ours(self, params, x, *states):
        hx = tuple(states) if len(states) > 1 else states[0]
        return func.functional_call(self.layer, params, (x, hx))[0]

    def plain(self, params, x, *states):
        buffers = dict(self.layer.named_buffers())
        return plain_loop(self.layer, params | buffers, x, states)[0]

    def losses(self):
        """Both as scalar functions of (params, x, *states)."""

        def loss(run):
            return lambda params, x, *states: (run(params, x, *states) ** 2).sum()

        return loss(self.ours), loss(self.plain)

    @property
    def inputs(self):
        return (self.params, self.x, *self.states)


@pytest.fixture(params=list(CATALOGUE))
def case(request):
    return Case(request.param)


# Compiling takes seconds; these cover params, several states, phases and emit. The rest are slow.
COMPILED = ("rnn", "lstm", "gru", "lru")


@pytest.fixture(
    params=[
        name if name in COMPILED else pytest.param(name, marks=pytest.mark.slow)
        for name in CATALOGUE
    ]
)
def compiled_case(request):
    return Case(request.param)


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


def assert_same(ours, plain):
    ours, plain = ([t.detach() for t in leaves(tree)] for tree in (ours, plain))
    assert len(ours) == len(plain) > 0
    for a, b in zip(ours, plain, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        assert float((a - b).abs().max() if b.numel() else 0.0) <= CLOSE * scale


def live(case):
    """The parameters, input and states as leaves that require a gradient."""
    params = {k: v.clone().requires_grad_() for k, v in case.params.items()}
    return (
        params,
        case.x.clone().requires_grad_(),
        *[s.clone().requires_grad_() for s in case.states],
    )


def test_forward(case):
    assert_same(case.ours(*case.inputs), case.plain(*case.inputs))


def test_backward_and_create_graph_up_to_third_order(case):
    results = []
    for loss in case.losses():
        inputs = live(case)
        wanted, found = leaves(inputs), []
        value = loss(*inputs)
        for _ in range(3):
            gradients = torch.autograd.grad(
                value, wanted, create_graph=True, allow_unused=True, materialize_grads=True
            )
            found.extend(g.detach() for g in gradients)
            value = sum((g**2).sum() for g in gradients)
        results.append(found)
    assert_same(*results)


def test_gradcheck_and_gradgradcheck(case):
    params, *rest = live(case)
    names = list(params)

    def run(*tensors):
        named = dict(zip(names, tensors, strict=False))
        return case.ours(named, *tensors[len(names) :])

    inputs = (*params.values(), *rest)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_func_grad_and_vjp(case):
    argnums = tuple(range(len(case.inputs)))
    assert_same(*[func.grad(loss, argnums)(*case.inputs) for loss in case.losses()])
    seed = torch.randn_like(case.plain(*case.inputs))
    assert_same(*[func.vjp(run, *case.inputs)[1](seed) for run in (case.ours, case.plain)])


def test_func_jvp_and_dual_tensors(case):
    tangents = torch.utils._pytree.tree_map(torch.randn_like, case.inputs)
    expected = func.jvp(case.plain, case.inputs, tangents)
    assert_same(func.jvp(case.ours, case.inputs, tangents), expected)
    with forward_ad.dual_level():
        duals = torch.utils._pytree.tree_map(forward_ad.make_dual, case.inputs, tangents)
        primal, tangent = forward_ad.unpack_dual(case.ours(*duals))
    assert_same((primal, tangent), expected)


def test_func_jacobians_and_hessian(case):
    small = (case.params, case.x[:2, :1], *[s[:, :1] for s in case.states])
    runs = (case.ours, case.plain)
    assert_same(*[func.jacrev(run, argnums=(1, 2))(*small) for run in runs])
    assert_same(*[func.jacfwd(run, argnums=(1, 2))(*small) for run in runs])
    assert_same(*[func.hessian(loss, argnums=1)(*small) for loss in case.losses()])


def test_vmap_over_input_state_and_each_weight(case):
    def stacked(a):
        return torch.stack([a, a * 0.5, a + 0.1])

    for place in range(1, len(case.inputs)):
        inputs = [*case.inputs]
        inputs[place] = stacked(inputs[place])
        dims = tuple(0 if i == place else None for i in range(len(inputs)))
        ours = func.vmap(case.ours, dims)(*inputs)
        plain = [
            case.plain(*[a[k] if i == place else a for i, a in enumerate(inputs)]) for k in range(3)
        ]
        assert_same(ours, torch.stack(plain))
    for name in case.params:
        several = stacked(case.params[name])
        ours = func.vmap(lambda w, n=name: case.ours(case.params | {n: w}, *case.inputs[1:]))(
            several
        )
        plain = [case.plain(case.params | {name: several[k]}, *case.inputs[1:]) for k in range(3)]
        assert_same(ours, torch.stack(plain))


def test_functional_call_ensembles(case):
    ensemble = {k: torch.stack([v, v * 0.7]) for k, v in case.params.items()}
    dims = (0, *[None] * (len(case.inputs) - 1))
    ours = func.vmap(case.ours, dims)(ensemble, *case.inputs[1:])
    plain = [case.plain({k: v[i] for k, v in ensemble.items()}, *case.inputs[1:]) for i in range(2)]
    assert_same(ours, torch.stack(plain))


def test_per_sample_gradients(case):
    rows = (case.x.unsqueeze(2), *[s.unsqueeze(2) for s in case.states])  # [..., B, 1, w]
    found = [
        func.vmap(func.grad(loss), (None, *[1] * len(rows)))(case.params, *rows)
        for loss in case.losses()
    ]
    assert_same(*found)


def test_batched_gradients(case):
    results = []
    for run in (case.ours, case.plain):
        inputs = live(case)
        out = run(*inputs)
        torch.manual_seed(7)
        several = torch.randn(3, *out.shape, dtype=torch.float64)
        results.append(
            [
                torch.autograd.grad(
                    out, leaves(inputs), seed, retain_graph=True, materialize_grads=True
                )
                for seed in several
            ]
            if run == case.plain
            else torch.autograd.grad(
                out, leaves(inputs), several, is_grads_batched=True, materialize_grads=True
            )
        )
    batched, single = results
    assert_same(list(batched), [torch.stack(parts) for parts in zip(*single, strict=True)])


def test_vectorized_jacobian(case):
    def run(run):
        return lambda x: run(case.params, x, *case.states)

    found = [
        torch.autograd.functional.jacobian(run(f), case.x[:2], vectorize=True)
        for f in (case.ours, case.plain)
    ]
    assert_same(*found)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(case, reentrant):
    results = []
    for wrapped in (True, False):
        params, *rest = live(case)
        wanted = rest if reentrant else [*rest, *params.values()]  # reentrant sees tensors alone
        if wrapped:
            out = checkpoint(case.ours, params, *rest, use_reentrant=reentrant)
        else:
            out = case.plain(params, *rest)
        (out**2).sum().backward()
        results.append([t.grad for t in wanted])
    assert_same(*results)


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager", fullgraph=True, **options)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_forward_and_backward(compiled_case, dynamic):
    case = compiled_case
    results = []
    for run in (compiled(case.ours, dynamic=dynamic), case.plain):
        inputs = live(case)
        out = run(*inputs)
        gradients = torch.autograd.grad(
            (out**2).sum(), leaves(inputs), allow_unused=True, materialize_grads=True
        )
        results.append([out.detach(), *gradients])
    assert_same(*results)


def test_compile_around_vmap_grad_and_jvp(compiled_case):
    case = compiled_case
    several = torch.stack([case.x, case.x * 0.5])
    rest = case.states
    wrapped = {
        "vmap": (lambda run: lambda x: func.vmap(lambda a: run(case.params, a, *rest))(x), several),
        "grad": (
            lambda run: lambda x: func.grad(lambda a: (run(case.params, a, *rest) ** 2).sum())(x),
            case.x,
        ),
        "jvp": (
            lambda run: lambda x: func.jvp(lambda a: run(case.params, a, *rest), (x,), (x,))[1],
            case.x,
        ),
    }
    for wrap, x in wrapped.values():
        assert_same(compiled(wrap(case.ours))(x), wrap(case.plain)(x))


def test_compile_gives_one_node_and_few_recompiles():
    case = Case("lstm")
    torch._dynamo.reset()
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(case.layer, backend=counter, fullgraph=True)
    with torch.no_grad():
        for steps in (4, 5, 6, 9, 1, 7):
            x = torch.randn(steps, B, I, dtype=torch.float64)
            assert_same(run(x)[0], case.layer(x)[0])
        assert counter.frame_count <= 3
        torch._dynamo.reset()
        torch.compile(case.layer, backend=backend, fullgraph=True)(case.x)
    targets = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    assert sum("throughtime.sequence" in target for target in targets) == 1


def test_compile_after_loading():
    case = Case("lstm")
    loaded = pickle.loads(pickle.dumps(case.layer))
    assert_same(compiled(loaded)(case.x)[0], case.layer(case.x)[0])


def test_export_with_free_steps_and_rows(case):
    steps, rows = torch.export.Dim("steps", min=2), torch.export.Dim("rows", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations inside export
        program = torch.export.export(
            case.layer, (case.x,), dynamic_shapes={"input": {0: steps, 1: rows}}
        )
    x = torch.randn(9, 7, I, dtype=torch.float64)
    assert_same(program.module()(x)[0], case.layer(x)[0])


# Params, several states, emit with matrices, phases: what the op's arguments can look like.
@pytest.mark.parametrize("name", ["lstm", "lstm_projection", "gru_reset_before", "indrnn", "lru"])
@pytest.mark.parametrize("masked", [False, True])
def test_opcheck(name, masked):
    case = Case(name)
    run = case.layer._runs[0]
    engine = "reference" if masked else "auto"
    job = run.jobs[masked, None]
    params = [getattr(case.layer, n) for n in (*run.names.weights, *run.names.params)]
    tensors = [t.detach().clone().requires_grad_() for t in (case.x, *case.states, *params)]
    lengths = torch.tensor([3, 4]) if masked else None
    reset = torch.tensor([[False, True], [True, False], [False, False], [True, True]])
    args = (tensors, lengths, reset if masked else None, job.text, engine)
    assert set(torch.library.opcheck(operators.sequence, args).values()) == {"SUCCESS"}
    with torch.no_grad():
        gradients = [torch.randn_like(o) for o in operators.sequence(*args)]
    found = torch.library.opcheck(operators.sequence_backward, (gradients, *args))
    assert set(found.values()) == {"SUCCESS"}


class Watching(TorchDispatchMode):
    """A dispatch mode that changes nothing and counts our ops."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_under_a_dispatch_mode(case):
    inputs = live(case)
    with Watching() as mode:
        ours = torch.autograd.grad(
            (case.ours(*inputs) ** 2).sum(),
            leaves(inputs),
            allow_unused=True,
            materialize_grads=True,
        )
    assert "throughtime.sequence_backward.default" in mode.seen
    assert_same(ours, func.grad(case.losses()[1], tuple(range(len(inputs))))(*case.inputs))


def test_op_differentiates_twice():
    case = Case("lstm")
    run = case.layer._runs[0]
    weights = [case.params[n] for n in run.names.weights]
    tensors = [t.clone().requires_grad_() for t in (case.x, *case.states, *weights)]
    results = []
    for plain in (False, True):
        if plain:
            named = dict(zip(run.names.weights, tensors[3:], strict=True))
            out = case.plain(named, tensors[0], *tensors[1:3])
        else:
            job = run.jobs[False, None].text
            out = torch.ops.throughtime.sequence(tensors, None, None, job, "vendor")[0]
        first = torch.autograd.grad((out**2).sum(), tensors, create_graph=True)
        results.append(torch.autograd.grad(sum((g**2).sum() for g in first), tensors))
    assert_same(*results)
