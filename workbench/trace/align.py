"""Two records of the same sequence of calls, one beginning or ending elsewhere and a few calls apart: who is who."""

import numba
import numpy as np

# Long enough to tell one stretch of a step from another; shorter ones are tried where none of this length agrees.
_WINDOWS = (12, 3, 1)
_MOST_VOTES = 100_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# How many calls may be missing on either side at one spot.
_LOOK_AHEAD = 64


def align(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Index into `right` for each element of `left` [n], -1 for none, and at how many offsets they agree equally well.

    Both hold codes (int64) of what was called; of several equally good offsets the first is taken.
    """
    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    for length in _WINDOWS:
        begin, there, places = _anchor(_windows(left, length), _windows(right, length))
        if places:
            behind = _walk(left[begin:], right[there:], _LOOK_AHEAD)
            before = _walk(_reversed(left[:begin]), _reversed(right[:there]), _LOOK_AHEAD)[::-1]
            behind = np.where(behind >= 0, there + behind, -1)
            return np.concatenate([np.where(before >= 0, there - 1 - before, -1), behind]), places
    return np.full(len(left), -1, dtype=np.int64), 0


def _reversed(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes[::-1])


def _windows(codes: np.ndarray, length: int) -> np.ndarray:
    """A hash [n - length + 1] of every stretch of `length` codes."""
    count = max(len(codes) - length + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for position in range(length):
        hashes = hashes * _MULTIPLIER + codes[position : position + count].astype(np.uint64) + np.uint64(1)
    return hashes


def _anchor(left: np.ndarray, right: np.ndarray) -> tuple[int, int, int]:
    """Where to start: an index into either, by the vote of the rarest common windows on the offset between the two; and
    how many offsets have as many votes (0: no common window)."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right[order], left, side="left")
    counts = np.searchsorted(right[order], left, side="right") - first
    common = np.flatnonzero(counts)
    if len(common) == 0:
        return 0, 0, 0
    rarest = counts[common].min()
    voters = common[counts[common] == rarest][: max(_MOST_VOTES // rarest, 1)]
    offsets = order[first[voters][:, None] + np.arange(rarest)] - voters[:, None]
    values, votes = np.unique(offsets, return_counts=True)
    best = values[votes.argmax()]
    begin = voters[(offsets == best).any(axis=1)].min()
    return int(begin), int(begin + best), int((votes == votes.max()).sum())


@numba.njit(cache=True)
def _walk(left, right, look_ahead):
    """Walk both from the start; where they differ, go on behind the fewest skipped calls after which two agree."""
    found = np.full(len(left), -1, dtype=np.int64)
    i, j = 0, 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            found[i] = j
            i, j = i + 1, j + 1
            continue
        skip_left, skip_right = _resume(left, right, i, j, look_ahead)
        i, j = i + skip_left, j + skip_right
    return found


@numba.njit(cache=True)
def _resume(left, right, i, j, look_ahead):
    for skipped in range(1, look_ahead + 1):
        for skip_left in range(skipped + 1):
            a, b = i + skip_left, j + skipped - skip_left
            if a < len(left) and b < len(right) and left[a] == right[b]:
                ends = a + 1 == len(left) or b + 1 == len(right)
                if ends or left[a + 1] == right[b + 1]:
                    return skip_left, skipped - skip_left
    return 1, 1
