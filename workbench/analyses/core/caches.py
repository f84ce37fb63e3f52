"""Software caches by simulation: set-associative, one slot a row, as FBGEMM's cache in front of host memory is built.

A batch-deduplicating cache sees the unique rows of each batch; replay those. LFU counts every touch of a unit, cached
or not, and forgets nothing (as FBGEMM's LFU state does). Not modelled: locking the rows of the running batch.
"""

import numba
import numpy as np

from workbench.analyses.core.reuse import hash_units

POLICIES = ("lru", "lfu", "fifo")
WAYS = 32  # one warp looks a set up: FBGEMM's associativity


def simulate(units: np.ndarray, capacity: int, policy: str, ways: int = WAYS) -> np.ndarray:
    """Mask [n] of hits of a cache with `capacity // ways` sets (at least one) of `ways` slots.

    `units` [n] are numbers from 0 without large gaps. The set is the unit's hash modulo the number of sets. Of a full
    set goes: lru, the unit touched longest ago; fifo, the one brought in first; lfu, the one touched least often so
    far, the longest untouched of equals.
    """
    sets = max(1, capacity // ways)
    distinct = np.arange(units.max() + 1 if len(units) else 0)
    places = (hash_units(distinct) % np.uint64(sets)).astype(np.int64)
    return _simulate(units, places, sets, min(ways, capacity), POLICIES.index(policy))


@numba.njit(cache=True)
def _simulate(units, places, sets, ways, policy):
    slots = np.full((sets, ways), -1, dtype=np.int64)
    touched = np.zeros((sets, ways), dtype=np.int64)  # last touch; under fifo, when it was brought in
    frequency = np.zeros(len(places), dtype=np.int64)
    hits = np.zeros(len(units), dtype=np.bool_)
    for now in range(len(units)):
        unit = units[now]
        place = places[unit]
        frequency[unit] += 1
        victim = 0
        for way in range(ways):
            held = slots[place, way]
            if held == unit:
                hits[now] = True
                if policy != 2:
                    touched[place, way] = now
                break
            if held < 0:  # slots fill from the left: nothing lies behind an empty one
                victim = way
                break
            rarer = policy == 1 and frequency[held] < frequency[slots[place, victim]]
            as_rare = policy != 1 or frequency[held] == frequency[slots[place, victim]]
            if rarer or (as_rare and touched[place, way] < touched[place, victim]):
                victim = way
        if not hits[now]:
            slots[place, victim] = unit
            touched[place, victim] = now
    return hits
