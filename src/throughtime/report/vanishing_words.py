"""What does the demo of vanishing gradients tell? What was measured, in plain words and a table."""

from collections.abc import Mapping
from typing import Any

__all__ = ["COLUMNS", "cells_of", "cliff_sentence", "compare_command", "horizon", "sentences"]

COLUMNS = ("cell", "horizon before", "after", "share before", "share after", "wrong", "solved")
"""Steps; of the error at lag 0, at the lag that the task needs; of the test sequences."""

Results = Mapping[str, Any]


def horizon(row: Mapping[str, Any], when: str) -> str:
    """The horizon of a row "before" or "after" training."""
    steps = f"{row[f'horizon_{when}_steps']:,}"
    return f"≥ {steps}" if row[f"is_beyond_{when}"] else steps


def cells_of(results: Results) -> list[tuple[str, ...]]:
    """The table, a row a cell, as `COLUMNS` names it."""
    return [
        (
            row["name"],
            horizon(row, "before"),
            horizon(row, "after"),
            _share(row["share_at_need_before"]),
            _share(row["share_at_need_after"]),
            f"{row['wrong_share']:.1%}",
            "yes" if row["is_solved"] else "no",
        )
        for row in results["rows"]
    ]


def _share(value: float) -> str:
    return f"{value:.2g}" if 1e-3 <= value < 1e3 else f"{value:.1e}"


def sentences(results: Results) -> list[str]:
    """What was measured, one thing a sentence."""
    return [
        _reach(results, "before", "before training"),
        _reach(results, "after", f"after {results['updates']:,} updates"),
        *(_bound(results, when) for when in ("before", "after")),
        _solved(results),
        *_unlearnt(results),
    ]


def _names(rows: list[Mapping[str, Any]]) -> str:
    return ", ".join(row["name"] for row in rows) or "none"


def _reach(results: Results, when: str, words: str) -> str:
    need = results["needs_lag"]
    far = [row for row in results["rows"] if row[f"horizon_{when}_steps"] >= need]
    return f"{words.capitalize()} the horizon covers the {need} steps needed in: {_names(far)}."


def _bound(results: Results, when: str) -> str:
    """What the bound of the tanh network says, and what it does not."""
    row, need = results["rows"][0], results["needs_lag"]
    factor, bound = row[f"bound_factor_{when}"], row[f"bound_by_lag_{when}"][need]
    if factor is None or bound is None:
        return f"No bound was found for the {row['name']} {when} training."
    said = (
        "below one, which proves that errors vanish"
        if factor < 1.0
        else "not below one, which proves nothing"
    )
    return (
        f"The bound of the {row['name']} {when} training is {factor:.3g} a step, {said}: over "
        f"{need} steps it allows {_share(bound)} times an error, and "
        f"{_share(row[f'share_at_need_{when}'])} times was measured."
    )


def _solved(results: Results) -> str:
    yes = [row for row in results["rows"] if row["is_solved"]]
    no = [row for row in results["rows"] if not row["is_solved"]]
    said = f"Solved (under 1 % of 10,000 test sequences wrong): {_names(yes)}."
    if no:
        scores = ", ".join(f"{row['name']} {row['score']:.3f}" for row in no)
        said += f" Not solved: {scores} nats, where {results['baseline']:.3f} needs no memory."
    return said


def _unlearnt(results: Results) -> list[str]:
    """That an error arrives is not yet that it is learnt from."""
    rows = [
        row
        for row in results["rows"]
        if row["horizon_after_steps"] >= results["needs_lag"] and not row["is_solved"]
    ]
    return [
        f"In the {row['name']} an error reaches the needed lag after training "
        f"({_share(row['share_at_need_after'])} times its size at lag 0), and yet the task is "
        "not solved: a long horizon is needed, not enough."
        for row in rows
    ]


def compare_command(results: Results) -> str:
    """The command that repeats this over several seeds."""
    cells = ",".join(row["cell"] for row in results["rows"])
    return (
        f"throughtime compare {results['task']} --lengths {results['length']} --cells {cells} "
        f"--hidden {results['units']} --updates {results['updates']}"
    )


def cliff_sentence(cliff: Results) -> str:
    """What the walk over the cliff came to, with and without clipping."""
    plain, clipped, leap = cliff["plain"], cliff["clipped"], cliff["leap"]
    here, there = plain[leap], plain[leap + 1]
    return (
        f"At (w, b) = ({here['w']:.2f}, {here['b']:.2f}) the gradient is "
        f"{here['gradient_norm']:.1f} long, and the plain step "
        f"lands at ({there['w']:.2f}, {there['b']:.2f}); after {len(plain) - 1} updates the "
        f"error is {plain[-1]['error']:.2g}. Scaled down to a norm of "
        f"{cliff['clip_norm']:g} the same walk ends at {clipped[-1]['error']:.2g}."
    )
