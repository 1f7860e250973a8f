"""Do windows read the text in order, so that a carried state is always the right one?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import ConfigError, DataError
from throughtime.tasks import streams


@st.composite
def texts(draw):
    batch_size, window_steps = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    extra = draw(st.integers(0, 60))
    n = batch_size * window_steps + 1 + extra
    starts = sorted({0, *draw(st.lists(st.integers(0, n - 1), max_size=8))})
    return n, np.array(starts), batch_size, window_steps


def read(n, starts, batch_size, window_steps):
    """All windows of the text 1000, 1001, ..., joined along time: each [n_windows * W, B]."""
    windows = streams(np.arange(1000, 1000 + n, dtype=np.int32), starts, batch_size, window_steps)
    parts = [windows.window(i) for i in range(windows.n_windows)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


@settings(deadline=None)
@given(texts())
def test_windows_read_every_stream_in_order(text):
    n, _, batch_size, window_steps = text
    inputs, targets, _ = read(*text)
    length = (n - 1) // batch_size
    steps = length // window_steps * window_steps
    for b in range(batch_size):
        begin = 1000 + b * length
        np.testing.assert_array_equal(inputs[:, b], np.arange(begin, begin + steps))
    np.testing.assert_array_equal(targets, inputs + 1)  # the symbol after, since they count up


@settings(deadline=None)
@given(texts())
def test_no_symbol_is_read_twice_and_few_are_left_out(text):
    n, _, batch_size, window_steps = text
    inputs, targets, _ = read(*text)
    assert len(np.unique(inputs)) == inputs.size
    assert targets.max() <= 1000 + n - 1
    assert n - 1 - inputs.size < batch_size * window_steps


@settings(deadline=None)
@given(texts())
def test_the_state_starts_anew_at_documents_and_at_the_first_window_only(text):
    _, starts, _, _ = text
    inputs, _, reset = read(*text)
    expected = np.isin(inputs - 1000, starts)
    expected[0] = True
    np.testing.assert_array_equal(reset, expected)


def test_windows_are_what_torch_takes_and_belong_to_the_caller():
    windows = streams(np.arange(100, dtype=np.int32), np.array([0]), 3, 4)
    assert windows.n_windows == 8
    window = windows.window(1)
    assert [part.dtype for part in window] == [np.int64, np.int64, np.bool_]
    assert [part.shape for part in window] == [(4, 3)] * 3
    for part in window:
        part[...] = 1
    assert windows.window(1).inputs[0].tolist() == [4, 37, 70]
    assert not windows.window(1).reset.any()


def test_the_shortest_text_that_is_enough_is_one_window():
    windows = streams(np.arange(13), np.array([0]), 3, 4)
    assert windows.n_windows == 1
    assert windows.window(0).targets.max() == 12
    with pytest.raises(DataError, match=r"has 12 symbols, but a batch of 3 by 4 steps needs 13"):
        streams(np.arange(12), np.array([0]), 3, 4)


@pytest.mark.parametrize("i", [-1, 8])
def test_there_is_no_window_before_the_first_or_after_the_last(i):
    with pytest.raises(IndexError, match=f"window is {i}; expected 0 to 7"):
        streams(np.arange(100), np.array([0]), 3, 4).window(i)


@pytest.mark.parametrize(("batch_size", "window_steps"), [(0, 4), (3, 0), (-1, -1)])
def test_sizes_that_are_not_positive_are_refused(batch_size, window_steps):
    with pytest.raises(ConfigError, match=f"batch_size is {batch_size}"):
        streams(np.arange(100), np.array([0]), batch_size, window_steps)
