"""Set algebra on time: an interval set is an int64 array [n, 2] of (start_ns, end_ns), sorted, disjoint, non-empty.

Every breakdown is unions, intersections and differences of such sets, so its parts sum to the whole by construction.
All functions are pure, O(n log n) in NumPy.
"""

import numpy as np

Intervals = np.ndarray
EMPTY: Intervals = np.empty((0, 2), dtype=np.int64)


def merge(start_ns: np.ndarray, end_ns: np.ndarray) -> Intervals:
    """Union of arbitrary intervals [n], given as two arrays; touching ones join, empty ones vanish."""
    start_ns, end_ns = np.asarray(start_ns, dtype=np.int64), np.asarray(end_ns, dtype=np.int64)
    keep = end_ns > start_ns
    start_ns, end_ns = start_ns[keep], end_ns[keep]
    if len(start_ns) == 0:
        return EMPTY
    order = np.argsort(start_ns, kind="stable")
    start_ns, end_ns = start_ns[order], np.maximum.accumulate(end_ns[order])
    first = np.concatenate(([True], start_ns[1:] > end_ns[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((start_ns[first], end_ns[last]), axis=1)


def union(*sets: Intervals) -> Intervals:
    """Everything that is in any of the sets."""
    together = np.concatenate(sets) if sets else EMPTY
    return merge(together[:, 0], together[:, 1])


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """What is in both."""
    return _covered(a, b, needed=2)


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """What is in `a` and not in `b`."""
    if len(a) == 0 or len(b) == 0:
        return a
    # The complement of b within a's hull, then intersect.
    low, high = min(a[0, 0], b[0, 0]), max(a[-1, 1], b[-1, 1])
    gaps_start = np.concatenate(([low], b[:, 1]))
    gaps_end = np.concatenate((b[:, 0], [high]))
    return intersect(a, merge(gaps_start, gaps_end))


def clip(a: Intervals, start_ns: int, end_ns: int) -> Intervals:
    """The part of `a` inside [start_ns, end_ns)."""
    if len(a) == 0:
        return a
    clipped = np.clip(a, start_ns, end_ns)
    return clipped[clipped[:, 1] > clipped[:, 0]]


def total_ns(a: Intervals) -> int:
    """Length of the set."""
    return int((a[:, 1] - a[:, 0]).sum())


def covered_ns(a: Intervals, start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
    """How much of each interval [n] (two arrays, any order, they may overlap) lies in `a`."""
    if len(a) == 0:
        return np.zeros(len(start_ns), dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(a[:, 1] - a[:, 0])))

    def until(time_ns: np.ndarray) -> np.ndarray:
        began = np.searchsorted(a[:, 0], time_ns, side="right")
        return before[began] - np.where(began > 0, np.maximum(a[began - 1, 1] - time_ns, 0), 0)

    return until(np.asarray(end_ns)) - until(np.asarray(start_ns))


def _covered(a: Intervals, b: Intervals, needed: int) -> Intervals:
    """Points covered by at least `needed` of the two sets: a sweep over sorted starts (+1) and ends (-1)."""
    if len(a) == 0 or len(b) == 0:
        return EMPTY
    times = np.concatenate((a[:, 0], b[:, 0], a[:, 1], b[:, 1]))
    steps = np.concatenate((np.ones(len(a) + len(b), np.int8), -np.ones(len(a) + len(b), np.int8)))
    # Ends before starts at the same instant, so touching intervals do not count as overlapping.
    order = np.lexsort((steps, times))
    times, depth = times[order], np.cumsum(steps[order])
    inside = depth[:-1] >= needed
    return merge(times[:-1][inside], times[1:][inside])
