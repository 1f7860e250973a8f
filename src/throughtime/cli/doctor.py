"""Can throughtime do its work here, and with what?"""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from throughtime import __version__
from throughtime.cli.command import Command

__all__ = ["Doctor"]

_PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "rich",
    "tyro",
    "llvmlite",
    "tokenizers",
    "matplotlib",
)


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Show versions, processor and engines, and check an LSTM of each engine against torch.nn."""

    def __call__(self) -> int:
        """Print the findings; status 1 if an engine disagrees with torch.nn."""
        import torch

        from throughtime.cli.doctor_engines import check_engines, look_at_kernels
        from throughtime.cli.screen import Screen

        kernels, engines = look_at_kernels(), check_engines()
        findings = {
            "throughtime": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "cpu": {
                "cores": os.cpu_count(),
                "features": torch.backends.cpu.get_cpu_capability(),
                "threads": torch.get_num_threads(),
            },
            "cuda": _gpus(),
            "kernels": kernels,
            "engines": engines,
            "free_disk_gib": round(shutil.disk_usage(".").free / 2**30, 1),
            # Without llvmlite "auto" takes another engine: nothing is wrong.
            "is_healthy": all(
                found.get("is_right") is not False for found in (kernels, *engines.values())
            ),
        }
        screen = Screen(json_only=self.json)
        screen.facts(_rows(findings))
        screen.result(findings)
        return 0 if findings["is_healthy"] else 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _rows(findings: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, packages = findings["cpu"], findings["packages"]
    installed = [f"{name} {number or 'not installed'}" for name, number in packages.items()]
    engines = [(name, _of_engine(found)) for name, found in findings["engines"].items()]
    return [
        ("version", f"throughtime {findings['throughtime']}, Python {findings['python']}"),
        ("packages", ", ".join(installed)),
        ("processor", f"{cpu['cores']} cores, {cpu['features']}; torch uses {cpu['threads']}"),
        ("cuda", ", ".join(findings["cuda"]) or "no GPU that torch can use"),
        *engines,
        *_of_kernels(findings["kernels"]),
        ("disk", f"{findings['free_disk_gib']} GiB free here"),
        ("verdict", _verdict(findings)),
    ]


def _of_engine(found: dict[str, Any]) -> str:
    if "refusal" in found:
        return f"not here: {found['refusal']}"
    if "failure" in found:
        return f"WRONG: {found['failure']}"
    return _judged(found, "torch.nn")


def _judged(found: dict[str, Any], beside: str) -> str:
    judgement = "right" if found["is_right"] else "WRONG"
    return f"{judgement}: {found['worst_error']:.0e} from {beside}"


def _of_kernels(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What the fused engine works with; its refusal stands beside its name already."""
    if "refusal" in found:
        return []
    width = f"vectors of {found['vector_bits']} bits ({found['vectors']})"
    if "failure" in found:
        built = f"WRONG: {found['failure']}"
    else:
        built = (
            f"those of an LSTM compiled in {found['compile_s']:.2f} s; "
            f"{_judged(found, 'the reference')}"
        )
    count = found["threads"]
    return [
        ("kernels", f"LLVM {found['llvm']} for {found['processor']}, {width}"),
        ("", built),
        ("", f"on {count} thread{'s' * (count > 1)}: {found['team']}"),
    ]


def _verdict(findings: dict[str, Any]) -> str:
    if not findings["is_healthy"]:
        return "an engine computes wrongly"
    missing = [name for name, found in findings["engines"].items() if "refusal" in found]
    return f"all is well, without {', '.join(missing)}" if missing else "all is well"
