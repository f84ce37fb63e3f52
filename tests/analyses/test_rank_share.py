"""What one rank has of a machine."""

import dataclasses
import math

from hand_made import event, kernel, run_of
from hand_made_ceilings import ceilings

from workbench.analyses.core.operator_limits import limits
from workbench.analyses.core.rank_share import RankShare
from workbench.costs import Cost

LEVELS = {
    "cpu": [
        {"tier": "l1", "capacity_bytes": 1000},
        {"tier": "l2", "capacity_bytes": 10_000},
        {"tier": "l3", "capacity_bytes": 15_000},
        {"tier": "dram", "capacity_bytes": None},
    ]
}
ROWS = [{"kind": "bandwidth", "tier": "dram", "name": "triad", "unit": "B/s", "value": 1e9}]


def share_of(ranks: int, threads: int) -> RankShare:
    processes = {f"rank-{rank}": {"rank": rank, "host": "a"} for rank in range(ranks)}
    manifest = {"threads_per_rank": threads, "processes": processes | {"driver": {"rank": -1, "host": "a"}}}
    return RankShare.of(run_of(event("mine::op", "compute", 0, 1), manifest=manifest, ceilings=ceilings(ROWS, LEVELS)))


def test_private_levels_count_by_thread_and_shared_ones_by_rank():
    assert share_of(1, 1).tiers() == [("l1", 1000), ("l2", 10_000), ("l3", 15_000), ("dram", math.inf)]
    # Two ranks leave less of l3 than a rank's two l2 hold: in an inclusive hierarchy a tier never shrinks outwards.
    assert share_of(2, 2).tiers() == [("l1", 2000), ("l2", 20_000), ("l3", 20_000), ("dram", math.inf)]
    assert share_of(2, 1).active == 2


def test_the_next_tier_outwards_stands_in_for_an_unknown_bandwidth():
    share = share_of(1, 1)
    assert share.tier_of(1000) == "l1" and share.tier_of(1001) == "l2" and share.tier_of(1e9) == "dram"
    tier, found = share.stream("l1")
    assert tier == "dram" and found.value == 1e9
    assert share.gather("l2", 64, 5000) == found
    assert share.peak("fp32") is None


def test_integer_work_needs_no_peak_but_floating_work_does():
    share = share_of(1, 1)
    sort = limits(Cost(1000.0, 400, 100, "int64", "sort"), share)
    assert (sort.flops, sort.bound_ns) == (0, 500)
    assert math.isnan(limits(Cost(1000.0, 400, 100, "fp32", "sum"), share).bound_ns)


def test_devices_of_one_kind_share_their_ceilings_and_unknown_ones_have_none():
    launched = kernel("gemm", "compute", 0, 1, device="cuda:3")
    known = ceilings(ROWS, {"cuda:0": [{"tier": "l2", "capacity_bytes": 5}, {"tier": "hbm", "capacity_bytes": None}]})
    assert RankShare.of(run_of(launched, ceilings=known)).tiers() == [("l2", 5), ("hbm", math.inf)]
    unknown = RankShare.of(run_of(launched, ceilings=ceilings(ROWS, LEVELS)))
    assert (
        unknown.ceilings is None and unknown.tiers() == [("hbm", math.inf)] and unknown.stream("hbm") == ("hbm", None)
    )


def test_what_if_stands_for_the_last_level_and_memory_only():
    share = dataclasses.replace(share_of(2, 1), last_level_bytes=60_000, memory_bytes_per_s=5e9)
    assert share.tiers()[2] == ("l3", 30_000)
    assert share.stream("dram")[1].value == share.gather("dram", 64, 1e6).value == 5e9
