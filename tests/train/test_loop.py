"""Does the loop carry, cut, reset, stop and save as it says?"""

import math
import signal

import numpy as np
import pytest
import torch

from throughtime.cells import CATALOGUE
from throughtime.models import LanguageModel
from throughtime.tasks import streams
from throughtime.train import loop
from throughtime.train.config import OptimiserConfig
from throughtime.train.loop import Ending, Hooks, Limits, is_due, make_update, train
from throughtime.train.optimise import learning_rate, make_optimiser
from throughtime.train.signals import StopRequest
from throughtime.train.state import TrainingState
from throughtime.train.text import TextLesson

V, B, W = 9, 2, 4
STARTS = np.array([0, 13, 30])


def ids():
    return np.random.default_rng(0).integers(0, V, 60).astype(np.int32)


def fresh_state(options, dropout=0.0):
    torch.manual_seed(0)
    model = LanguageModel(CATALOGUE["lstm"], V, 6, embedding_size=5, dropout=dropout).double()
    return TrainingState(model.train(), make_optimiser(options, model.parameters()))


class Streams(TextLesson):
    """A text of nothing but its windows."""

    def __init__(self):
        self.windows = streams(ids(), STARTS, B, W)


def lesson():
    return Streams()


def run(state, options, updates=12, *, hooks=None, stop=None, validations=1, save_s=math.inf, **kw):
    nothing = Hooks(lambda record: None, lambda: None, lambda: None)
    limits = Limits(updates, validations, save_s, **kw)
    return train(state, lesson(), options, limits, hooks or nothing, stop or StopRequest())


# --- One update ---------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_streams_read_without_a_break():
    """A rate too small to move a weight leaves the windows' losses as those of one long pass."""
    options = OptimiserConfig(optimiser="sgd", learning_rate=1e-300)
    state, cut = fresh_state(options), lesson().windows
    found = [make_update(state, lesson(), options, 7).loss for _ in range(cut.n_windows)]
    parts = [cut.window(i) for i in range(cut.n_windows)]
    inputs, targets, reset = (torch.from_numpy(np.concatenate(p)) for p in zip(*parts, strict=True))
    whole, _ = state.model.nll_nats(inputs, targets, reset=reset)
    assert cut.n_windows == 7
    assert found == pytest.approx(whole.view(7, W * B).mean(1).tolist(), rel=1e-12)
    unreset, _ = state.model.nll_nats(inputs, targets)
    assert found != pytest.approx(unreset.view(7, W * B).mean(1).tolist(), rel=1e-6)


def test_the_text_starts_anew_after_its_last_window():
    options = OptimiserConfig(optimiser="sgd", learning_rate=1e-300)
    state = fresh_state(options)
    found = [make_update(state, lesson(), options, 14).loss for _ in range(14)]
    assert found[7:] == pytest.approx(found[:7], rel=1e-12)


def test_an_update_is_one_step_along_the_gradient_of_its_own_window():
    options = OptimiserConfig(optimiser="sgd", learning_rate=0.3, clip_norm=0.0, warmup=0.0)
    state, cut = fresh_state(options), lesson().windows
    make_update(state, lesson(), options, 10)
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    hx = state.hx
    assert not any(part.requires_grad for part in hx)  # the past is cut off
    window = cut.window(1)
    inputs, targets, reset = (torch.from_numpy(part) for part in window)
    loss = state.model.nll_nats(inputs, targets, hx, reset=reset)[0].mean()
    wanted = torch.autograd.grad(loss, list(state.model.parameters()))
    record = make_update(state, lesson(), options, 10)
    assert record.loss == pytest.approx(loss.item())
    assert record.learning_rate == learning_rate(options, 1, 10) < 0.3
    for (name, p), gradient in zip(state.model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(p, before[name] - record.learning_rate * gradient)


@pytest.mark.parametrize("clip", [{"clip_norm": 1e-3}, {"clip_value": 1e-5}])
def test_what_the_backward_pass_left_is_clipped_before_the_weights_move(clip):
    """Clipped before the backward pass, as two published scripts do it, it would not be at all."""
    plain = {"optimiser": "sgd", "learning_rate": 0.5, "warmup": 0.0, "schedule": "constant"}
    moved = {}
    for name, options in {"free": {"clip_norm": 0.0}, "clipped": {"clip_norm": 0.0} | clip}.items():
        config = OptimiserConfig(**plain, **options)
        state = fresh_state(config)
        before = torch.cat([p.detach().flatten() for p in state.model.parameters()])
        record = make_update(state, lesson(), config, 10)
        after = torch.cat([p.detach().flatten() for p in state.model.parameters()])
        moved[name] = after - before
        assert record.is_clipped == (name == "clipped")
        assert record.gradient_norm > 0.01
    assert moved["free"].norm() > 0.5 * 0.01
    if "clip_norm" in clip:
        assert float(moved["clipped"].norm()) == pytest.approx(0.5 * 1e-3, rel=1e-3)
    else:
        assert float(moved["clipped"].abs().max()) == pytest.approx(0.5 * 1e-5)


# --- Gradients that are not finite --------------------------------------------------------------


def poison(state, at):
    """Make the gradient NaN in the updates `at`."""

    def hook(gradient):
        return gradient * math.nan if state.update in at else gradient

    state.model.head.bias.register_hook(hook)


@pytest.mark.parametrize("rule", ["skip", "shrink"])
def test_a_bad_gradient_costs_one_update_and_the_carried_state(rule):
    options = OptimiserConfig(nonfinite=rule)
    state = fresh_state(options)
    poison(state, {3})
    records = []
    for update in range(6):
        before = [p.detach().clone() for p in state.model.parameters()]
        records.append(make_update(state, lesson(), options, 6))
        if update == 3:
            factor = 1.0 if rule == "skip" else 1.0 - 0.1 * records[3].learning_rate
            for p, old in zip(state.model.parameters(), before, strict=True):
                torch.testing.assert_close(p, old * factor)
            assert state.hx is None
    assert [r.is_finite for r in records] == [True, True, True, False, True, True]
    assert all(math.isfinite(p.detach().sum()) for p in state.model.parameters())
    assert state.nonfinite_in_a_row == 0


def test_the_rule_stop_ends_the_run_at_once_with_the_last_good_weights():
    options, good = OptimiserConfig(nonfinite="stop"), OptimiserConfig()
    state, twin = fresh_state(options), fresh_state(good)
    poison(state, {5})
    saves = []
    hooks = Hooks(lambda r: None, lambda: None, lambda: saves.append(state.update))
    assert run(state, options, hooks=hooks) is Ending.DIVERGED
    assert saves == [6]
    for _ in range(5):
        make_update(twin, lesson(), good, 12)
    for p, q in zip(state.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("rule", ["skip", "shrink", "random"])
def test_bad_gradients_without_an_end_stop_the_run(rule):
    options = OptimiserConfig(nonfinite=rule)
    state = fresh_state(options)
    poison(state, range(4, 100))
    assert run(state, options, updates=100) is Ending.DIVERGED
    assert state.update == 4 + loop._MAX_NONFINITE_IN_A_ROW + 1


# --- Validating, saving, stopping ---------------------------------------------------------------


@pytest.mark.parametrize(("updates", "times"), [(10, 5), (10, 3), (7, 10), (1, 5), (100, 1)])
def test_what_is_due_some_times_is_due_evenly_and_at_the_end(updates, times):
    due = [u for u in range(1, updates + 1) if is_due(u, updates, times)]
    assert len(due) == min(times, updates)
    assert due[-1] == updates
    gaps = np.diff([0, *due])
    assert gaps.max() - gaps.min() <= 1


def test_the_loop_reports_validates_and_saves_in_order():
    options = OptimiserConfig()
    state, seen = fresh_state(options), []
    hooks = Hooks(
        lambda record: seen.append(record.update),
        lambda: seen.append("validate"),
        lambda: seen.append("save"),
    )
    assert run(state, options, updates=4, validations=2, hooks=hooks) is Ending.FINISHED
    assert seen == [1, 2, "validate", 3, 4, "validate", "save"]
    seen.clear()
    state = fresh_state(options)
    run(state, options, updates=3, save_s=0.0, hooks=hooks)
    assert seen == [1, "save", 2, "save", 3, "validate", "save"]


def test_a_request_to_stop_ends_the_loop_after_the_update_and_saves():
    options, stop, saves = OptimiserConfig(), StopRequest(), []
    state = fresh_state(options)

    def updated(record):
        if record.update == 5:
            stop.signal_number = signal.SIGTERM

    hooks = Hooks(updated, lambda: None, lambda: saves.append(state.update))
    assert run(state, options, hooks=hooks, stop=stop) is Ending.INTERRUPTED
    assert saves == [5]


def test_the_guard_ends_a_run_that_takes_too_long():
    options, saves = OptimiserConfig(), []
    state = fresh_state(options)
    state.elapsed_s = 50.0
    hooks = Hooks(lambda r: None, lambda: None, lambda: saves.append(state.update))
    assert run(state, options, hooks=hooks, guard_s=49.0) is Ending.OUT_OF_TIME
    assert saves == [1]
    assert run(state, options, hooks=hooks, guard_s=80.0) is Ending.FINISHED


def test_time_goes_on_where_the_earlier_part_of_the_run_ended():
    options = OptimiserConfig()
    state = fresh_state(options)
    state.elapsed_s, state.updating_s = 1000.0, 900.0
    run(state, options)
    assert 1000.0 < state.elapsed_s < 1060.0
    assert 900.0 < state.updating_s < state.elapsed_s - 99.0


def test_a_finished_run_makes_no_more_updates():
    options = OptimiserConfig()
    state = fresh_state(options)
    state.update = 12
    hooks = Hooks(lambda r: pytest.fail("updated"), lambda: None, lambda: pytest.fail("saved"))
    assert run(state, options, hooks=hooks) is Ending.FINISHED
