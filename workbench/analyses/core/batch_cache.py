"""A software cache that works batch by batch, simulated: as training through a row cache does, and on its own.

For each batch of distinct units all hits are found first; then each miss takes an empty slot of its set, or that of a
unit which neither this batch nor the one before uses: the one used longest ago (lru) or in the fewest batches (lfu, the
longest unused of equals), unless lfu finds that one used in more batches than the newcomer. What gets no slot is a
conflict, served beside the cache.
"""

from dataclasses import dataclass

import numba
import numpy as np

from workbench.analyses.core.reuse import hash_units

POLICIES = ("lru", "lfu")


@dataclass(frozen=True)
class BatchReplay:
    """Masks [n] of the units in order: found in the cache; served beside it; took the slot of another unit."""

    hits: np.ndarray
    conflicts: np.ndarray
    evictions: np.ndarray


def replay_batches(units: np.ndarray, batch: np.ndarray, slots: int, ways: int, policy: str) -> BatchReplay:
    """`units` [n] are numbers from 0 without large gaps, distinct within a batch; `batch` [n] never falls. The cache is
    empty at first and has `slots // ways` sets, at least one."""
    sets = max(1, slots // ways)
    distinct = np.arange(units.max() + 1 if len(units) else 0)
    places = (hash_units(distinct) % np.uint64(sets)).astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(batch)) + 1, len(units))
    return BatchReplay(*_replay(units, ends, places, sets, ways, policy == "lfu"))


@numba.njit(cache=True)
def _replay(units, ends, places, sets, ways, lfu):
    held = np.full((sets, ways), -1, dtype=np.int64)
    used = np.full(len(places), -2, dtype=np.int64)  # the last batch that used each unit
    uses = np.zeros(len(places), dtype=np.int64)
    cached = np.zeros(len(places), dtype=np.bool_)
    hits, conflicts, evictions = np.zeros((3, len(units)), dtype=np.bool_)
    start = 0
    for now, end in enumerate(ends):
        for entry in range(start, end):
            unit = units[entry]
            hits[entry] = cached[unit]
            used[unit] = now
            uses[unit] += 1
        for entry in range(start, end):
            if hits[entry]:
                continue
            row = held[places[units[entry]]]
            way = _victim(row, now, used, uses, lfu)
            if way < 0 or (lfu and row[way] >= 0 and uses[row[way]] > uses[units[entry]]):
                conflicts[entry] = True
                continue
            if row[way] >= 0:
                evictions[entry] = True
                cached[row[way]] = False
            row[way] = units[entry]
            cached[units[entry]] = True
        start = end
    return hits, conflicts, evictions


@numba.njit(cache=True)
def _victim(row, now, used, uses, lfu):
    victim = -1
    for way in range(len(row)):
        if row[way] < 0:
            return way
        if used[row[way]] >= now - 1:
            continue
        if victim < 0:
            victim = way
            continue
        rarer = lfu and uses[row[way]] < uses[row[victim]]
        as_rare = not lfu or uses[row[way]] == uses[row[victim]]
        if rarer or (as_rare and used[row[way]] < used[row[victim]]):
            victim = way
    return victim
