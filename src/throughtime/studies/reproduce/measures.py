"""Which numbers does a trained model have? Those that its training printed, and its probe."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["measured"]


def measured(trained: Mapping[str, Any], probed: Mapping[str, Any] | None) -> dict[str, float]:
    """The numbers of one run under the names that rows ask for.

    `solved` is 1 or 0, where the task has a criterion; `plateau_share` the loss over that of a
    model without memory; losses and accuracies are of the test part, of a text its validation
    part; `test_perplexity` and `test_bits_per_char` of another text that was scored. A number that
    is not finite is left out.

    Args:
        trained: What `throughtime train --json` printed.
        probed: What the probe printed, where there was one.
    """
    scored = trained.get("test") or trained.get("valid") or {}
    found: dict[str, Any] = {name: value for name, value in scored.items() if name != "is_solved"}
    loss = next((value for name, value in scored.items() if name.startswith("loss_")), None)
    found |= {"loss": loss, "solved": scored.get("is_solved")}
    if loss is not None and "memoryless" in trained["baselines"]:
        found["plateau_share"] = loss / trained["baselines"]["memoryless"]
    if scored.get("wrong_share") is not None:
        found["accuracy_percent"] = 100.0 * (1.0 - scored["wrong_share"])
    found |= {name: trained[name] for name in ("parameters", "elapsed_s", "tokens_per_s")}
    found |= _of_probe(probed or {})
    return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}


def _of_probe(probed: Mapping[str, Any]) -> dict[str, Any]:
    """A text's scores get a prefix; other probes name their numbers themselves."""
    if "valid" in probed:
        return {f"test_{name}": value for name, value in probed["valid"].items()}
    return {name: v for name, v in probed.items() if isinstance(v, int | float)}
