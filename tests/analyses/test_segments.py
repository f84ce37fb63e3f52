"""Self time as segments, against an oracle that asks at every instant which event is innermost."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.intervals import merge
from workbench.analyses.core.segments import Segments, joined, self_segments


def segments_of(*events, whole=()):
    starts, ends = np.array(events, dtype=np.int64).reshape(-1, 2).T
    marked = np.isin(np.arange(len(starts)), whole)
    return self_segments(starts, ends, np.arange(len(starts)), marked)


def listed(segments):
    return list(zip(segments.event.tolist(), segments.start_ns.tolist(), segments.end_ns.tolist(), strict=True))


def test_time_belongs_to_the_innermost_event():
    found = segments_of((0, 10), (2, 5), (3, 4), (7, 10))
    assert listed(found) == [(0, 0, 2), (1, 2, 3), (2, 3, 4), (1, 4, 5), (0, 5, 7), (3, 7, 10)]


def test_what_runs_inside_a_whole_event_is_its_own():
    found = segments_of((0, 10), (2, 5), (3, 4), (5, 6), whole=[1])
    assert listed(found) == [(0, 0, 2), (1, 2, 3), (1, 3, 4), (1, 4, 5), (3, 5, 6), (0, 6, 10)]


def test_an_event_after_a_whole_one_is_not_inside_it():
    assert listed(segments_of((0, 4), (2, 4), (4, 6), whole=[0])) == [(0, 0, 2), (0, 2, 4), (2, 4, 6)]


def test_rounding_overlap_is_counted_once():
    found = segments_of((0, 5), (4, 8))
    assert listed(found) == [(0, 0, 4), (1, 4, 8)]


def test_no_events_and_empty_events():
    assert listed(segments_of()) == []
    assert listed(segments_of((3, 3))) == []


@st.composite
def nested_events(draw, low=0, high=40, depth=3):
    """Properly nested events inside [low, high)."""
    events, at = [], low
    while at < high and draw(st.booleans()):
        start = draw(st.integers(at, high - 1))
        end = draw(st.integers(start + 1, high))
        events.append((start, end))
        if depth:
            events += draw(nested_events(start, end, depth - 1))
        at = end
    return events


@settings(deadline=None)
@given(nested_events())
def test_segments_tile_the_union_by_the_innermost(events):
    found = listed(segments_of(*events))
    owner = {point: event for event, start, end in found for point in range(start, end)}
    assert sum(end - start for _, start, end in found) == len(owner)
    assert set(owner) == {point for start, end in events for point in range(start, end)}
    for point, event in owner.items():
        around = [(end - start) for start, end in events if start <= point < end]
        assert events[event][1] - events[event][0] == min(around)


@settings(deadline=None)
@given(nested_events(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=5))
def test_pieces_within_intervals(events, raw):
    windows = merge([start for start, _ in raw], [start + length for start, length in raw])
    segments = segments_of(*events)
    expected = [
        (event, max(start, low), min(end, high))
        for low, high in windows.tolist()
        for event, start, end in listed(segments)
        if start < high and end > low
    ]
    assert listed(segments.within(windows)) == expected


def test_joined_is_in_order_of_time():
    a, b = segments_of((5, 6)), segments_of((0, 2), (8, 9))
    assert joined([a, b]).start_ns.tolist() == [0, 5, 8]
    assert isinstance(joined([]), Segments) and len(joined([]).event) == 0
