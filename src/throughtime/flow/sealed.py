"""Which parts of a model cannot be stepped through, and why? What was compiled away."""

from typing import Any

import torch
from torch import nn

__all__ = ["is_sealed", "sealed_in"]


def is_sealed(module: Any) -> bool:
    """Whether a module takes no hooks, since it is TorchScript."""
    return isinstance(module, torch.jit.ScriptModule)


def sealed_in(model: Any) -> dict[str, str]:
    """Why not, by name, for each part that may be recurrent; the outermost ones."""
    found: dict[str, str] = {}
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        why = _why(module)
        if why and not any(not outer or path.startswith(f"{outer}.") for outer in found):
            found[path] = why
    return {path or type(model).__name__: why for path, why in found.items()}


def _why(module: nn.Module) -> str | None:
    kind = type(module)
    if is_sealed(module):
        return "TorchScript, whose steps cannot be seen; give the module it was made from"
    if "quantized" in kind.__module__ and kind.__name__.startswith(("RNN", "LSTM", "GRU")):
        return "quantised, which has no gradients; give the module it was made from"
    if isinstance(module, torch.fx.GraphModule) and _is_exported(module):
        return "an exported graph, whose steps cannot be seen; give the module it was made from"
    return None


def _is_exported(module: torch.fx.GraphModule) -> bool:
    return any("aten" in str(node.target) for node in module.graph.nodes if node.op != "output")
