# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false
"""Which private names of torch do we need? All of them stand here, each with a test.

A new torch breaks here and nowhere else.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transform_active() -> bool:
    """Whether a torch.func transform (grad, vjp, jvp, vmap, ...) or a dual level is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def dispatch_mode_active() -> bool:
    """Whether a __torch_dispatch__ mode (fake tensors, tracing, flop counting) is active."""
    return torch._C._len_torch_dispatch_stack() > 0


_transforms: Any = torch._C._are_functorch_transforms_active
_modes: Any = torch._C._len_torch_dispatch_stack
_autocast: Any = torch._C._is_any_autocast_enabled


def undisturbed() -> bool:
    """Whether no transform, dual level, dispatch mode or autocast is active, at one blow."""
    return not (_transforms() or forward_ad._current_level >= 0 or _modes() or _autocast())


_is_batched: Any = torch._C._functorch.is_batchedtensor
_is_legacy_batched: Any = torch._C._functorch.is_legacy_batchedtensor


def is_batched(gradient: Tensor | None) -> bool:
    """Whether a gradient stands for many at once (is_grads_batched, vectorized Jacobians)."""
    return gradient is not None and (_is_batched(gradient) or _is_legacy_batched(gradient))


def keeps_graph() -> bool:
    """Within a backward: whether the graph will be used again (retain_graph=True)."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


@contextmanager
def autograd_below_op() -> Iterator[None]:
    """Switch autograd on inside an op's kernel, where the dispatcher has switched it off.

    torch.func would do without, but it is switched off there too while a dispatch mode is active.
    """
    keys: Any = torch._C.DispatchKey
    with torch._C._PreserveDispatchKeyGuard(), torch.enable_grad():
        for key in (keys.AutogradFunctionality, keys.ADInplaceOrView):
            torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)  # noqa: FBT003 (torch's)
        yield


def storage_users(storage: torch.UntypedStorage) -> int:
    """A number that is larger by at least one for every other user of a storage.

    Users are tensors, views, what a graph saved, and Python variables. Compare it with the number
    at a time when there was no other user.
    """
    return torch._C._storage_Use_Count(storage._cdata) + sys.getrefcount(storage)
