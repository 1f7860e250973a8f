"""Which vectors does this machine have?

The code is written for one of three widths; the rest of the machine is LLVM's to know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

from throughtime.engine.llvm.ir import Lanes
from throughtime.errors import EngineError

__all__ = ["GENERIC", "Machine", "binding", "forced", "lacking", "machine"]

Width = Literal["avx512", "avx2", "v128"]
_BITS: dict[Width, Literal[512, 256, 128]] = {"avx512": 512, "avx2": 256, "v128": 128}
_NEEDS: dict[Width, tuple[str, ...]] = {
    "avx512": ("avx512f", "avx512vl", "avx512dq", "avx512bw"),
    "avx2": ("avx2", "fma"),
    "v128": (),
}


@dataclass(frozen=True)
class Machine:
    """What code is generated for.

    Attributes:
        name: The kind of vectors: `"avx512"`, `"avx2"` or `"v128"`.
        cpu: LLVM's name of the processor.
        features: LLVM's list of what it can do, such as `"+avx2,+fma"`.
        bits: The width of a vector register.
        registers: How many vector registers there are.
        triple: LLVM's name of processor and system; this process's own where empty.
    """

    name: Width
    cpu: str
    features: str
    bits: Literal[512, 256, 128]
    registers: int
    triple: str = ""

    @property
    def arm(self) -> bool:
        """Whether this is a 64-bit ARM processor."""
        return _is_arm(self.triple or _host().triple)

    def lanes(self, real: Literal["float", "double"]) -> Lanes:
        """The vector that fills one register.

        Args:
            real: What each lane holds.

        Returns:
            The vector type.
        """
        return Lanes(real, self.bits // (32 if real == "float" else 64))


# Machines to compile for on any host; on hosts of another kind the code is read, never run.
GENERIC: dict[str, Machine] = {
    "avx512": Machine("avx512", "skylake-avx512", "", 512, 32, "x86_64-unknown-linux-gnu"),
    "avx2": Machine("avx2", "haswell", "", 256, 16, "x86_64-unknown-linux-gnu"),
    "v128": Machine("v128", "x86-64-v2", "", 128, 16, "x86_64-unknown-linux-gnu"),
    "neon": Machine("v128", "neoverse-n1", "", 128, 32, "aarch64-unknown-linux-gnu"),
}


def machine() -> Machine:
    """The machine that kernels are generated for: the host, unless a width is forced.

    Returns:
        The machine; the same object for each call.

    Raises:
        EngineError: If llvmlite is missing or the processor is neither x86-64 nor ARM64.
    """
    return _forced[-1] if _forced else _best()


@contextmanager
def forced(name: Width) -> Iterator[Machine]:
    """Generate for narrower vectors than the host has, in all threads: for tests and benchmarks.

    Everything else that the host can do stays: fused multiply-add with 128-bit vectors, say.

    Args:
        name: The kind of vectors.

    Yields:
        The machine that is forced.

    Raises:
        EngineError: If the host does not have such vectors.
    """
    given = _narrowed(name)
    _forced.append(given)
    try:
        yield given
    finally:
        _forced.remove(given)


@cache
def lacking() -> str | None:
    """Why no code can be generated in this process, to be read after the engine's name.

    Returns:
        A reason; None if code can be generated.
    """
    try:
        triple = binding().get_process_triple()
    except EngineError as error:
        return (
            f"it needs llvmlite, which cannot be imported here ({error.__cause__}); "
            "pip install llvmlite"
        )
    if _is_known(triple):
        return None
    return f"it generates code for x86-64 and ARM64, and this process runs on {triple}"


def binding() -> ModuleType:
    """The part of llvmlite that speaks to LLVM, imported when first used.

    Returns:
        The module `llvmlite.binding`.

    Raises:
        EngineError: If llvmlite cannot be imported.
    """
    try:
        from llvmlite import binding
    except (ImportError, OSError) as error:  # OSError: its shared library cannot be loaded
        raise EngineError(
            f"engine 'llvm' needs llvmlite, which cannot be imported here ({error}); "
            "pip install llvmlite, or take engine='reference' or 'vendor'"
        ) from error
    return binding


@dataclass(frozen=True)
class _Host:
    triple: str
    cpu: str
    features: dict[str, bool]


_forced: list[Machine] = []


@cache
def _host() -> _Host:
    llvm = binding()
    triple = llvm.get_process_triple()
    if not _is_known(triple):
        raise EngineError(
            f"engine 'llvm' generates code for x86-64 and ARM64, this process runs on {triple}; "
            "take engine='reference' or 'vendor'"
        )
    try:
        features = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # a system that does not tell; the processor's name must do
        features = {}
    return _Host(triple, llvm.get_host_cpu_name(), features)


def _is_known(triple: str) -> bool:
    return _is_arm(triple) or triple.startswith(("x86_64", "amd64"))


def _is_arm(triple: str) -> bool:
    return triple.startswith(("aarch64", "arm64"))


@cache
def _best() -> Machine:
    return _narrowed(_widest())


def _widest() -> Width:
    return next(name for name in ("avx512", "avx2", "v128") if _has(name))


def _has(name: Width) -> bool:
    return all(_host().features.get(feature, False) for feature in _NEEDS[name])


@cache
def _narrowed(name: Width) -> Machine:
    """The host with vectors of a width: what belongs to wider ones is switched off."""
    if name not in _BITS or not _has(name):
        have = ", ".join(repr(each) for each in _BITS if _has(each))
        raise EngineError(f"this machine has no {name!r} vectors; it has {have}")
    host = _host()
    wide = () if name == "avx512" else ("avx512", "avx10")
    features = {key: on and not key.startswith(wide) for key, on in host.features.items()}
    flags = ",".join(f"{'+' if on else '-'}{key}" for key, on in sorted(features.items()))
    registers = 32 if name == "avx512" or _is_arm(host.triple) else 16
    return Machine(name, host.cpu, flags, _BITS[name], registers)
