"""Set-associative caches against a plain-Python oracle, and against the stack property of LRU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.caches import POLICIES, simulate
from workbench.analyses.core.reuse import hash_units, reuse_distances, sampled_reuse

STREAMS = st.lists(st.integers(0, 30), max_size=120)


def oracle(units: list[int], capacity: int, policy: str, ways: int) -> list[bool]:
    """Dicts of unit -> (touches, time): slow and plain."""
    sets = max(1, capacity // ways)
    held: list[dict] = [{} for _ in range(sets)]
    touches: dict[int, int] = {}
    hits = []
    for now, unit in enumerate(units):
        place = held[int(hash_units(np.array([unit]))[0]) % sets]
        touches[unit] = touches.get(unit, 0) + 1
        hits.append(unit in place)
        if unit not in place and len(place) == min(ways, capacity):
            age = {other: (touches[other], time) if policy == "lfu" else (time,) for other, time in place.items()}
            del place[min(age, key=age.get)]
        if unit not in place or policy != "fifo":
            place[unit] = now
    return hits


@pytest.mark.parametrize("policy", POLICIES)
@settings(deadline=None)  # the first call compiles
@given(units=STREAMS, capacity=st.integers(1, 24), ways=st.sampled_from([1, 2, 4]))
def test_simulation_equals_the_oracle(policy, units, capacity, ways):
    found = simulate(np.array(units, dtype=np.int64), capacity, policy, ways)
    assert found.tolist() == oracle(units, capacity, policy, ways)


@settings(deadline=None)  # the first call compiles
@given(units=STREAMS, capacity=st.integers(1, 24))
def test_one_set_of_lru_has_the_stack_property(units, capacity):
    units = np.array(units, dtype=np.int64)
    distances = reuse_distances(units)
    stack_hits = (distances >= 0) & (distances < capacity)
    assert simulate(units, capacity, "lru", ways=capacity).tolist() == stack_hits.tolist()


def test_32_ways_come_close_to_full_associativity():
    rng = np.random.default_rng(0)
    rank = np.arange(1, 20_001)
    popularity = rank**-0.9
    units = rng.choice(rank, size=100_000, p=popularity / popularity.sum())
    counted = np.arange(len(units)) >= 50_000
    exact = sampled_reuse(units)
    for capacity in (512, 2048, 8192):  # three sizes
        simulated = 1 - simulate(units, capacity, "lru")[counted].mean()
        assert simulated == pytest.approx(exact.miss_share(capacity, counted), abs=0.01)


def test_policies_on_a_hand_worked_stream():
    units = np.array([1, 1, 2, 3, 1])  # two slots, one set: who goes for 3?
    assert simulate(units, 2, "lru", ways=2).tolist() == [False, True, False, False, False]  # 1 was touched before 2
    assert simulate(units, 2, "fifo", ways=2).tolist() == [False, True, False, False, False]  # 1 came first
    assert simulate(units, 2, "lfu", ways=2).tolist() == [False, True, False, False, True]  # 2 was touched least
