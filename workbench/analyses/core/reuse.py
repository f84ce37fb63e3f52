"""Reuse (stack) distance: how much distinct data was touched since the last touch of the same unit.

A fully associative LRU memory of capacity c hits exactly the accesses whose distance plus own weight is at most c, so
one pass over a stream answers for every capacity (Mattson and others, "Evaluation techniques for storage
hierarchies", 1970). Exact distances come from a Fenwick tree over the positions of last touches, O(n log n) (Bennett
and Kruskal, 1975); long streams are sampled by SHARDS (Waldspurger and others, FAST 2015).
"""

from dataclasses import dataclass

import numba
import numpy as np

COLD = -1


def reuse_distances(units: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Weight of the distinct other units touched since the last touch of each unit [n], int64; COLD for a first touch.

    `units` [n] are numbers from 0 without large gaps, as `pandas.factorize` gives. `weights` [n] int64 is what each
    unit occupies (default 1 each), the same at every touch; distances have its unit.
    """
    weights = np.ones(len(units), dtype=np.int64) if weights is None else weights
    return _distances(units, weights, _count(units))


@numba.njit(cache=True)
def _distances(units, weights, distinct):
    length = len(units)
    tree = np.zeros(length + 1, dtype=np.int64)  # Fenwick: each unit's weight stands at its last touch
    last = np.full(distinct, -1, dtype=np.int64)
    found = np.empty(length, dtype=np.int64)
    resident = 0
    for now in range(length):
        before = last[units[now]]
        if before < 0:
            found[now] = -1
            resident += weights[now]
        else:
            older = 0  # units last touched at `before` or earlier, this one included
            node = before + 1
            while node > 0:
                older += tree[node]
                node -= node & -node
            found[now] = resident - older
            node = before + 1
            while node <= length:
                tree[node] -= weights[before]
                node += node & -node
        node = now + 1
        while node <= length:
            tree[node] += weights[now]
            node += node & -node
        last[units[now]] = now
    return found


@dataclass(frozen=True)
class SampledReuse:
    """`distances` [k] of the followed accesses of a stream of n (`followed`, mask [n]), scaled to the whole stream."""

    followed: np.ndarray
    distances: np.ndarray
    rate: float

    def missed(self, capacity_units: float) -> np.ndarray:
        """Mask [k] of the followed accesses that a fully associative LRU cache of this size misses (cold ones too)."""
        return (self.distances == COLD) | (self.distances >= capacity_units)

    def miss_share(self, capacity_units: float, counted: np.ndarray) -> float:
        """Misses over accesses, among the `counted` ones (mask [n])."""
        return self.share(self.missed(capacity_units), counted)

    def share(self, chosen: np.ndarray, counted: np.ndarray) -> float:
        """What the `chosen` followed accesses (mask [k]) stand for, over all `counted` accesses (mask [n])."""
        # Over the true number of accesses, not the followed one: what a sample lacks or has too much of are the
        # hottest units, whose distances are short, so the difference belongs to the hits (SHARDS-adj).
        return float(np.clip((chosen & counted[self.followed]).sum() / self.rate / counted.sum(), 0, 1))


def sampled_reuse(units: np.ndarray, rate: float = 1.0) -> SampledReuse:
    """Reuse of the stream `units` [n] of equal weights; exact at `rate` 1, else SHARDS at that fixed rate: only units
    whose hash falls under `rate` are followed, and their distances are scaled by 1 / rate."""
    if rate >= 1:
        return SampledReuse(np.ones(len(units), dtype=bool), reuse_distances(units), 1.0)
    followed = sample(units, rate)
    distances = reuse_distances(units[followed])
    return SampledReuse(followed, np.where(distances == COLD, COLD, np.rint(distances / rate)).astype(np.int64), rate)


def sample(units: np.ndarray, rate: float) -> np.ndarray:
    """Mask [n] of the touches of those units whose hash falls under `rate` (below 1): all of a unit's, or none."""
    return hash_units(units) < np.uint64(rate * 2.0**64)


def hash_units(units: np.ndarray) -> np.ndarray:
    """uint64 [n]: the finalizer of splitmix64 (Steele and others, 2014), so that neighbouring rows fall apart."""
    mixed = np.asarray(units).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def written_back(
    units: np.ndarray, weights: np.ndarray, written: np.ndarray, distances: np.ndarray, capacity: float
) -> np.ndarray:
    """Weight [n] that each access adds to the dirty evictions of an LRU memory of `capacity`.

    A unit's stay begins with a miss and ends when the next one finds it gone. A stay in which something is written
    (`written` [n], weight) is evicted dirty once; its eviction is charged to the first write of the stay.
    """
    misses = (distances == COLD) | (distances + weights > capacity)
    return _first_writes(units, written, misses, _count(units))


def _count(units: np.ndarray) -> int:
    return int(units.max()) + 1 if len(units) else 0


@numba.njit(cache=True)
def _first_writes(units, written, misses, distinct):
    dirty = np.zeros(distinct, dtype=np.int64)
    found = np.zeros(len(units), dtype=np.int64)
    for now in range(len(units)):
        unit = units[now]
        if misses[now]:
            dirty[unit] = 0
        if written[now] > dirty[unit]:
            found[now] = written[now] - dirty[unit]
            dirty[unit] = written[now]
    return found
