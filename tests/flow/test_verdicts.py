"""Is each finding made just over its threshold and not just under, and in what order?"""

import math
import re
from dataclasses import replace

import pytest

from flow.diagnosed import LAG, curve, keep, layer, lstm, trained
from throughtime.flow.context import FROM_CONTEXT, used_steps
from throughtime.flow.thresholds import THRESHOLDS, limit
from throughtime.flow.verdicts import _EXPLAINS, judge, needed_lag
from throughtime.records.diagnosis import CODES, ContextUse, NeededLag

USED = curve(65)
FLAT = curve(1, gain=0.0)


def judged(*layers, context=USED, training=trained(), needs=LAG, **options):  # noqa: B008 (frozen)
    return judge(layers or (layer(),), context, training, needs, **options)


def codes(*layers, **options):
    return [finding.code for finding in judged(*layers, **options)[0]]


def window(steps=16, *, carried=True, **changed):
    return trained(window_steps=steps, state_carried=carried, **changed)


EPS = 1e-6

# What is judged just over a threshold, and just under it.
EDGES = {
    "non_finite: share of updates": (
        "non_finite",
        lambda over: codes(training=trained(updates=100, nonfinite_updates=6 if over else 5)),
    ),
    "exploding: size": (
        "exploding",
        lambda over: codes(
            layer(error_by_lag=[1.0, 1e3 * (1 + EPS if over else 1)], growth_per_step=1.1)
        ),
    ),
    "exploding: growth": (
        "exploding",
        lambda over: codes(
            layer(error_by_lag=[1.0, 1e4, 1.0], growth_per_step=1 + EPS if over else 1.0)
        ),
    ),
    "state_not_carried: needed": (
        "state_not_carried",
        lambda over: codes(training=window(32 if over else 33, carried=False)),
    ),
    "state_not_carried: used": (
        "state_not_carried",
        lambda over: codes(
            training=window(16, carried=False), context=curve(16 if over else 8), needs=None
        ),
    ),
    "truncated: needed": ("truncated", lambda over: codes(training=window(32 if over else 33))),
    "truncated: used": (
        "truncated",
        lambda over: codes(training=window(16 if over else 32), context=curve(64), needs=None),
    ),
    "truncated: reach": (
        "truncated",
        lambda over: codes(
            layer(horizon_steps=15 if over else 14, is_horizon_beyond=False), training=window(16)
        ),
    ),
    "saturated": (
        "saturated",
        lambda over: codes(
            layer(saturated_share=0.6 + (EPS if over else 0)), context=FLAT, needs=None
        ),
    ),
    "saturated: gates that neither keep nor write": (
        "saturated",
        lambda over: codes(
            lstm(
                saturated_share=0.9,
                gates=[
                    keep(60.0, saturated=1.0),
                    replace(lstm().gates[2], saturated_share=0.6 + (EPS if over else 0)),
                ],
            ),
            context=FLAT,
            needs=None,
        ),
    ),
    "dead_units": (
        "dead_units",
        lambda over: codes(layer(dead_share=0.5 + (EPS if over else 0)), context=FLAT, needs=None),
    ),
    "forgetting": (
        "forgetting",
        lambda over: codes(
            lstm(keeps=keep(*[32 / 3 - EPS if over else 32 / 3] * 16), decay=0.8), context=FLAT
        ),
    ),
    "forgetting: a tenth of the units": (
        "forgetting",
        lambda over: codes(
            lstm(
                keeps=keep(*[2.0] * (19 if over else 18), *[99.0] * (1 if over else 2)), decay=0.8
            ),
            context=FLAT,
        ),
    ),
    "rank_collapse: directions": (
        "rank_collapse",
        lambda over: codes(
            layer(directions_by_lag=[16, 8, 4, 1 if over else 2, 1]), context=FLAT, training=None
        ),
    ),
    "rank_collapse: units": (
        "rank_collapse",
        lambda over: codes(
            layer(directions_by_lag=[1] * 5, units=4 if over else 3), context=FLAT, training=None
        ),
    ),
    "vanishing": (
        "vanishing",
        lambda over: codes(
            layer(horizon_steps=31 if over else 32, is_horizon_beyond=False),
            context=FLAT,
            training=None,
        ),
    ),
    "clipped_always": (
        "clipped_always",
        lambda over: codes(training=trained(clipped_share=0.9 + (EPS if over else 0))),
    ),
    "clipped_always: updates": (
        "clipped_always",
        lambda over: codes(training=trained(clipped_share=1.0, updates=20 if over else 19)),
    ),
    "unused_context": ("unused_context", lambda over: codes(context=curve(15 if over else 32))),
    "unused_context: updates": (
        "unused_context",
        lambda over: codes(context=FLAT, training=trained(updates=100 if over else 99)),
    ),
    "unused_context: gain where nothing is known of the training": (
        "unused_context",
        lambda over: codes(context=curve(4, gain=0.25 + (EPS if over else 0)), training=None),
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_finding_begins_at_its_threshold(name):
    code, found = EDGES[name]
    assert found(True) == [code]
    # Memory that is too short has another name where the gates are not to blame.
    assert found(False) == ["vanishing" if code == "forgetting" else "healthy"]


def test_every_code_has_an_edge():
    assert {code for code, _ in EDGES.values()} == set(CODES) - {"healthy"}


def test_numbers_that_are_none_are_found_and_hide_all_else():
    findings, not_examined = judged(layer(dead_share=1.0), is_finite=False)
    assert [f.code for f in findings] == ["non_finite"]
    assert set(not_examined) == set(CODES) - {"non_finite", "healthy"}
    nan = layer(error_by_lag=[1.0, math.nan])
    assert codes(nan) == ["non_finite"]
    assert codes(context=replace(USED, loss=[math.inf, *USED.loss[1:]])) == ["non_finite"]


def test_an_error_too_large_for_a_float_explodes():
    assert codes(layer(error_by_lag=[1.0, math.inf], growth_per_step=math.inf)) == ["exploding"]


def test_a_layer_that_no_error_enters_does_not_explode():
    silent = layer(error_by_lag=[0.0, 0.0], horizon_steps=0, is_horizon_beyond=False)
    assert codes(silent, context=FLAT) == ["vanishing"]


def test_findings_that_do_not_explain_each_other_stand_together_in_order():
    sick = layer(dead_share=0.9, error_by_lag=[1.0, 1e5], growth_per_step=1.5)
    training = window(16, clipped_share=1.0)
    found = codes(sick, context=FLAT, training=training)
    assert found == ["exploding", "truncated", "dead_units"]
    assert found == sorted(found, key=CODES.index)


@pytest.mark.parametrize("code", _EXPLAINS)
def test_only_what_comes_later_is_explained(code):
    assert all(CODES.index(code) < CODES.index(other) for other in _EXPLAINS[code])


def test_what_is_explained_is_named_with_its_reason():
    forgets = lstm(keeps=keep(*[2.0] * 16), decay=0.5)
    findings, not_examined = judged(forgets, context=FLAT)
    assert [f.code for f in findings] == ["forgetting"]
    assert "forgetting" in not_examined["vanishing"]
    assert "forgetting" in not_examined["unused_context"]


def test_without_a_training_its_findings_are_not_examined():
    _, not_examined = judged(training=None)
    assert set(not_examined) == {"state_not_carried", "truncated", "clipped_always"}
    assert all("training=" in why for why in not_examined.values())


def test_without_a_stated_lag_memory_is_not_judged():
    short = lstm(keeps=keep(*[2.0] * 16), decay=0.5)
    for needs in (None, NeededLag(32, FROM_CONTEXT)):
        findings, not_examined = judged(short, needs=needs)
        assert [f.code for f in findings] == ["healthy"]
        assert set(not_examined) == {"forgetting", "rank_collapse", "vanishing", "unused_context"}
        assert "Not judged: forgetting" in findings[0].sentence


def test_what_the_model_uses_it_has_learnt():
    sick = {"saturated_share": 0.9, "dead_share": 0.9, "directions_by_lag": [1] * 5}
    assert codes(layer(**sick), context=USED) == ["healthy"]
    assert codes(layer(decay=0.5), context=USED) == ["healthy"]
    assert codes(layer(decay=0.5), context=FLAT) == ["vanishing"]


def test_an_error_that_just_arrives_can_collapse_and_one_that_does_not_has_vanished():
    narrow = layer(directions_by_lag=[1] * 5, horizon_steps=32, is_horizon_beyond=False)
    assert codes(narrow, context=FLAT) == ["rank_collapse"]
    assert codes(replace(narrow, horizon_steps=31), context=FLAT) == ["vanishing"]


def test_an_error_that_just_reaches_the_lag_can_be_unused():
    just = layer(horizon_steps=32, is_horizon_beyond=False)
    assert codes(just, context=FLAT) == ["unused_context"]


def test_directions_of_a_single_step_are_no_evidence():
    one = layer(condition_lags=[1, 64], directions_by_lag=[1, 1])
    assert codes(one, context=FLAT) == ["unused_context"]


def test_a_lag_as_long_as_the_batch_cannot_be_used_in_it():
    _, not_examined = judged(needs=NeededLag(65, "a test"), context=FLAT)
    assert "65 steps" in not_examined["unused_context"]


def test_one_layer_that_reaches_is_enough():
    assert codes(layer("l0", decay=0.5), layer("l1", decay=0.6), context=FLAT) == ["vanishing"]
    findings, _ = judged(layer("l0", decay=0.5), layer("l1", decay=0.6), context=FLAT)
    assert findings[0].layer == "l1"
    assert codes(layer("l0", decay=0.5), layer("l1"), context=FLAT, training=None) == ["healthy"]


def test_a_batch_shorter_than_the_lag_proves_nothing():
    findings, not_examined = judged(needs=NeededLag(66, "a test"), context=FLAT)
    assert [f.code for f in findings] == ["healthy"]
    assert "65 steps" in not_examined["vanishing"]


def test_whole_sequences_have_no_windows():
    assert codes(training=trained(window_steps=None)) == ["healthy"]


def test_a_window_longer_than_the_batch_shows_nothing_of_use():
    _, not_examined = judged(training=window(65), needs=None)
    assert "longer batch" in not_examined["truncated"]


@pytest.mark.parametrize("name", EDGES)
def test_a_sentence_carries_its_numbers(name, monkeypatch):
    code, found = EDGES[name]
    seen = []
    monkeypatch.setitem(globals(), "codes", lambda *a, **o: seen.extend(judged(*a, **o)[0]) or [])
    found(True)
    finding = seen[0]
    assert finding.code == code
    text = finding.sentence
    assert text.endswith(".")
    value = finding.value
    shown = {f"{value:.0%}", f"{value:.0f}", f"{value:.2g}", f"{value:.3g}"}
    if code not in {"state_not_carried", "truncated"}:  # they tell steps, not windows
        assert any(number in text for number in shown), (shown, text)
    assert re.search(r"\d", text)
    assert finding.falsify.endswith(".")
    assert "{" not in finding.falsify + text
    assert finding.unit


def test_a_bound_below_one_proves_vanishing_and_one_above_nothing():
    def sentence(factor):
        short = layer(decay=0.5, bound_factor=factor)
        return judged(short, context=FLAT)[0][0].sentence

    assert "proves it" in sentence(0.9)
    assert "proves nothing" in sentence(1.1)
    assert "prove" not in sentence(None)


def test_the_lag_comes_from_whoever_states_it_and_else_from_the_curve():
    assert needed_lag(LAG, USED) == LAG
    assert needed_lag(None, curve(33)) == NeededLag(32, FROM_CONTEXT)
    assert needed_lag(None, FLAT) is None
    assert needed_lag(None, None) is None


def mean_curve(needs, steps=128):
    """Of a loss over all steps, 1 with fewer than `needs` steps of context, else 0.5."""
    shown = [*(2**i for i in range(steps.bit_length()) if 2**i < steps), steps]

    def loss(n):
        begin = [max(0, steps - n * ((steps - 1 - t) // n + 1)) for t in range(steps)]
        seen = [t + 1 - first for t, first in enumerate(begin)]
        # What lies before the first step nobody misses.
        return sum(1.0 if s < min(needs, t + 1) else 0.5 for t, s in enumerate(seen)) / steps

    return ContextUse(shown, [loss(n) for n in shown], None)


@pytest.mark.parametrize("steps", [128, 120, 200])
@pytest.mark.parametrize(("needs", "used"), [(3, 2), (5, 4), (12, 8), (16, 8), (30, 16), (60, 32)])
def test_a_mean_over_all_steps_does_not_pass_for_long_use(needs, used, steps):
    """The naive reading of the same curve says up to twenty times as much."""
    context = mean_curve(needs, steps)
    assert used <= used_steps(context) <= 2 * used
    naive = next(n for n, x in zip(context.steps, context.loss, strict=True) if x < 0.525)
    assert naive >= used_steps(context)


def test_context_that_halves_the_loss_is_used_however_little_it_is():
    """A reset at every step costs a hundred times what all memory is for."""
    loss = [20, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.09]
    context = ContextUse([1, 2, 4, 8, 16, 32, 64, 128], loss, 2)
    assert used_steps(context) == 64
    assert used_steps(replace(context, loss=[*loss[:-1], 0.0])) == 64
    assert used_steps(replace(context, loss=[20, *[0.1] * 7])) == 1


@pytest.mark.parametrize(("gain", "used"), [(0.05 - EPS, None), (0.05 + EPS, 8)])
def test_chance_is_no_use(gain, used):
    assert used_steps(curve(9, gain=gain)) == used


def test_every_threshold_is_read_and_has_a_reason():
    for name, threshold in THRESHOLDS.items():
        assert limit(name) == threshold.value
        assert len(threshold.reason) > 20
        assert threshold.unit
