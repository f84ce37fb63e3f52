"""Which event encloses which: parents by containment on one lane, in numba (a trace has millions of events)."""

import numba
import numpy as np


def parents(lane_codes: np.ndarray, start_ns: np.ndarray, duration_ns: np.ndarray) -> np.ndarray:
    """Index [n] of the innermost event on the same lane that contains each event, -1 for none.

    An event that only overlaps its predecessor (writers round to microseconds) is treated as enclosed when it starts
    inside and ends at most 1 us later; otherwise the two are siblings.
    """
    start_ns = np.asarray(start_ns, dtype=np.int64)
    end_ns = start_ns + np.asarray(duration_ns, dtype=np.int64)
    lane_codes = np.asarray(lane_codes, dtype=np.int64)
    # Longer first at the same start: the outer one of two that begin together. Stable: file order breaks the tie.
    order = np.lexsort((-end_ns, start_ns, lane_codes))
    return _parents(lane_codes, start_ns, end_ns, order)


@numba.njit(cache=True)
def _parents(lane_codes, start_ns, end_ns, order):
    found = np.full(len(order), -1, dtype=np.int64)
    stack = np.empty(len(order), dtype=np.int64)
    depth, lane = 0, -1
    for event in order:
        if lane_codes[event] != lane:
            depth, lane = 0, lane_codes[event]
        while depth > 0 and (
            end_ns[stack[depth - 1]] <= start_ns[event] or end_ns[stack[depth - 1]] + 1000 < end_ns[event]
        ):
            depth -= 1
        if depth > 0:
            found[event] = stack[depth - 1]
        stack[depth] = event
        depth += 1
    return found
