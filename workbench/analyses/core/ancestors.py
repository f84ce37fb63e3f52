"""The events around an event: the nearest one of a kind, or the outermost."""

import numba
import numpy as np


@numba.njit(cache=True)
def nearest(rows, parents, wanted):
    """Each of `rows` [n], or its nearest ancestor, that is `wanted` [events]; -1 for none, and for row -1.

    `parents` [events] are rows, -1 for none.
    """
    found = np.empty(len(rows), dtype=np.int64)
    for index in range(len(rows)):
        row = rows[index]
        while row >= 0 and not wanted[row]:
            row = parents[row]
        found[index] = row
    return found


@numba.njit(cache=True)
def outermost(parents, wanted):
    """The outermost of each event and its ancestors that is `wanted`, both [events]; -1 for none."""
    found = np.full(len(parents), -1, dtype=np.int64)
    for event in range(len(parents)):
        at = event
        while at >= 0:
            if wanted[at]:
                found[event] = at
            at = parents[at]
    return found
