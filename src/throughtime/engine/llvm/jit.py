"""How does LLVM's text become machine code in memory?

No IR passes: the text is written the way it should run, and passes would cost more time than all
the rest. No file is written, no other program started, and no option of LLVM is set that another
user of llvmlite in the same process could notice.
"""

import os
import re
import threading
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from throughtime.engine.llvm.machine import Machine, binding
from throughtime.errors import EngineError

__all__ = ["Module", "assembly", "compiled"]

_EFFORT: int = 1  # of code generation: as fast as 2 and 3 for code that needs no passes
_EXTERNAL = {
    "GOMP_parallel": "void (ptr, ptr, i32, i32)",
    "omp_get_num_threads": "i32 ()",
    "omp_get_thread_num": "i32 ()",
    "sched_yield": "i32 ()",
}
_LOCK = threading.RLock()
_Key = tuple[str, Machine, tuple[tuple[str, int], ...], int]
_modules: dict[_Key, "Module"] = {}

# A process that is forked while another thread is in llvmlite, which has a lock of its own, would
# inherit a lock that nobody opens. So every call of llvmlite holds this one, but for those that ask
# once what the machine is; and so does a fork.
os.register_at_fork(
    before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
)


class Module:
    """Functions in memory, which live as long as this object does.

    Attributes:
        machine: What they were compiled for.
    """

    def __init__(self, engine: Any, machine: Machine) -> None:
        self._engine = engine
        self.machine = machine

    def address(self, name: str) -> int:
        """Where a function starts.

        Args:
            name: Its name in the text, without the @ sign.

        Returns:
            The address.

        Raises:
            KeyError: If the text defines no such function for callers outside.
        """
        with _LOCK:
            address = self._engine.get_function_address(name)
        if not address:
            raise KeyError(name)
        return address


def compiled(text: str, machine: Machine, symbols: Mapping[str, int] | None = None) -> Module:
    """Machine code for a text; equal texts are compiled once in a process.

    Args:
        text: Functions in LLVM's language. Declarations of intrinsics and of the few external
            functions in use are added.
        machine: What to compile for; the host must be able to run it.
        symbols: Addresses of external functions, where they are not to be looked up by name in the
            process.

    Returns:
        The functions; kept for the life of the process.

    Raises:
        EngineError: If llvmlite is missing, LLVM has no such target, or the text is wrong.
    """
    key = (text, machine, tuple(sorted((symbols or {}).items())), _EFFORT)
    found = _modules.get(key)
    if found is None:
        with _LOCK:
            found = _modules.get(key)
            if found is None:
                found = _modules[key] = _compile(text, machine, symbols or {})
    return found


def assembly(text: str, machine: Machine) -> str:
    """What the processor would be told, in words; for any machine, as nothing is run.

    Args:
        text: Functions in LLVM's language, as for `compiled`.
        machine: What to compile for.

    Returns:
        The assembly.

    Raises:
        EngineError: As `compiled`.
    """
    with _LOCK:
        target = _target(machine)
        return target.emit_assembly(_parse(text, target))


def _compile(text: str, machine: Machine, symbols: Mapping[str, int]) -> Module:
    target = _target(machine)
    module = _parse(text, target)
    engine = binding().create_mcjit_compiler(module, target)
    for name, address in symbols.items():
        if re.search(rf"@{name}\b", text):
            engine.add_global_mapping(module.get_function(name), address)
    engine.finalize_object()
    return Module(engine, machine)


def _parse(text: str, target: Any) -> Any:
    """The module of a text, complete and checked."""
    head = f'target datalayout = "{target.target_data}"\ntarget triple = "{target.triple}"\n'
    try:
        module = binding().parse_assembly(head + text + _declarations(text))
        module.verify()
    except RuntimeError as error:
        raise EngineError(f"LLVM does not take the generated code: {error}") from error
    return module


def _target(machine: Machine) -> Any:
    """LLVM's generator of code for a machine; a new one each time, as engines keep theirs."""
    llvm = _initialised()
    triple = machine.triple or llvm.get_process_triple()
    try:
        if machine.triple:
            _all_targets()
        found = llvm.Target.from_triple(triple)
        return found.create_target_machine(
            cpu=machine.cpu, features=machine.features, opt=_EFFORT, jit=True
        )
    except RuntimeError as error:
        raise EngineError(
            f"LLVM cannot generate code for {machine.cpu} ({triple}): {error}"
        ) from error


@cache
def _initialised() -> ModuleType:
    llvm = binding()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _all_targets() -> None:
    binding().initialize_all_targets()
    binding().initialize_all_asmprinters()


def _declarations(text: str) -> str:
    """Lines that declare what a text calls and does not hold."""
    called = set(re.findall(r"@(llvm\.[\w.]+)\(", text))
    lines = [_intrinsic(name, text) for name in sorted(called)]
    for name, signature in _EXTERNAL.items():
        if f"@{name}(" in text:
            result, _, given = signature.partition(" ")
            lines.append(f"declare {result} @{name}{given}")
    return "\n" + "\n".join(line for line in lines if line.split("(")[0] not in text) + "\n"


def _intrinsic(name: str, text: str) -> str:
    """The declaration of an intrinsic, from the first call of it."""
    found = re.search(rf"call ([^@\n]+) @{re.escape(name)}\(", text)
    if found is None:
        return ""
    types = ", ".join(_type(argument) for argument in _arguments(text, found.end()))
    return f"declare {found[1]} @{name}({types})"


def _arguments(text: str, start: int) -> list[str]:
    """The arguments of a call, cut at the commas that lie in no bracket."""
    depth, cut, cuts = 0, start, list[str]()
    for place in range(start, len(text)):
        letter = text[place]
        if letter in ",)" and depth == 0:
            cuts.append(text[cut:place].strip())
            cut = place + 1
            if letter == ")":
                break
        depth += (letter in "<([{") - (letter in ">)]}")
    return [each for each in cuts if each]


def _type(argument: str) -> str:
    """The type in front of an argument's value: a word, or whatever its first bracket holds."""
    depth = 0
    for place, letter in enumerate(argument):
        depth += (letter in "<([{") - (letter in ">)]}")
        if depth == 0 and (letter in ">)]}" or letter == " "):
            return argument[: place + (letter != " ")]
    return argument
