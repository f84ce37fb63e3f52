"""Statistics of repeats, their order, calibration; pinned threads; the plan's working sets."""

import os
import threading

import numpy as np
import pytest

from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import SAMPLE_NS, Found, interleaved, passes_for
from workbench.machine.measure.team import Team


def test_a_rate_is_its_90th_percentile_and_a_time_its_median():
    found = Found()
    found.rate(range(1, 22), "by hand", kind="bandwidth", unit="B/s")
    found.time([5, 1, 3], "by hand", kind="latency")
    rate, time = found.rows
    assert (rate["value"], rate["median"], rate["min"], rate["max"], rate["repeats"]) == (19, 11, 1, 21, 21)
    assert (time["value"], time["median"], time["min"], time["max"], time["unit"]) == (3, 3, 1, 5, "ns")
    assert rate["source"] == time["source"] == "measured"


def test_samples_are_interleaved_after_a_warm_up_round():
    calls = []
    trials = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleaved(trials, 2) == {"a": [3, 5], "b": [4, 6]}
    assert calls == list("ababab")


@pytest.mark.parametrize(("call_ns", "pass_ns"), [(5e4, 10.0), (0.0, 3.0), (100.0, 5e6)])
def test_calibration_fills_a_sample(call_ns, pass_ns):
    """Also where the call costs more than thousands of passes."""
    passes = passes_for(lambda passes: call_ns + passes * pass_ns)
    took_ns = call_ns + passes * pass_ns
    assert passes == 1 if pass_ns > SAMPLE_NS else 0.4 * SAMPLE_NS < took_ns < 1.5 * SAMPLE_NS


def test_calibration_forgives_an_interruption():
    hiccups = iter([1e9] + [0.0] * 99)
    assert passes_for(lambda passes: 100.0 * passes + next(hiccups)) == pytest.approx(SAMPLE_NS / 100, rel=0.01)


def test_members_of_a_team_run_at_once_each_on_its_core():
    cores = sorted(os.sched_getaffinity(0))[:2]
    seen, together = {}, threading.Barrier(len(cores), timeout=5)
    with Team(cores) as team:

        def work(member: int) -> None:
            together.wait()  # passes only when all members are running
            seen[member] = os.sched_getaffinity(0)

        assert team.run(work, len(cores)) > 0
        assert team.on_each(lambda member: member) == list(range(len(cores)))
    assert seen == {member: {core} for member, core in enumerate(cores)}


def plan(caches: list[tuple[int, int]], cores: int = 2, quick: bool = True, memory_bytes: int = 2**33) -> Plan:
    levels = tuple({"level": n, "bytes": size, "shared_by_cores": by} for n, (size, by) in enumerate(caches, 1))
    return Plan(tuple(range(cores)), levels, memory_bytes, None, quick)


def test_working_sets_lie_inside_their_levels():
    made = plan([(32 << 10, 1), (1 << 20, 1), (32 << 20, 2)])
    assert made.working_sets() == {"l1": 16 << 10, "l2": 128 << 10, "l3": 4 << 20, "dram": 128 << 20}
    assert made.levels()[-1] == {"tier": "dram", "capacity_bytes": None}
    assert [level["tier"] for level in made.levels()] == ["l1", "l2", "l3", "dram"]


def test_a_shared_level_counts_by_its_part():
    """16 cores share 32 MiB: a core's part is 2 MiB, and its set is above the second level, not in it."""
    assert plan([(32 << 10, 1), (1 << 20, 1), (32 << 20, 16)], cores=16).working_sets()["l3"] == 2 << 20


def test_little_memory_bounds_every_set():
    made = plan([(32 << 10, 1), (32 << 20, 2)], memory_bytes=100 << 20)
    assert made.working_sets()["dram"] == 64 << 20
    assert max(made.sweep()) <= 100 << 20
    assert made.footprints() == []


def test_a_system_that_reports_no_caches_has_memory_only():
    made = plan([])
    assert made.working_sets() == {"dram": 128 << 20}
    assert made.sweep()[0] == 16 << 10 and made.sweep()[-1] == 128 << 20


@pytest.mark.parametrize("quick", [True, False])
def test_the_sweep_grows_evenly_from_half_the_first_level_to_four_times_the_last(quick):
    sweep = plan([(32 << 10, 1), (1 << 20, 1), (32 << 20, 2)], quick=quick).sweep()
    assert sweep[0] == 16 << 10 and sweep[-1] == pytest.approx(128 << 20, rel=0.01)
    steps = np.diff(np.log2(sweep))
    assert steps == pytest.approx(np.full(len(steps), 1 if quick else 0.5), abs=0.01)


def test_footprints():
    caches = [(32 << 10, 1), (32 << 20, 2)]
    assert plan(caches).footprints() == [1 << 30]
    assert plan(caches, quick=False).footprints() == [2 << 30, 8 << 30]
    assert plan(caches, quick=False, memory_bytes=3 << 30).footprints() == [2 << 30]
