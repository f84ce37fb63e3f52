"""The replayed row cache against a plain oracle, against LRU stacks, and its step-time model worked by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.batch_cache import POLICIES, replay_batches
from workbench.analyses.core.caches import simulate
from workbench.analyses.core.reuse import hash_units
from workbench.analyses.core.run_cache import StepModel, contended


def oracle(batches: list[list[int]], sets: int, ways: int, policy: str):
    """(hit, conflict, eviction) of every unit: dicts of unit -> last batch, one a set."""
    held: list[dict] = [{} for _ in range(sets)]
    uses: dict[int, int] = {}
    found = []
    for now, units in enumerate(batches):
        places = [held[int(hash_units(np.array([unit]))[0]) % sets] for unit in units]
        hits = [unit in place for unit, place in zip(units, places, strict=True)]
        for unit, place, hit in zip(units, places, hits, strict=True):
            uses[unit] = uses.get(unit, 0) + 1
            if hit:
                place[unit] = now
        for unit, place, hit in zip(units, places, hits, strict=True):
            full = len(place) == ways
            idle = [(uses[other] if policy == "lfu" else 0, last) for other, last in place.items() if last < now - 1]
            conflict = not hit and full and (not idle or min(idle)[0] > (uses[unit] if policy == "lfu" else 0))
            found.append((hit, conflict, not hit and not conflict and full))
            if found[-1][2]:
                goes = next(o for o, last in place.items()
                            if last < now - 1 and (uses[o] if policy == "lfu" else 0, last) == min(idle))  # fmt: skip
                del place[goes]
            if not hit and not conflict:
                place[unit] = now
    return found


@pytest.mark.parametrize("policy", POLICIES)
@settings(deadline=None, max_examples=60)  # the first call compiles
@given(batches=st.lists(st.integers(0, 30), max_size=80))
def test_replay_equals_the_oracle_where_no_units_tie(policy, batches):
    # One unit a batch: which of equals goes is free, and nothing here depends on it.
    played = replay_batches(np.array(batches, dtype=np.int64), np.arange(len(batches)), 8, 4, policy)
    expected = oracle([[unit] for unit in batches], 2, 4, policy)
    found = list(zip(played.hits, played.conflicts, played.evictions, strict=True))
    assert found == expected


def test_large_batches_lock_their_rows_and_those_of_the_batch_before():
    units = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 4, 5, 6])
    batch = np.repeat([0, 1, 2], 4)
    played = replay_batches(units, batch, 4, 4, "lru")
    # 0-3 fill the set; 4-7 find it locked by the batch before; then 1, 2 and 3 may go for 4, 5 and 6.
    assert played.hits.tolist() == [False] * 8 + [True, False, False, False]
    assert played.conflicts.tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert played.evictions.tolist() == [False] * 9 + [True] * 3


def test_without_conflicts_batches_change_little():
    random = np.random.default_rng(0)
    popularity = np.arange(1, 5001) ** -0.9
    batches = [np.unique(random.choice(5000, 200, p=popularity / popularity.sum())) for _ in range(100)]
    units, batch = np.concatenate(batches), np.repeat(np.arange(100), [len(one) for one in batches])
    played = replay_batches(units, batch, 2048, 32, "lru")
    assert not played.conflicts.any()
    assert played.hits.mean() == pytest.approx(simulate(units, 2048, "lru").mean(), abs=0.01)


def steps(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns, index=range(len(next(iter(columns.values())))))


MEASURED = {
    "unique_rows": [100] * 2, "misses": [20] * 2, "conflicts": [4] * 2, "fetch_ns": [5000] * 2, "move_ns": [4000] * 2,
    "fetch_cpu_ns": [2000] * 2, "wait_ns": [500] * 2, "settle_ns": [400] * 2, "step_ns": [10_900] * 2,
    "read_bytes": [200] * 2, "write_bytes": [200] * 2, "profiled": [False] * 2,
}  # fmt: skip
# 40 rows move a step: 10 B and 100 ns each, of which 25 ns of CPU; seeking takes 10 ns a row, settling 100 ns.
REPLAYED = steps(unique_rows=[100] * 2, misses=[20] * 2, conflicts=[4] * 2, written_rows=[20] * 2)


@pytest.mark.parametrize(("busy", "own_ns"), [(False, 10_000), (True, 8_000)])
def test_step_model_by_hand(busy, own_ns):
    model = StepModel.of(steps(**MEASURED), REPLAYED, contended=busy)
    assert (model.own_ns, model.seek_ns, model.move_ns, model.move_cpu_ns) == (own_ns, 10, 100, 25)
    assert (model.settle_ns, model.moved_row_bytes) == (100, 10)
    assert model.fetch_ns(REPLAYED, None) == 5000 and model.step_ns(REPLAYED, None) == 10_400
    # Ten times as many rows: fetching takes longer than the step, unless the memory behind is 100 times as fast.
    many = steps(unique_rows=[100], misses=[200], conflicts=[0], written_rows=[200])
    assert model.step_ns(many, None) == 1000 + 40_000
    assert model.step_ns(many, 1e10) == (10_000 if not busy else 8_000 + 1000 + 400 * 25)


def test_what_a_fetch_does_after_the_step_delays_nothing():
    """The step is busy for 4,000 ns of a fetch of 5,000 ns: four fifths of the fetch's CPU time fall into it."""
    waiting = steps(**MEASURED | {"wait_ns": [1000] * 2, "step_ns": [5_400] * 2})
    assert StepModel.of(waiting, REPLAYED, contended=True).own_ns == 4000 - 0.8 * 2000
    assert StepModel.of(waiting, REPLAYED, contended=False).own_ns == 4000


def test_contention_counts_the_fetching_threads_of_a_host():
    processes = {f"trainer-{rank}": {"host": "a"} for rank in range(2)}
    manifest = {"processes": processes, "threads_per_rank": 1, "host": {"usable_cpus": [0, 1]}}
    assert contended(manifest)
    assert not contended(manifest | {"host": {"usable_cpus": [0, 1, 2, 3]}})
