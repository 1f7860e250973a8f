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


def plain_loop(layer, tensors, x, states, extras=()):
    """Outputs [T, B, O] of the first layer of `layer`, forward, with `tensors` as parameters.

    `states` holds one [D, B, w] tensor a state; returns the outputs and the final histories.
    """
    cell, run = layer.cell, layer._runs[0]
    job = run.jobs[False, None]
    named = {slot.name: tensors[slot.name + run.suffix] for slot in job.slots}
    matrices, totals = matrices_and_biases(cell, job.biases, run.sizes, named)
    values = {}
    for name, param in zip(run.names.params, cell.params, strict=True):
        raw = tensors[stored_name(name, param)]
        values["param", param.name] = bounded(raw, param) if is_bounded(param) else raw

    def product(node, args):
        total = totals.get(gate_name(node), 0.0) if has_bias(node) else 0.0
        for place, (_, read) in enumerate(zip(terms(node), args, strict=True)):
            total = total + read @ matrices[gate_name(node), place].transpose(0, 1)
        return total

    def leaf(node):
        if node.op == "x":
            return x[t]
        if node.op == "state":
            return history[node.data[0]][-node.data[1]]
        if node.op == "new":
            return history[node.data[0]][-1]
        if node.op == "constant":
            return x.new_full((), node.data[0])
        if node.op == "reciprocal_width":
            return x.new_full((), 1.0 / run.sizes.of(node.data[0]))
        if node.op == "extra":
            return dict(extras)[node.data[0]][t]
        return values[node.op, node.data[0]]

    history = {s.name: list(h.unbind(0)) for s, h in zip(cell.states, states, strict=True)}
    outputs = []
    for t in range(x.shape[0]):
        new = evaluate(cell.new, run.sizes, leaf, product)
        for state, value in zip(cell.states, new, strict=True):
            past = history[state.name]
            history[state.name] = [*past[1:], value.expand_as(past[-1])]
        emitted = evaluate(cell.out, run.sizes, leaf, product)
        widths = [run.sizes.of(n.width) for n in cell.out]
        parts = [e.expand(x.shape[1], w) for e, w in zip(emitted, widths, strict=True)]
        outputs.append(torch.cat(parts, -1))
    return torch.stack(outputs), [torch.stack(h) for h in history.values()]
