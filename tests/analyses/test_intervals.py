"""Interval algebra against the plainest oracle: a set of integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core import intervals

_LIMIT = 40
# As a trace has them: any order, overlapping, touching, empty.
raw_intervals = st.lists(st.tuples(st.integers(0, _LIMIT), st.integers(0, 12)), max_size=12)


def merged(raw):
    starts = np.array([start for start, _ in raw], dtype=np.int64)
    return intervals.merge(starts, starts + np.array([length for _, length in raw], dtype=np.int64))


def points(a):
    return {point for start, end in a.tolist() for point in range(start, end)}


def assert_canonical(a):
    """Sorted, disjoint and not touching, none empty, int64."""
    assert a.dtype == np.int64 and a.shape[1] == 2
    flat = a.ravel()
    assert (flat[1:] > flat[:-1]).all()


@settings(deadline=None)
@given(raw_intervals)
def test_merge_covers_the_same_points(raw):
    result = merged(raw)
    assert_canonical(result)
    assert points(result) == {point for start, length in raw for point in range(start, start + length)}
    assert intervals.total_ns(result) == len(points(result))


@settings(deadline=None)
@given(raw_intervals, raw_intervals)
def test_algebra_is_that_of_sets(raw_a, raw_b):
    a, b = merged(raw_a), merged(raw_b)
    before = a.copy(), b.copy()
    for operation, expected in (
        (intervals.union, points(a) | points(b)),
        (intervals.intersect, points(a) & points(b)),
        (intervals.subtract, points(a) - points(b)),
    ):
        result = operation(a, b)
        assert_canonical(result)
        assert points(result) == expected
    assert (a == before[0]).all() and (b == before[1]).all()


@settings(deadline=None)
@given(raw_intervals, st.integers(0, _LIMIT), st.integers(0, 20))
def test_clip_and_covered_count_what_lies_inside(raw, start, length):
    a = merged(raw)
    inside = points(a) & set(range(start, start + length))
    assert points(intervals.clip(a, start, start + length)) == inside
    assert intervals.covered_ns(a, np.array([start, start]), np.array([start + length, start])).tolist() == [
        len(inside),
        0,
    ]


@pytest.mark.parametrize("operation", [intervals.union, intervals.intersect, intervals.subtract])
def test_empty_sets(operation):
    assert len(operation(intervals.EMPTY, intervals.EMPTY)) == 0


def test_union_of_none_and_of_three():
    assert len(intervals.union()) == 0
    parts = [np.array([pair], dtype=np.int64) for pair in ((0, 2), (5, 6), (2, 4))]
    assert intervals.union(*parts).tolist() == [[0, 4], [5, 6]]


def test_nanoseconds_of_today_stay_exact():
    now = 1_700_000_000_000_000_001
    a = intervals.merge([now, now + 2], [now + 1, now + 3])
    assert intervals.subtract(a, np.array([[now + 2, now + 9]])).tolist() == [[now, now + 1]]
    assert intervals.covered_ns(a, np.array([now]), np.array([now + 100])).tolist() == [2]
