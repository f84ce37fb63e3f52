"""The cache's index against a plain Python model of what it promises, and small cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.embeddings.cache_index import NONE, POLICIES, WAYS, CacheIndex, unique_rows


class Reference:
    """One fully associative set of WAYS rows, in words: dictionaries, `min`, no arrays."""

    def __init__(self, policy: str) -> None:
        self.policy, self.batch = policy, 0
        self.last_batch, self.uses = {}, {}

    def place(self, rows):
        self.batch += 1
        for row in rows:
            self.uses[row] = self.uses.get(row, 0) + 1
        hits = [row in self.last_batch for row in rows]
        self.last_batch |= {row: self.batch for row, hit in zip(rows, hits, strict=True) if hit}
        conflicts = []
        for row, hit in zip(rows, hits, strict=True):
            if hit:
                continue
            idle = {held: last for held, last in self.last_batch.items() if last < self.batch - 1}
            if len(self.last_batch) == WAYS:
                order = [(self.uses[held] * (self.policy == "lfu"), last, held) for held, last in idle.items()]
                if not idle or (self.policy == "lfu" and min(order)[0] > self.uses[row]):
                    conflicts.append(row)
                    continue
                del self.last_batch[min(order)[-1]]
            self.last_batch[row] = self.batch
        return hits, conflicts


@pytest.mark.parametrize("policy", POLICIES)
def test_replacement_is_that_of_the_reference(policy):
    random = np.random.default_rng(0)
    index, reference = CacheIndex(1, 80, policy), Reference(policy)
    for row in (80 * random.random(3000) ** 2).astype(np.int64):
        placement = index.place(np.array([row]))
        hits, conflicts = reference.place([int(row)])
        assert placement.hits.tolist() == hits
        assert (placement.slots[0] == NONE) == bool(conflicts)


@given(st.lists(st.lists(st.integers(0, 99), unique=True, max_size=60), max_size=8), st.sampled_from(POLICIES))
@settings(deadline=None, max_examples=50)
def test_promises_to_every_stream(batches, policy):
    index = CacheIndex(2, 100, policy)
    held, before = {}, set()  # slot -> row; the rows of the batch in flight that are cached
    for rows in batches:
        placement = index.place(np.array(rows, dtype=np.int64))
        kept = placement.slots != NONE
        # A hit lies where it lay; nobody shares a slot; no row of this batch or the one in flight was evicted.
        for row, slot, hit in zip(rows, placement.slots.tolist(), placement.hits, strict=True):
            assert hit == (row in held.values()) and (not hit or held[slot] == row)
        assert len(set(placement.slots[kept])) == kept.sum()
        held |= {int(slot): row for row, slot in zip(rows, placement.slots, strict=True) if slot != NONE}
        current = {row for row, slot in zip(rows, placement.slots, strict=True) if slot != NONE}
        assert current | before <= set(held.values()) and len(set(held.values())) == len(held)
        before = current


def test_only_written_rows_are_evicted_as_such():
    index = CacheIndex(1, 1000, "lru")
    first = index.place(np.arange(WAYS))
    index.mark_written(first.slots[:2])
    for batch in ([500], [501]):  # the first batch is in flight until the second of these
        placement = index.place(np.array(batch))
    assert placement.evicted.tolist() in ([0], [1], [NONE])
    placements = [index.place(np.array([600 + step])) for step in range(WAYS)]
    evicted = {int(placement.evicted[0]) for placement in [placement, *placements]}
    assert evicted == {0, 1, NONE}
    assert [part.tolist() for part in index.take_written()] == [[], []]


def test_rows_of_the_batch_in_flight_make_conflicts():
    index = CacheIndex(1, 100, "lru")
    index.place(np.arange(WAYS))
    assert (index.place(np.arange(50, 60)).slots == NONE).all()
    third = index.place(np.arange(60, 70))  # nothing of the second lies in the cache, and the first is done
    assert not third.hits.any() and (third.slots != NONE).all()


def test_lfu_refuses_rows_that_are_used_less_often():
    index = CacheIndex(1, 100, "lfu")
    for _ in range(3):
        index.place(np.arange(WAYS))
    for _ in range(3):
        placement = index.place(np.array([99]))
    assert placement.slots[0] != NONE  # used as often as the others by now


@given(st.lists(st.integers(0, 2**40), max_size=200))
@settings(deadline=None)
def test_unique_rows(rows):
    rows = np.array(rows, dtype=np.int64)
    distinct, position = unique_rows(rows)
    assert (distinct[position] == rows).all() and sorted(distinct) == sorted(set(rows.tolist()))
    assert list(distinct) == list(dict.fromkeys(rows.tolist()))
