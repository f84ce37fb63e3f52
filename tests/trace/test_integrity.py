"""Findings about a run as a whole, each from a run made to have it; and none where nothing is wrong."""

import numpy as np
import pandas as pd
import pytest

from workbench.trace.integrity import findings
from workbench.trace.loader import load
from workbench.trace.part import Part, merge
from workbench.trace.run import Run
from workbench.trace.schema import events_frame

EPOCH_NS = 10**18


def rank_part(rank, ends_ns, ahead_ns=0, **info):
    """A rank whose all-reduces of 100 us end at `ends_ns`, by a clock that is `ahead_ns`."""
    ends = EPOCH_NS + np.array(ends_ns, dtype=np.int64) + ahead_ns
    count = len(ends)
    events = events_frame({
        "start_ns": ends - 100_000, "duration_ns": np.full(count, 100_000), "name": ["nccl"] * count,
        "process": [f"rank-{rank}"] * count, "rank": np.full(count, rank), "device": [f"cuda:{rank}"] * count,
        "kind": ["communication"] * count, "collective": ["all_reduce"] * count, "group_size": np.full(count, 2),
    })  # fmt: skip
    return Part(events=events, info={"rank": rank, "world_size": 2, "clock": "unix"} | info)


def found(*parts, **fields):
    return findings(Run("run", events=merge(list(parts)).events, parts=[part.info for part in parts], **fields))


ENDS = [1_000_000 * number for number in range(1, 9)]


def test_a_run_without_a_flaw_has_no_findings(golden_run):
    assert found(rank_part(0, ENDS), rank_part(1, ENDS)) == []
    assert findings(golden_run) == []


def test_missing_ranks():
    assert found(rank_part(0, ENDS), rank_part(3, ENDS, world_size=12)) == [
        "10 of 12 ranks are not here (1, 2, 4, 5, 6, 7, 8, 9, ...): waits on them cannot be told from transfers"
    ]
    entered = {"processes": {"trainer-0": {"rank": 0}, "trainer-2": {"rank": 2}}}
    assert found(rank_part(0, ENDS), rank_part(1, ENDS), manifest=entered)[0].startswith(
        "1 of 3 ranks are not here (2)"
    )


@pytest.mark.parametrize("ahead_ns", [40_000_000, -40_000_000])
def test_clocks_that_differ_more_than_the_ends(ahead_ns):
    jittered = [end + 1000 * (end % 3) for end in ENDS]
    (note,) = [n for n in found(rank_part(0, ENDS), rank_part(1, jittered, ahead_ns)) if "clocks" in n]
    assert "differ by up to 40.0 ms, by the ends of 8 collectives" in note and "still differ by" in note


def test_clocks_that_cannot_be_told_apart_are_not_complained_of():
    assert found(rank_part(0, ENDS[:2]), rank_part(1, ENDS[:2], 500_000)) == []  # too few collectives
    one_host = [rank_part(rank, ENDS, 500_000 * rank, host="node") for rank in (0, 1)]
    assert found(*one_host) == []
    # One rank saw a collective more: which is which is not known.
    assert found(rank_part(0, ENDS), rank_part(1, ENDS[:-1], 500_000)) == []


def test_ranks_that_were_not_recorded_together():
    later = [end + 60 * 10**9 for end in ENDS]
    notes = found(rank_part(0, ENDS, host="a"), rank_part(1, later, host="a"))
    assert notes == ["rank-0 ends 60.0 s before rank-1 begins: not recorded together"]


def test_times_that_count_from_different_beginnings():
    notes = found(rank_part(0, ENDS), rank_part(1, ENDS, clock="relative"))
    assert notes == ["the times of ranks 1 do not count from 1970 as the others' do: they cannot be set beside those"]
    both = [rank_part(rank, ENDS, clock="relative") for rank in (0, 1)]
    assert found(*both) == ["the ranks' times do not count from 1970: each may begin at a time of its own"]
    assert found(rank_part(0, ENDS, clock="relative", world_size=1)) == []


def test_public_traces(real_data):
    assert findings(load(real_data / "traces" / "dlrm_8x_v100")) == []
    run = load(real_data / "traces" / "torchrec_v100_rank1of2.json.gz")
    assert run.notes[0].startswith("1 of 2 ranks are not here (0)")
    assert pd.Series(run.notes).str.contains("rank1of2").any()
