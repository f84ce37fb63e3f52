"""Self time as segments: at each instant a lane's time belongs to the innermost event that is open there.

Segments of one lane are disjoint by construction (a cursor only moves forward), also where events overlap by a
microsecond because their writer rounded; so sums over segments never count an instant twice.

Compiled loops over millions of events fill arrays that NumPy made, here as elsewhere: NumPy asks the system for huge
pages, and an array made in compiled code would take a page fault each 4 KiB, which cost more than the loop.
"""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from workbench.analyses.core.intervals import Intervals, merge


@dataclass(frozen=True)
class Segments:
    """Disjoint segments [m], sorted by time; `event` is the owner's row in the table they were made from."""

    start_ns: np.ndarray
    end_ns: np.ndarray
    event: np.ndarray

    @cached_property
    def intervals(self) -> Intervals:
        """The time that they cover."""
        return merge(self.start_ns, self.end_ns)

    def take(self, chosen: np.ndarray) -> "Segments":
        """Those chosen by a mask or indices [m]."""
        return Segments(self.start_ns[chosen], self.end_ns[chosen], self.event[chosen])

    def within(self, intervals: Intervals) -> "Segments":
        """The pieces of the segments inside `intervals`."""
        room = len(self.event) + len(intervals)
        starts, ends, owners = (np.empty(room, np.int64) for _ in range(3))
        count = _within(self.start_ns, self.end_ns, self.event, intervals, starts, ends, owners)
        return Segments(starts[:count], ends[:count], owners[:count])


def joined(parts: list[Segments]) -> Segments:
    """Segments of several lists in order of time; disjoint only if they were so together."""
    columns = [
        np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in parts)])
        for name in ("start_ns", "end_ns", "event")
    ]
    order = np.argsort(columns[0], kind="stable")
    return Segments(*(column[order] for column in columns))


def self_segments(start_ns: np.ndarray, end_ns: np.ndarray, event: np.ndarray, whole: np.ndarray) -> Segments:
    """Segments of the events [n] of one lane. What runs inside an event marked `whole` [n] counts as that event's own
    time: the copies within a collective are part of it."""
    order = _outer_first(start_ns, end_ns)
    # Opening an event closes at most one segment, and so does closing it.
    starts, ends, owners = (np.empty(2 * len(order), np.int64) for _ in range(3))
    stack, owner = (np.empty(len(order), np.int64) for _ in range(2))
    count = _sweep(start_ns[order], end_ns[order], whole[order], starts, ends, owners, stack, owner)
    return Segments(starts[:count], ends[:count], event[order][owners[:count]])


def _outer_first(start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
    """Order of the events [n] by start, the longest first of those that start together. A lane's events stand nearly
    so, which makes the sort quick, and few start together: only those have their ends compared."""
    order = np.argsort(start_ns, kind="stable")
    with_last = np.diff(start_ns[order], prepend=-1, append=-1) == 0
    together = np.flatnonzero(with_last[1:] | with_last[:-1])
    among = order[together]
    order[together] = among[np.lexsort((-end_ns[among], start_ns[among]))]
    return order


@numba.njit(cache=True)
def _sweep(start_ns, end_ns, whole, starts, ends, owners, stack, owner):
    """Number of segments, which are put into `starts`, `ends` and `owners`; `stack` and `owner` are its notes."""
    n, count, depth = len(start_ns), 0, 0
    cursor = start_ns[0] if n else 0
    for event in range(n + 1):
        now = start_ns[event] if event < n else np.iinfo(np.int64).max
        while depth > 0:
            top = stack[depth - 1]
            until = min(end_ns[top], now)
            if until > cursor:
                starts[count], ends[count], owners[count] = cursor, until, owner[top]
                count, cursor = count + 1, until
            if end_ns[top] > now:
                break
            depth -= 1
        cursor = max(cursor, now)
        if event < n:
            inside = depth > 0 and whole[owner[stack[depth - 1]]]
            owner[event] = owner[stack[depth - 1]] if inside else event
            stack[depth] = event
            depth += 1
    return count


@numba.njit(cache=True)
def _within(start_ns, end_ns, event, intervals, starts, ends, owners):
    """Number of pieces, which are put into `starts`, `ends` and `owners`."""
    count, at, i = 0, 0, 0
    while at < len(event) and i < len(intervals):
        start, end = max(start_ns[at], intervals[i, 0]), min(end_ns[at], intervals[i, 1])
        if end > start:
            starts[count], ends[count], owners[count] = start, end, event[at]
            count += 1
        if end_ns[at] < intervals[i, 1]:
            at += 1
        else:
            i += 1
    return count
