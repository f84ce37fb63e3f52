"""Set algebra on time: an interval set is an int64 array [n, 2] of (start_ns, end_ns), sorted, disjoint, non-empty.

Every breakdown is unions, intersections and differences of such sets, so its parts sum to the whole by construction.
All functions are pure: one sort at most, and one pass.
"""

import numba
import numpy as np

Intervals = np.ndarray
EMPTY: Intervals = np.empty((0, 2), dtype=np.int64)


def merge(start_ns: np.ndarray, end_ns: np.ndarray) -> Intervals:
    """Union of arbitrary intervals [n], given as two arrays; touching ones join, empty ones vanish."""
    start_ns, end_ns = np.asarray(start_ns, dtype=np.int64), np.asarray(end_ns, dtype=np.int64)
    order = np.argsort(start_ns, kind="stable")
    return _joined(start_ns[order], end_ns[order])


def union(*sets: Intervals) -> Intervals:
    """Everything that is in any of the sets."""
    together = np.concatenate(sets) if sets else EMPTY
    return merge(together[:, 0], together[:, 1])


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """What is in both."""
    return _overlaps(a, b)


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """What is in `a` and not in `b`."""
    if len(a) == 0 or len(b) == 0:
        return a
    # The complement of b within a's hull, then intersect.
    low, high = min(a[0, 0], b[0, 0]), max(a[-1, 1], b[-1, 1])
    gaps_start = np.concatenate(([low], b[:, 1]))
    gaps_end = np.concatenate((b[:, 0], [high]))
    return intersect(a, np.stack((gaps_start, gaps_end), axis=1))


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


@numba.njit(cache=True)
def _joined(start_ns, end_ns):
    """Union of intervals [n] in the order of their starts."""
    joined, count = np.empty((len(start_ns), 2), np.int64), 0
    for at in range(len(start_ns)):
        start, end = start_ns[at], end_ns[at]
        if end <= start:
            continue
        if count > 0 and start <= joined[count - 1, 1]:
            joined[count - 1, 1] = max(joined[count - 1, 1], end)
        else:
            joined[count, 0], joined[count, 1] = start, end
            count += 1
    return joined[:count]


@numba.njit(cache=True)
def _overlaps(a, b):
    """Where an interval of `a` and one of `b` overlap."""
    found, count = np.empty((len(a) + len(b), 2), np.int64), 0
    i, j = 0, 0
    while i < len(a) and j < len(b):
        start, end = max(a[i, 0], b[j, 0]), min(a[i, 1], b[j, 1])
        if end > start:
            found[count, 0], found[count, 1] = start, end
            count += 1
        if a[i, 1] < b[j, 1]:
            i += 1
        else:
            j += 1
    return found[:count]
