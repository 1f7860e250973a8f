"""Do pictures draw what was measured into the axes that they are given?"""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from report.records_for_tests import healthy, layer, vanishing
from throughtime.records.diagnosis import TimeMap
from throughtime.report.page_svg import inline_svg
from throughtime.report.pictures import (
    plot_context_use,
    plot_error_by_lag,
    plot_path_share,
    plot_weight_by_lag,
)
from throughtime.report.pictures_gates import plot_gate_ranges, plot_saturation, plot_time_constants
from throughtime.report.pictures_maps import plot_history, plot_time_map
from throughtime.report.pictures_spectrum import plot_condition, plot_directions, plot_lyapunov
from throughtime.report.pictures_style import power_of_ten

ONE = layer("a", 50)


def axes():
    return Figure().subplots()


def curve(ax, label):
    return next(line for line in ax.lines if line.get_label() == label).get_ydata()


def test_curves_are_what_was_measured():
    ax = axes()
    assert plot_error_by_lag(ONE, ax, needs_lag=7, others={"b": layer("b", 20)}) is ax
    np.testing.assert_array_equal(curve(ax, "measured, median"), ONE.error_by_lag)
    np.testing.assert_array_equal(curve(ax, "bound, off scale from lag 19"), ONE.bound_by_lag)
    assert len(curve(ax, "b")) == 20
    colours = {line.get_label(): line.get_color() for line in ax.lines}
    assert colours["b"] not in {colours["needed lag 7 steps"], colours["measured, median"]}
    at = next(line for line in ax.lines if line.get_label() == "needed lag 7 steps")
    assert list(at.get_xdata()) == [7, 7]
    assert ax.get_yscale() == "log"
    assert max(ONE.bound_by_lag) > ax.get_ylim()[1], "a bound must not flatten what was measured"


def test_a_bound_that_no_float_has_room_for_says_where_it_left():
    """A margin around it would overflow, and warn."""
    one = replace(ONE, bound_by_lag=[ONE.error_by_lag[0] * 10 ** (6.2 * n) for n in range(50)])
    ax = plot_error_by_lag(one, axes())
    ax.figure.canvas.draw()
    curve(ax, "bound, off scale from lag 1")
    inside = replace(ONE, bound_by_lag=ONE.error_high)
    curve(plot_error_by_lag(inside, axes()), "bound")


def test_what_counts_has_whole_ticks():
    short = layer(
        "a", 3, error_map=TimeMap([2], [0, 1, 2], [[-2.0, -1.0, 0.0]]), condition_lags=[1, 2],
        directions_by_lag=[1, 1],
    )  # fmt: skip
    drawn = [
        plot_error_by_lag(short, axes()).xaxis,
        plot_time_map(short.error_map, axes()).xaxis,
        plot_time_map(short.error_map, axes()).yaxis,
        plot_time_constants(layer("a", units=8), axes()).yaxis,
        plot_directions(short, axes()).yaxis,
        plot_history(healthy(60, 1).history[:2], axes()).xaxis,
    ]
    for axis in drawn:
        ticks = axis.get_ticklocs()
        assert len(ticks)
        assert all(float(tick).is_integer() for tick in ticks)
    assert plot_time_map(short.error_map, axes()).get_yticks().tolist() == [2]


def test_a_curve_of_one_point_is_seen():
    one = layer("a", 3, weight_by_lag=[0.1, 0.0, 0.0])
    line = next(c for c in plot_weight_by_lag(one, axes()).lines if "measured" in c.get_label())
    assert line.get_marker() == "o"
    assert plot_weight_by_lag(ONE, axes()).lines[0].get_marker() == "None"


def test_directions_are_of_those_that_were_followed():
    ax = plot_directions(layer("a", 50, units=128, lyapunov=[-0.1] * 32), axes())
    assert ax.get_ylabel() == "directions above 1 %, of 32"
    assert ax.get_ylim()[1] > max(ONE.directions_by_lag)


def test_zeros_are_marked_where_they_are():
    ax = plot_error_by_lag(vanishing().layers[0], axes())
    marks = next(line for line in ax.lines if line.get_label() == "exactly 0")
    assert list(marks.get_xdata()) == list(range(90, 120))


@pytest.mark.parametrize(
    "plot",
    [
        plot_weight_by_lag,
        plot_path_share,
        plot_lyapunov,
        plot_condition,
        plot_directions,
        plot_time_constants,
        plot_saturation,
        plot_gate_ranges,
    ],
)
def test_every_axis_says_what_it_is(plot):
    ax = plot(ONE, axes())
    assert ax.get_xlabel()
    assert ax.get_ylabel() or [t.get_text() for t in ax.get_yticklabels()] == list("ifgo")


def test_a_map_has_a_cell_for_each_pair():
    made = TimeMap([1, 5], [0, 1, 5], [[-1.0, 0.0, None], [-3.0, None, 0.0]])
    ax = plot_time_map(made, axes())
    values = ax.collections[0].get_array()
    assert values.shape == (2, 3)
    assert values.mask.tolist() == [[False, False, True], [False, True, False]]
    assert ax.collections[0].get_coordinates()[0, :, 0].tolist() == [-0.5, 0.5, 3.0, 7.0]


def test_the_history_is_a_share_of_its_first_lag():
    ax = plot_history(healthy(60, 1).history, axes())
    values = ax.collections[0].get_array()
    assert values.shape == (5, 13)
    np.testing.assert_allclose(values[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(values[4, 0], 64 * np.log10(0.75))


def test_spectrum_and_context_are_those_of_the_record():
    np.testing.assert_array_equal(plot_lyapunov(ONE, axes()).lines[1].get_ydata(), ONE.lyapunov)
    context = healthy().context
    np.testing.assert_array_equal(
        curve(plot_context_use(context, axes()), "older states reset"), context.loss
    )
    both = replace(context, loss_exchanged=[v + 0.1 for v in context.loss])
    np.testing.assert_array_equal(
        curve(plot_context_use(both, axes()), "older states exchanged"), both.loss_exchanged
    )


def test_every_unit_is_in_the_histogram():
    ax = plot_time_constants(ONE, axes(), needs_lag=64)
    assert sum(patch.get_height() for patch in ax.patches) == 63
    assert "gate f, 64 units, 1 without a finite one" in {
        text.get_text() for text in ax.get_legend().get_texts()
    }


def test_ticks_are_text_and_no_formula():
    assert [power_of_ten(v) for v in (1e-12, 0.01, 1.0, 1000.0, 1e5, 0.0)] == [
        "10⁻¹²", "0.01", "1", "1000", "10⁵", "",
    ]  # fmt: skip


def test_a_picture_takes_the_colours_of_the_page_and_ids_of_its_own():
    svg = inline_svg(lambda f: plot_error_by_lag(ONE, f.subplots()), 'of "a" < b', "p", (4, 3))
    assert svg.startswith(
        '<svg viewBox="0 0 288 216" role="img" aria-label="of &quot;a&quot; &lt; b">'
    )
    assert "var(--c0)" in svg
    assert "currentColor" in svg
    assert "#0072b2" not in svg
    assert "http" not in svg
    assert 'id="p-figure_1"' in svg
