"""The oracle of derivatives: a cell in a plain Python loop, one node at a time.

It shares the table of operations with the engines, and nothing else: no regions, no grouping of
matrices, no instructions, no masks.
"""

import torch

from throughtime.declare.graph import gate_name, has_bias, terms
from throughtime.declare.slots import slots
from throughtime.engine.evaluate import evaluate
from throughtime.nn.parameters import bounded, is_bounded, stored_name


def matrices_and_biases(cell, biases, sizes, tensors):
    """Each matrix by (gate, place), and each gate's total bias."""
    matrices, totals = {}, {}
    for slot in slots(cell, biases):
        start = 0
        for piece in slot.pieces:
            stop = start + sizes.of(piece.width)
            block = tensors[slot.name][start:stop]
            start = stop
            if piece.place is None:
                totals[piece.gate] = totals.get(piece.gate, 0.0) + block
            else:
                matrices[piece.gate, piece.place] = block
    return matrices, totals


class _Step:
    """The values of one step, by node."""

    def __init__(self, layer, tensors, x, history, extras):
        cell, self.run = layer.cell, layer._runs[0]
        job = self.run.jobs[False, None]
        named = {slot.name: tensors[slot.name + self.run.suffix] for slot in job.slots}
        self.matrices, self.biases = matrices_and_biases(cell, job.biases, self.run.sizes, named)
        self.x, self.history, self.extras, self.t = x, history, dict(extras), 0
        self.params = {}
        for name, param in zip(self.run.names.params, cell.params, strict=True):
            raw = tensors[stored_name(name, param)]
            self.params[param.name] = bounded(raw, param) if is_bounded(param) else raw

    def product(self, node, args):
        total = self.biases.get(gate_name(node), 0.0) if has_bias(node) else 0.0
        for place, (_, read) in enumerate(zip(terms(node), args, strict=True)):
            total = total + read @ self.matrices[gate_name(node), place].transpose(0, 1)
        return total

    def leaf(self, node):
        given = {
            "x": lambda: self.x[self.t],
            "state": lambda name, lag: self.history[name][-lag],
            "new": lambda name: self.history[name][-1],
            "constant": self.x.new_tensor,
            "reciprocal_width": lambda width: self.x.new_tensor(1.0 / self.run.sizes.of(width)),
            "param": self.params.__getitem__,
            "extra": lambda name: self.extras[name][self.t],
        }
        return given[node.op](*node.data)

    def evaluate(self, roots):
        return evaluate(roots, self.run.sizes, self.leaf, self.product)


def plain_loop(layer, tensors, x, states, extras=()):
    """Outputs [T, B, O] of the first layer of `layer`, forward, with `tensors` as parameters.

    `states` holds one [D, B, w] tensor a state; returns the outputs and the final histories.
    """
    cell = layer.cell
    history = {s.name: list(h.unbind(0)) for s, h in zip(cell.states, states, strict=True)}
    step = _Step(layer, tensors, x, history, extras)
    widths = [step.run.sizes.of(n.width) for n in cell.out]
    outputs = []
    for t in range(x.shape[0]):
        step.t = t
        new = step.evaluate(cell.new)
        for state, value in zip(cell.states, new, strict=True):
            past = history[state.name]
            history[state.name] = [*past[1:], value.expand_as(past[-1])]
        emitted = zip(step.evaluate(cell.out), widths, strict=True)
        outputs.append(torch.cat([e.expand(x.shape[1], w) for e, w in emitted], -1))
    return torch.stack(outputs), [torch.stack(h) for h in history.values()]
