"""Each private name of torch still does what we need it for."""

import torch
from torch import func
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from throughtime.engine import torch_internals


class Plain(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def test_transform_active():
    seen = []

    def look(x):
        seen.append(torch_internals.transform_active())
        return x.sum()

    assert not torch_internals.transform_active()
    func.grad(look)(torch.ones(2))
    func.vmap(look)(torch.ones(2, 3))
    func.jvp(look, (torch.ones(2),), (torch.ones(2),))
    with forward_ad.dual_level():
        look(torch.ones(2))
    assert seen == [True] * 4
    assert not torch_internals.transform_active()


def test_dispatch_mode_active():
    assert not torch_internals.dispatch_mode_active()
    with Plain():
        assert torch_internals.dispatch_mode_active()


def test_undisturbed():
    seen = []

    def look(x):
        seen.append(torch_internals.undisturbed())
        return x.sum()

    look(torch.ones(2))
    func.grad(look)(torch.ones(2))
    func.vmap(look)(torch.ones(2, 3))
    with forward_ad.dual_level():
        look(torch.ones(2))
    with Plain():
        look(torch.ones(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        look(torch.ones(2))
    look(torch.ones(2))
    assert seen == [True, *[False] * 5, True]


def test_is_batched():
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            seen.append(torch_internals.is_batched(gradient))
            return gradient * 2

    x = torch.ones(2, requires_grad=True)
    y = Look.apply(x)
    torch.autograd.grad(y, x, torch.ones(3, 2), is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(2))
    assert seen == [True, False]
    func.vmap(lambda g: seen.append(torch_internals.is_batched(g)) or g)(torch.ones(3, 2))
    assert seen[-1]
    assert not torch_internals.is_batched(None)


def test_keeps_graph():
    seen = []

    class Look(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            seen.append(torch_internals.keeps_graph())
            return gradient * 2

    y = Look.apply(torch.ones(2, requires_grad=True)).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert seen == [True, False]


def test_autograd_below_op():
    @torch.library.custom_op("throughtime_test::slope", mutates_args=())
    def slope(x: torch.Tensor) -> torch.Tensor:
        blind = x.detach().requires_grad_()
        seen.append((blind * blind).requires_grad)
        with torch_internals.autograd_below_op():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad((leaf**3).sum(), leaf)[0]

    x = torch.tensor([1.0, 2.0])
    seen = []
    assert slope(x).tolist() == [3.0, 12.0]
    with Plain():
        assert slope(x).tolist() == [3.0, 12.0]
    assert seen == [False, False], "autograd is on inside kernels now: the guard can go"


def test_storage_users():
    tensor = torch.empty(100)
    storage = tensor.untyped_storage()
    alone = torch_internals.storage_users(storage)

    def others():
        return torch_internals.storage_users(storage) - alone

    assert others() == 0
    product = (tensor.data * torch.ones(100, requires_grad=True)).sum()
    assert others() == 1, "a graph saved it"
    product.backward()
    assert others() == 0
    users = [tensor.data, tensor[3:], tensor[3:].view(-1).numpy(), tensor.untyped_storage()]
    while users:
        assert others() == len(users)
        users.pop()
    assert others() == 0
