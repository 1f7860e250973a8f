"""Do the engines compute what torch.nn does, and with what are fused kernels built and run here?"""

import ctypes
import threading
import time
from typing import TYPE_CHECKING, Any

from throughtime.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["check_engines", "look_at_kernels"]

# Of the largest element; the worst of our engines is below 1e-14, in float32 below 1e-6.
_TOLERANCE = 1e-12
_TOLERANCE_FLOAT32 = 1e-5


def check_engines() -> dict[str, dict[str, Any]]:
    """Compare an LSTM of each engine with torch.nn's, in float64.

    Returns:
        For each engine the worst error and whether that is right; None for one that is not to be
        had here, with the reason. One that fails at its work is not right.
    """
    from throughtime.engine import NAMES

    return {name: _checked(name) for name in NAMES if name != "auto"}


def look_at_kernels() -> dict[str, Any]:
    """See what the fused engine builds kernels with, and have it build some.

    Returns:
        Versions, vectors, threads, how long building took, and the worst error against the
        reference; the reason alone where no kernels can be built.
    """
    from throughtime.engine.llvm.machine import binding, machine

    try:
        host = machine()
    except EngineError as error:
        return {"refusal": str(error)}
    threads, team = _who_comes()
    return {
        "llvm": ".".join(map(str, binding().llvm_version_info)),
        "processor": host.cpu,
        "vectors": host.name,
        "vector_bits": host.bits,
        "threads": threads,
        "team": team,
        **_built(),
    }


def _checked(engine: str) -> dict[str, Any]:
    refusal = _no_llvm() if engine == "llvm" else None
    if refusal is not None:
        return {"worst_error": None, "is_right": None, "refusal": refusal}
    try:
        error = _error_from_torch(engine)
    except EngineError as failed:
        return {"worst_error": None, "is_right": False, "failure": str(failed)}
    return {"worst_error": error, "is_right": error <= _TOLERANCE}


def _no_llvm() -> str | None:
    """Why there can be no fused kernels here; None if there can."""
    from throughtime.engine.llvm.machine import machine

    try:
        machine()
    except EngineError as error:
        return str(error)
    return None


def _error_from_torch(engine: str) -> float:
    import torch

    from throughtime.nn import LSTM

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 5, dtype=torch.float64, generator=generator)
    theirs = torch.nn.LSTM(5, 6, num_layers=2, dtype=torch.float64)
    ours = LSTM(5, 6, num_layers=2, dtype=torch.float64, engine=engine)
    ours.load_state_dict(theirs.state_dict())
    return _worst(_numbers(ours, x), _numbers(theirs, x))


def _built() -> dict[str, Any]:
    """Build the kernels of an LSTM that is just large enough for several threads, and run them."""
    import torch

    from throughtime.nn import LSTM

    x = torch.randn(20, 16, 8, generator=torch.Generator().manual_seed(0))
    ours, reference = LSTM(8, 32, engine="llvm"), LSTM(8, 32, engine="reference")
    reference.load_state_dict(ours.state_dict())
    try:
        start = time.perf_counter()
        found = _numbers(ours, x)
        middle = time.perf_counter()
        _numbers(ours, x)
        again_s = time.perf_counter() - middle
    except EngineError as failed:
        return {"compile_s": None, "worst_error": None, "is_right": False, "failure": str(failed)}
    error = _worst(found, _numbers(reference, x))
    return {
        "compile_s": round(max(middle - start - again_s, 0.0), 3),
        "worst_error": error,
        "is_right": error <= _TOLERANCE_FLOAT32,
    }


def _who_comes() -> tuple[int, str]:
    """How many threads do a kernel's work, and whose they are: each is asked."""
    from throughtime.engine.llvm.team import launch, team_size

    seen: list[int] = []

    def kernel(_arguments: int | None, _thread: int, _threads: int) -> None:
        seen.append(threading.get_ident())

    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    called = prototype(kernel)
    address = ctypes.cast(called, ctypes.c_void_p).value
    assert address is not None, "a function has an address"
    launch(address, 0, team_size())
    if len(seen) == 1:
        return 1, "the caller's own"
    is_openmp = threading.get_ident() in seen  # whose team the caller belongs to
    return len(seen), "torch's OpenMP team" if is_openmp else "threads of Python's"


def _numbers(layer: "nn.Module", x: "Tensor") -> "list[Tensor]":
    """Its output, and the gradients of all weights."""
    import torch

    output, _ = layer(x)
    named = dict(layer.named_parameters())
    gradients = torch.autograd.grad(output.square().sum(), [named[n] for n in sorted(named)])
    return [output.detach(), *gradients]


def _worst(found: "list[Tensor]", right: "list[Tensor]") -> float:
    """The largest difference, by the largest element of each tensor."""
    pairs = zip(found, right, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
