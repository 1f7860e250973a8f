"""What do the gates of a layer do? How saturated they are, and how long they keep what."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from throughtime.declare import Cell
from throughtime.declare.graph import Node, constant, gate_name, has_bias, node, walk
from throughtime.declare.roles import roles
from throughtime.flow.cell_steps import CellSteps
from throughtime.flow.seen import Seen, looked_through
from throughtime.records.diagnosis import GateRecord

__all__ = ["NEAR_A_BOUND", "SAME_VALUE", "GateMeasures", "gate_measures", "kept_shares", "squashed"]

NEAR_A_BOUND = 0.02
SAME_VALUE = 1e-6
_SAME = frozenset({"now", "expand", "clip_adjoint"})  # the value of their argument


class GateMeasures(NamedTuple):
    """What the record tells of gates and units; see `LayerRecord`."""

    gates: list[GateRecord]
    saturated_share: float | None
    dead_share: float


def gate_measures(steps: CellSteps, real: Tensor) -> GateMeasures:
    """Measure the gates and units of a passage.

    A gate is saturated where its sigmoid or tanh is within 0.02 of a bound. A unit is dead if all
    its values lie within 1e-6 of one another; of a single step nothing can be said.

    Args:
        steps: The cell's steps.
        real: Which of them lie within their row's length.

    Shape:
        real: [T, B]
    """
    cell = steps.job.cell
    order = {name: i for i, name in enumerate((*cell.gates, *(p.name for p in cell.params)))}
    acts = sorted(squashed(cell), key=lambda pair: order[pair[0]])
    shares = kept_shares(cell)
    moving = [n for s, n in zip(cell.states, cell.new, strict=True) if not s.clock]
    wanted = [*(n for _, n in acts), *(n for _, n in shares.values()), *moving]
    seen = looked_through(steps, wanted, real, distance=NEAR_A_BOUND)
    if not seen[moving[0]].count:
        return GateMeasures([], None, 0.0)
    times = {state: _time_constants(lag, seen[n]) for state, (lag, n) in shares.items()}
    gates = [_record(cell, name, seen[n], times) for name, n in acts]
    gates += [
        _summary(f"{state} kept", "keep", 0.0, seen[n], times[state])
        for state, (_, n) in shares.items()
        if not roles(cell)[state].keep and times[state]
    ]
    near = sum(seen[n].near for _, n in acts)
    values = sum(seen[n].count * len(seen[n].total) for _, n in acts)
    return GateMeasures(gates, near / values if acts else None, _dead([seen[n] for n in moving]))


def _record(
    cell: Cell, name: str, seen: Seen, times: Mapping[str, list[float | None]]
) -> GateRecord:
    """The record of one gate; one that keeps has the time constants of the state it keeps."""
    found = roles(cell)
    keeps = [s for s, r in found.items() if name in {gate for gate, _ in r.keep}]
    writes = any(name in {gate for gate, _ in r.write} for r in found.values())
    role = "keep" if keeps else "write" if writes else "other"
    share = seen.near / (seen.count * len(seen.total))
    return _summary(name, role, share, seen, times.get(keeps[0], []) if keeps else [])


def _summary(
    name: str, role: str, saturated: float, seen: Seen, times: list[float | None]
) -> GateRecord:
    mean = seen.mean()
    low, median, high = torch.quantile(mean, mean.new_tensor([0.1, 0.5, 0.9])).tolist()
    return GateRecord(name, role, saturated, low, median, high, times)


def _time_constants(lag: int, seen: Seen) -> list[float | None]:
    """-d / ln(mean share kept from d steps back) of each unit; none if it is no share."""
    if seen.low.min() < 0.0 or seen.high.max() > 1.0:
        return []
    return [_time_constant(lag, share) for share in seen.mean().tolist()]


def _time_constant(lag: int, share: float) -> float | None:
    if share <= 0.0:
        return 0.0
    return -lag / math.log(share) if share < 1.0 else None


def _dead(states: list[Seen]) -> float:
    """The share of units that are constant; nothing is known of what was seen once."""
    if states[0].count < 2:
        return 0.0
    ranges = torch.cat([s.high - s.low for s in states])
    return (ranges <= SAME_VALUE).double().mean().item()


def squashed(cell: Cell) -> Iterator[tuple[str, Node]]:
    """Every sigmoid or tanh of a pre-activation, and what to call it.

    A state that is itself a pre-activation, as in `rnn_notes`, is squashed where it is read.
    """
    new = {s.name: n for s, n in zip(cell.states, cell.new, strict=True)}
    for n in dict.fromkeys(_of_new(n, new) for n in walk(cell.new) if n.op in {"sigmoid", "tanh"}):
        name = _name(n.args[0])
        if name is not None:
            yield name, n


def _of_new(n: Node, new: Mapping[str, Node]) -> Node:
    """A squashed past state as the squashed new one."""
    read = n.args[0]
    return node(n.op, new[read.data[0]], width=n.width) if read.op == "state" else n


def _name(argument: Node) -> str | None:
    """As in `roles`: by the pre-activation with a bias, else a param that is added, else any."""
    parts = list(_summands(argument))
    biased = [gate_name(n) for n in parts if n.op == "affine" and has_bias(n)]
    shifts = [n.data[0] for n in parts if n.op == "param"]
    inside = walk([argument], lambda n: n.op in {"affine", "sigmoid", "tanh"})
    bare = [gate_name(n) for n in inside if n.op == "affine"]
    return [*biased, *shifts, *bare][0] if bare else None


def _summands(n: Node) -> Iterator[Node]:
    if n.op in {"add", "sub", "neg", *_SAME}:
        for arg in n.args:
            yield from _summands(arg)
    else:
        yield n


def kept_shares(cell: Cell) -> dict[str, tuple[int, Node]]:
    """How much of its past value each state keeps unit by unit: the lag, and the share's graph.

    The coefficient of s_{t-d} in s_t, all gates held fixed: f for an LSTM's c, a + (1 - a) f for
    that of `leaky`, what the clock lets stand for `clockwork`. States whose past is only read by
    matrices, or inside a nonlinearity, or at several lags, or that also hold the past of another
    state, as the two parts of a complex one, are left out.
    """
    found: dict[str, tuple[int, Node]] = {}
    for state, new in zip(cell.states, cell.new, strict=True):
        past = dict.fromkeys(n.data for n in walk([new]) if n.op == "state")
        known: list[tuple[str, int, Node]] = []
        for name, lag in past:
            share = _coefficient(new, name, lag)
            known += [] if share is None else [(name, lag, share)]
        if len(known) == 1 and known[0][0] == state.name and not state.clock:
            found[state.name] = known[0][1:]
    return found


def _coefficient(new: Node, state: str, lag: int) -> Node | None:
    """The coefficient of a past value in a value that is linear in it; None for 0."""
    found: dict[Node, Node | None] = {}
    for n in walk([new]):
        if n.op == "state":
            found[n] = constant(1.0) if n.data == (state, lag) else None
        else:
            found[n] = _linear(n, found)
    return found[new]


def _linear(n: Node, found: Mapping[Node, Node | None]) -> Node | None:
    """The coefficient in a node from those in its arguments."""
    held = [found[a] for a in n.args]
    if all(c is None for c in held):
        return None
    if n.op in {"neg", *_SAME}:
        part = held[0]
        return node("neg", part, width=n.width) if part and n.op == "neg" else part
    if n.op in {"add", "sub", "where"}:
        parts = [constant(0.0) if c is None else c for c in held[-2:]]
        return node(n.op, *n.args[:-2], *parts, width=n.width)
    if n.op == "div":
        top = held[0]
        return None if top is None else node("div", top, n.args[1], width=n.width)
    if n.op == "mul":
        pairs = zip(held, reversed(n.args), strict=True)
        made = [node("mul", c, other, width=n.width) for c, other in pairs if c is not None]
        return made[0] if len(made) == 1 else node("add", *made, width=n.width)
    return None
