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

_PACKAGES = ("torch", "numpy", "safetensors", "rich", "tyro", "tokenizers", "matplotlib")

# float64; the worst of our engines is below 1e-14 of the largest element.
_TOLERANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Show versions, processor and engines, and check an LSTM of each engine against torch.nn."""

    def __call__(self) -> int:
        """Print the findings; status 1 if an engine disagrees with torch.nn."""
        import torch

        from throughtime.cli.screen import Screen

        engines = _check_engines()
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
            "engines": engines,
            "free_disk_gib": round(shutil.disk_usage(".").free / 2**30, 1),
            "is_healthy": all(found["is_right"] for found in engines.values()),
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


def _check_engines() -> dict[str, dict[str, Any]]:
    from throughtime.engine import NAMES

    checked = {name: _worst_error(name) for name in NAMES if name != "auto"}
    return {n: {"worst_error": e, "is_right": e <= _TOLERANCE} for n, e in checked.items()}


def _worst_error(engine: str) -> float:
    """Largest difference from nn.LSTM in output and gradients, by the largest element of each."""
    import torch

    from throughtime.nn import LSTM

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 5, dtype=torch.float64, generator=generator)
    theirs = torch.nn.LSTM(5, 6, num_layers=2, dtype=torch.float64)
    ours = LSTM(5, 6, num_layers=2, dtype=torch.float64, engine=engine)
    ours.load_state_dict(theirs.state_dict())

    def numbers(layer: torch.nn.Module) -> list[torch.Tensor]:
        output, _ = layer(x)
        named = dict(layer.named_parameters())
        gradients = torch.autograd.grad(output.square().sum(), [named[n] for n in sorted(named)])
        return [output.detach(), *gradients]

    pairs = zip(numbers(ours), numbers(theirs), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def _rows(findings: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, packages = findings["cpu"], findings["packages"]
    installed = [f"{name} {number or 'not installed'}" for name, number in packages.items()]
    engines = [
        (name, f"{'right' if e['is_right'] else 'WRONG'}: {e['worst_error']:.0e} from torch.nn")
        for name, e in findings["engines"].items()
    ]
    return [
        ("version", f"throughtime {findings['throughtime']}, Python {findings['python']}"),
        ("packages", ", ".join(installed)),
        ("processor", f"{cpu['cores']} cores, {cpu['features']}; torch uses {cpu['threads']}"),
        ("cuda", ", ".join(findings["cuda"]) or "no GPU that torch can use"),
        *engines,
        ("disk", f"{findings['free_disk_gib']} GiB free here"),
        ("verdict", "all is well" if findings["is_healthy"] else "an engine computes wrongly"),
    ]
