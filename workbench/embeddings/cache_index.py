"""Which rows a software cache holds: a set-associative index, asked for one batch's unique rows at a time.

As FBGEMM's cache in front of host memory is built (Neo, section 4.1): a row may lie in the 32 ways of one set; all hits
of a batch are found before anything is evicted; a row of this batch or of the one in flight is never evicted. A miss
whose set has nothing to evict is a *conflict*: the row is served without entering the cache. LFU, which counts the
batches that used a row and never forgets, also refuses a row that was used less often than each row it could replace.

The kernels are compiled and release the GIL, so that the rows of the next batch are sought while this one trains.
"""

from dataclasses import dataclass

import numba
import numpy as np

WAYS = 32  # FBGEMM's associativity: one warp compares a whole set
POLICIES = ("lru", "lfu")
NONE = -1
_IN_FLIGHT = 1  # batches before this one that may still train on their rows


@dataclass(frozen=True)
class Placement:
    """Where one batch's unique rows are, arrays [n]: `slots` (NONE for a conflict), `hits`, and `evicted`, the row that
    had the slot and was written since it came (NONE where there is no such row)."""

    slots: np.ndarray
    hits: np.ndarray
    evicted: np.ndarray


class CacheIndex:
    """The index of a cache with `sets` sets of WAYS slots for rows 0 to `rows` - 1; `policy` is one of POLICIES.

    Memory: 17 B a slot; under LFU another 4 B a row, cached or not.
    """

    def __init__(self, sets: int, rows: int, policy: str) -> None:
        self.slots = sets * WAYS
        self._rows_in = np.full((sets, WAYS), NONE, dtype=np.int64)
        self._last_batch = np.zeros((sets, WAYS), dtype=np.int64)
        self._written = np.zeros(self.slots, dtype=np.bool_)
        self._uses = np.zeros(rows if policy == "lfu" else 0, dtype=np.uint32)
        self._batch = _IN_FLIGHT

    def place(self, rows: np.ndarray) -> Placement:
        """Find or make room for `rows` [n] int64, which are distinct: the next batch."""
        self._batch += 1
        slots, hits, evicted = (np.empty(len(rows), dtype) for dtype in (np.int64, np.bool_, np.int64))
        _place(
            rows, self._batch, self._rows_in, self._last_batch, self._written, self._uses, slots, hits, evicted
        )  # fmt: skip
        return Placement(slots, hits, evicted)

    def mark_written(self, slots: np.ndarray) -> None:
        """The rows in `slots` differ from their backing store from now on."""
        self._written[slots] = True

    def take_written(self) -> tuple[np.ndarray, np.ndarray]:
        """(slots, rows) that differ from the backing store; the caller writes them there now."""
        slots = np.flatnonzero(self._written)
        self._written[slots] = False
        return slots, self._rows_in.reshape(-1)[slots]


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of `rows` [n] int64 by first occurrence, and for each entry its position among them, [n]."""
    return _unique(rows, 1 << max(2 * len(rows) - 1, 1).bit_length())


@numba.njit(cache=True, nogil=True)
def _mixed(row):
    """The finalizer of SplitMix64 (Steele and others, 2014): neighbouring rows fall into unrelated sets."""
    bits = np.uint64(row) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _unique(rows, buckets):
    """Open addressing with linear probing over a power of two of buckets, at most half of them used."""
    held = np.full(buckets, -1, dtype=np.int64)  # position among the distinct
    distinct = np.empty(len(rows), dtype=np.int64)
    position = np.empty(len(rows), dtype=np.int64)
    count = 0
    for entry in range(len(rows)):
        bucket = np.int64(_mixed(rows[entry]) & np.uint64(buckets - 1))
        while held[bucket] >= 0 and distinct[held[bucket]] != rows[entry]:
            bucket = (bucket + 1) & (buckets - 1)
        if held[bucket] < 0:
            held[bucket] = count
            distinct[count] = rows[entry]
            count += 1
        position[entry] = held[bucket]
    return distinct[:count].copy(), position


@numba.njit(cache=True, nogil=True)
def _place(rows, batch, rows_in, last_batch, written, uses, slots, hits, evicted):
    sets, ways = rows_in.shape
    for entry in range(len(rows)):
        row = rows[entry]
        place = np.int64(_mixed(row) % np.uint64(sets))
        slots[entry], evicted[entry] = NONE, NONE
        if len(uses):
            uses[row] += 1
        for way in range(ways):
            if rows_in[place, way] == row:
                slots[entry] = place * ways + way
                last_batch[place, way] = batch
                break
        hits[entry] = slots[entry] != NONE
    for entry in range(len(rows)):
        if hits[entry]:
            continue
        row = rows[entry]
        place = np.int64(_mixed(row) % np.uint64(sets))
        way = _victim(row, rows_in[place], last_batch[place], batch, uses)
        if way == NONE:
            continue
        slot = place * ways + way
        if written[slot]:
            evicted[entry] = rows_in[place, way]
        slots[entry], written[slot] = slot, False
        rows_in[place, way], last_batch[place, way] = row, batch


@numba.njit(cache=True, nogil=True)
def _victim(row, rows_in, last_batch, batch, uses):
    """The way that `row` may take over, NONE if there is none: an empty one, else that of the row used longest ago
    (LRU) or least often (LFU, the longest unused of equals), unless a batch in flight uses it."""
    best = NONE
    for way in range(len(rows_in)):
        if rows_in[way] == NONE:
            return way
        if last_batch[way] >= batch - _IN_FLIGHT:
            continue
        if best == NONE:
            best = way
        elif len(uses) and uses[rows_in[way]] != uses[rows_in[best]]:
            if uses[rows_in[way]] < uses[rows_in[best]]:
                best = way
        elif last_batch[way] < last_batch[best]:
            best = way
    if best != NONE and len(uses) and uses[rows_in[best]] > uses[row]:
        return NONE
    return best
