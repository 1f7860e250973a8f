"""Is each line of the contract seen to fail? A mistake is made on purpose; it must be named."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from contract.own_cells import CELLS
from throughtime.declare import Cell, adjoint, flat
from throughtime.engine import evaluate, function, reference, vendor
from throughtime.testing import check_cell
from throughtime.testing.checks import ADJOINT, CHECKS, ENGINE, FINITE

Run = reference._Run


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, to which cell, and the lines that must see it, "line (engine)".

    Others may see it too.
    """

    make: Callable[[pytest.MonkeyPatch], None]
    cell: str
    seen_by: set[str]


def of(engine: str, *lines: str) -> set[str]:
    return {f"{line} ({engine})" for line in lines}


MISTAKES: dict[str, Mistake] = {}


def mistake(cell: str, *seen_by: str, engine: str = "reference"):
    def add(make: Callable[[pytest.MonkeyPatch], None]):
        name = make.__name__.replace("_", " ").strip()
        MISTAKES[name] = Mistake(make, cell, of(engine, *seen_by))
        return make

    return add


# --- resets


@mistake("delayed", "resets")
def a_reset_renews_the_newest_value_only(patch):
    right = Run._renewed

    def wrong(self, reset):
        both = zip(self.history, right(self, reset), strict=True)
        return [[*old[:-1], new[-1]] for old, new in both]

    patch.setattr(Run, "_renewed", wrong)


@mistake("lstm", "late resets")
def a_reset_past_the_end_counts(patch):
    right = Run._resets

    def wrong(self):
        valid, self.valid = self.valid, None
        found = right(self)
        self.valid = valid
        return found

    patch.setattr(Run, "_resets", wrong)


@mistake("lstm", "resets")
def reverse_resets_are_off_by_one(patch):
    right = Run._resets

    def wrong(self):
        found = right(self)
        return found[-1:] + found[:-1] if found and self.job.reverse else found

    patch.setattr(Run, "_resets", wrong)


@mistake("projected", "resets")
def a_reset_forgets_the_learned_initial_state(patch):
    right = reference.fresh_states
    patch.setattr(
        reference, "fresh_states", lambda job, inputs: right(job, inputs._replace(initial=()))
    )


# --- lengths and padding


@mistake("lstm", "padding")
def the_padding_is_not_replaced(patch):
    patch.setattr(Run, "_without_padding", lambda self, inputs: inputs)


@mistake("decaying", "lengths", "padding", "resets", "windows", "gradcheck")
def the_padding_of_extras_is_zero(patch):
    def wrong(self, inputs):
        zeros = tuple(map(self._zeroed, inputs.extras))
        return inputs._replace(x=self._zeroed(inputs.x), extras=zeros)

    patch.setattr(Run, "_without_padding", wrong)


@mistake("lstm", "lengths", "resets")
def states_move_on_past_the_end(patch):
    right = Run._step

    def wrong(self, t):
        valid, self.valid = self.valid, None
        right(self, t)
        self.valid = valid

    patch.setattr(Run, "_step", wrong)


@mistake("lstm", "lengths", "resets")
def reverse_starts_one_step_late(patch):
    right = Run._valid

    def wrong(self, inputs):
        late = inputs.lengths is not None and self.job.reverse
        return right(self, inputs._replace(lengths=inputs.lengths - 1) if late else inputs)

    patch.setattr(Run, "_valid", wrong)


# --- states and time


@mistake("delayed", "adjoint", "one step")
def delays_are_one_too_short(patch):
    right = reference._planned

    def wrong(job):
        plan = right(job)
        return plan._replace(past=tuple((s, max(1, lag - 1), p) for s, lag, p in plan.past))

    patch.setattr(reference, "_planned", wrong)


@mistake("delayed", "adjoint", "windows", "one step")
def the_history_is_handed_out_backwards(patch):
    right = Run._loop

    def wrong(self):
        right(self)
        self.history = [h[::-1] for h in self.history]

    patch.setattr(Run, "_loop", wrong)


@mistake("twice_given", "adjoint", "lengths", "resets", "windows")
def emit_sees_the_last_step_alone(patch):
    right = Run._loop

    def wrong(self):
        right(self)
        for place in self.plan.timed:
            self.values[place] = self.values[place][-1]

    patch.setattr(Run, "_loop", wrong)


@mistake("every_third", "windows", "adjoint", "one step")
def a_clock_starts_anew_at_each_call(patch):
    right = Run._loop

    def wrong(self):
        for i, s in enumerate(self.job.cell.states):
            if s.clock:
                self.history[i] = [torch.zeros_like(v) for v in self.history[i]]
        right(self)

    patch.setattr(Run, "_loop", wrong)


@mistake("gru", "no steps")
def no_steps_raise(patch):
    right = Run._stack

    def wrong(self, s):
        return torch.stack(self.every[s]) if not self.steps else right(self, s)

    patch.setattr(Run, "_stack", wrong)


@mistake("gru", "no rows")
def no_rows_raise(patch):
    right = Run._emit

    def wrong(self):
        assert self.inputs.x.shape[1], "no rows"
        return right(self)

    patch.setattr(Run, "_emit", wrong)


# --- gradients


@mistake("rnn", "adjoint", "one step")
def the_adjoint_of_tanh_is_wrong(patch):
    patch.setitem(adjoint.RULES, "tanh", lambda g, a, y, n: [g * (1.0 - y)])


@mistake("one_gate_for_all", "adjoint", "one step")
def a_broadcast_is_not_summed(patch):
    patch.setattr(adjoint, "_fitted", lambda value, width: value)


@mistake("rnn_sigmoid", "adjoint", "one step", "gradcheck")
def autograd_of_sigmoid_is_wrong(patch):
    class Wrong(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(a):
            return torch.sigmoid(a)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return 0.99 * g * y * (1 - y)

    patch.setitem(evaluate.OPERATIONS, "sigmoid", Wrong.apply)


@mistake("lstm", "gradcheck", engine="vendor")
def batched_gradients_reach_the_kernel(patch):
    def wrong(gradient):
        assert not is_batched(gradient), "a batch of gradients"
        return False

    is_batched = function.is_batched
    patch.setattr(function, "is_batched", wrong)


@mistake("gru", "finite")
def a_value_is_no_number(patch):
    patch.setitem(evaluate.OPERATIONS, "sub", lambda a, b: a - b + float("nan"))


# --- memory and repetition


@mistake("rnn", "strides")
def strides_of_weights_are_ignored(patch):
    right = reference.joined_rows

    def wrong(weight, parts):
        dense = torch.empty(weight.shape).stride()
        return right(weight.as_strided(weight.shape, dense), parts)

    patch.setattr(reference, "joined_rows", wrong)


@mistake("rnn", "repeat")
def the_last_bits_vary(patch):
    patch.setitem(
        evaluate.OPERATIONS, "tanh", lambda a: torch.tanh(a) * (1 + 1e-15 * torch.randn_like(a))
    )


@mistake("bounded", "pickle")
def a_pickled_cell_is_another_one(patch):
    right = flat.write
    patch.setattr(flat, "write", lambda cell: right(cell).replace('"tanh"', '"sin"'))


# --- the vendor engine


@mistake("lstm", "engine", "one step", engine="vendor")
def gates_stand_in_another_order(patch):
    right = vendor._matrix
    patch.setattr(vendor, "_matrix", lambda found, gates, *rest: right(found, gates[::-1], *rest))


@mistake("gru", "engine", "lengths", "resets", "windows", engine="vendor")
def the_last_state_is_one_step_early(patch):
    right = vendor._last

    def wrong(out, start, ended):
        return right(out, start, torch.cat([ended[1:], torch.ones_like(ended[:1])]))

    patch.setattr(vendor, "_last", wrong)


@mistake("rnn", "engine", "lengths", "resets", engine="vendor")
def reversal_ignores_lengths(patch):
    patch.setattr(vendor, "_reversed", lambda a, order: a.flip(0))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_by_the_lines_that_must_see_it(name, monkeypatch):
    wrong = MISTAKES[name]
    cell = Cell(**flat.read(CELLS[wrong.cell].text))  # one that has worked nothing out yet
    wrong.make(monkeypatch)
    with pytest.raises(AssertionError) as raised:
        check_cell(cell)
    text = str(raised.value)
    broken = set(re.findall(r"BROKEN .*?  +([a-z ]+ \(\w+\)):", text))
    assert wrong.seen_by <= broken
    of_all = int(re.search(r"of (\d+) lines", text)[1])
    assert len(broken) < of_all or broken == {"finite (reference)"}  # not just everything


def test_every_line_has_a_mistake_that_it_sees():
    seen = {line.split(" (")[0] for wrong in MISTAKES.values() for line in wrong.seen_by}
    assert seen == {check.name for check in (FINITE, ADJOINT, ENGINE, *CHECKS)}
