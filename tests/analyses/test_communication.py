"""Collectives by hand: transfer and wait, bandwidths and ceilings, exposure, clocks; and public traces."""

import math

import pytest
from hand_made import event, kernel, run_of, span

from workbench.analyses.communication import communication
from workbench.machine.ceilings import Ceilings
from workbench.metrics import define
from workbench.trace.loader import load

MB = 1_000_000


def nccl(rank, start, end, collective="all_reduce", **columns):
    place = {"rank": rank, "lane": "stream 9", "device": f"cuda:{rank}"}
    return kernel("nccl", "communication", start, end, collective=collective, group_size=2, **(place | columns))


# Two ranks: rank 1 is 40 us late at the all-reduce and rank 0 is 10 us late at the all-to-all.
TWO_RANKS = (
    nccl(0, 0, 60_000, message_bytes=MB),
    nccl(0, 110_000, 150_000, "all_to_all", message_bytes=2 * MB),
    kernel("gemm", "compute", 50_000, 120_000),
    nccl(1, 40_000, 60_000, message_bytes=MB),
    nccl(1, 100_000, 150_000, "all_to_all", message_bytes=2 * MB),
)


def by_rank_and_type(run):
    return communication(run).table.set_index(["rank", "collective"])


def test_wait_and_transfer_by_hand():
    table = by_rank_and_type(run_of(*TWO_RANKS))
    assert table["duration_ns"].to_dict() == {
        (0, "all_reduce"): 60_000, (0, "all_to_all"): 40_000, (1, "all_reduce"): 20_000, (1, "all_to_all"): 50_000,
    }  # fmt: skip
    assert table["wait_ns"].tolist() == [40_000, 0, 0, 10_000]
    assert table["transfer_ns"].tolist() == [20_000, 40_000, 20_000, 40_000]
    assert table["times_last"].tolist() == [0, 1, 1, 0]


def test_bandwidths_by_hand():
    table = by_rank_and_type(run_of(*TWO_RANKS))
    assert table["algbw_bytes_per_s"].tolist() == pytest.approx([MB / 20e-6, 2 * MB / 40e-6] * 2)
    # Among two ranks: all-reduce 2 (n - 1) / n = 1, all-to-all (n - 1) / n = 1/2.
    assert table["busbw_bytes_per_s"].tolist() == pytest.approx([50e9, 25e9] * 2)
    assert table["bytes"].tolist() == [MB, 2 * MB] * 2
    assert table["size_meaning"].str.len().min() > 0


def test_exposed_and_overlapped_make_up_the_duration():
    table = by_rank_and_type(run_of(*TWO_RANKS))
    assert table["overlapped_ns"].tolist() == [10_000, 10_000, 0, 0]
    assert (table["exposed_ns"] + table["overlapped_ns"]).tolist() == table["duration_ns"].tolist()


def test_summary_by_hand():
    summary = communication(run_of(*TWO_RANKS)).summary
    assert (summary["collectives"], summary["calls"], summary["bytes"]) == (2, 4, 6 * MB)
    assert summary["shared_pct"] == pytest.approx(100 * (2 * 20 + 2 * 40) / (60 + 40 + 20 + 50))
    assert summary["last_arrivals"] == {0: 1, 1: 1}
    assert summary["clock_residual_ns"] == 0


def test_rows_by_rank_and_by_call():
    run = run_of(*TWO_RANKS)
    ranks = communication(run, by="rank").table
    assert ranks["duration_ns"].tolist() == [100_000, 70_000]
    assert ranks["busbw_bytes_per_s"].tolist() == pytest.approx([2 * MB / 60e-6] * 2)
    calls = communication(run, by="call").table
    assert len(calls) == 4 and calls["calls"].tolist() == [1] * 4
    assert calls.groupby("match")["rank"].agg(list).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("by", ["collective", "rank", "call"])
def test_every_key_is_defined(by):
    result = communication(run_of(*TWO_RANKS), by=by)
    assert [key for key in [*result.table, *result.summary] if define("communication", key) is None] == []


def test_efficiency_is_against_the_ceiling_at_that_size():
    sizes = [{"message_bytes": MB, "median": 10_000.0}, {"message_bytes": 4 * MB, "median": 40_000.0}]
    row = {"kind": "collective", "collective": "all_to_all", "group_size": 2, "unit": "ns", "source": "measured"}
    rows = [row | size | {"min": size["median"], "max": size["median"], "value": size["median"]} for size in sizes]
    table = by_rank_and_type(run_of(*TWO_RANKS, ceilings=Ceilings.from_rows(rows, {})))
    # 2 MB would take 20 us here, and took 40 us.
    assert table.loc[(0, "all_to_all"), "efficiency_share"] == pytest.approx(0.5)
    assert table.loc[(0, "all_to_all"), "ceiling_bytes_per_s"] == pytest.approx(50e9)
    assert table.loc[(0, "all_to_all"), "ceiling_source"] == "measured"
    assert math.isnan(table.loc[(0, "all_reduce"), "efficiency_share"])


def test_a_promised_link_rate_stands_in_on_a_device():
    link = {
        "kind": "bandwidth",
        "tier": "nvlink",
        "device": "cuda:0",
        "value": 100e9,
        "unit": "B/s",
        "source": "promised",
    }
    result = communication(run_of(*TWO_RANKS, ceilings=Ceilings.from_rows([link], {})))
    table = result.table.set_index(["rank", "collective"])
    assert table["efficiency_share"].tolist() == pytest.approx([0.5, 0.25] * 2)
    assert set(table["ceiling_source"]) == {"promised"} and any("one way" in note for note in result.notes)


def test_one_rank_of_several_cannot_be_split():
    result = communication(run_of(*TWO_RANKS[:2]))
    assert result.table["wait_ns"].isna().all() and result.table["transfer_ns"].isna().all()
    assert result.table["algbw_bytes_per_s"].tolist() == pytest.approx([MB / 60e-6, 2 * MB / 40e-6])
    assert math.isnan(result.summary["shared_pct"]) and result.summary["last_arrivals"] == {}
    assert "2 of 2 calls lack ranks" in result.notes[0] and "lower bound" in result.notes[0]


def test_unknown_sizes_are_left_out_and_counted():
    run = run_of(
        nccl(0, 0, 10_000), nccl(1, 0, 10_000), nccl(0, 20_000, 30_000, message_bytes=MB), nccl(1, 20_000, 30_000)
    )
    result = communication(run)
    # The size that rank 0 knows is that of the collective; nobody knows the other's.
    assert result.table["bytes"].tolist() == [MB, MB]
    assert result.table["algbw_bytes_per_s"].tolist() == pytest.approx([100e9, 100e9])
    assert any("2 of 4 calls is unknown" in note for note in result.notes)
    unsized = communication(run_of(nccl(0, 0, 10_000), nccl(1, 0, 10_000))).table
    assert unsized["bytes"].isna().all() and unsized["busbw_bytes_per_s"].isna().all()


def gloo(rank, start, end, step=0):
    return event("gloo:all_reduce", "communication", start, end, step=step, rank=rank, lane="thread 2",
                 collective="all_reduce", group_size=2, message_bytes=MB)  # fmt: skip


def test_gloo_counts_the_transfer_and_not_the_call():
    calls = [
        event("c10d::allreduce_", "communication", 0, 100, rank=rank, step=0, collective="all_reduce", message_bytes=MB)
        for rank in (0, 1)
    ]
    run = run_of(*calls, gloo(0, 50, 900), gloo(1, 60, 900), event("aten::mm", "compute", 100, 300, step=0))
    table = communication(run).table
    assert table["calls"].tolist() == [1, 1] and table["duration_ns"].tolist() == [850, 840]
    assert table["overlapped_ns"].tolist() == [200, 0]


def test_calls_without_transfers_say_nothing_about_time():
    run = run_of(event("nccl:all_reduce", "communication", 0, 100, collective="all_reduce", message_bytes=MB))
    result = communication(run)
    assert not result.applies and "transfers" in result.notes[0]


def test_rpcs_are_no_collectives():
    result = communication(run_of(span("rpc_operator", "communication", 0, 100)))
    assert "RPCs, no collectives" in result.reason


def test_spans_stand_in_where_no_profiler_watched():
    exchange = [
        span("exchange", "wait", 0, 100 + rank, rank=rank, collective="all_to_all", message_bytes=MB) for rank in (0, 1)
    ]
    result = communication(run_of(*exchange))
    assert result.table["transfer_ns"].tolist() == [100, 100] and "spans" in result.notes[0]


def test_a_run_without_collectives():
    assert not communication(run_of(event("aten::mm", "compute", 0, 10))).applies


def test_warm_up_is_left_out():
    warm = span("step", "span", 0, 9, step=0, tags="warmup")
    run = run_of(warm, gloo(0, 0, 9), gloo(0, 20, 30, step=1), gloo(1, 20, 30, step=1))
    assert communication(run).summary["calls"] == 2


def test_matching_goes_by_step_where_counts_agree_else_by_order():
    even = [gloo(rank, 100 * step + rank, 100 * step + 50, step) for rank in (0, 1) for step in (0, 1, 2)]
    assert "within a step" in communication(run_of(*even)).notes[0]
    # Rank 0's transfer of step 1 was noticed in step 2.
    moved = [{**row, "step": 2} if row["rank"] == 0 and row["step"] == 1 else row for row in even]
    result = communication(run_of(*moved))
    assert "by order and type;" in result.notes[0] + ";" and "step" not in result.notes[0]
    assert result.summary["wait_ns"] == 3


def collectives_with_clock(ahead_ns, hosts=(None, None)):
    """Ten all-reduces of 1 ms that end together but for up to 3 us; rank 1's clock is ahead, rank 0 is last."""
    rows = []
    for number in range(10):
        end, jitter = 10_000_000 * (number + 1), 1_000 * (number % 4)
        rows += [
            nccl(0, end - 500_000, end, message_bytes=MB),
            nccl(1, end - 1_000_000 + ahead_ns, end + jitter + ahead_ns, message_bytes=MB),
        ]
    return run_of(*rows, parts=[{"host": host} for host in hosts])


@pytest.mark.parametrize("ahead_ns", [0, 5_000_000, -5_000_000])
def test_clocks_are_aligned_on_the_ends(ahead_ns):
    result = communication(collectives_with_clock(ahead_ns))
    assert result.summary["last_arrivals"] == {0: 10}
    assert result.summary["wait_ns"] == pytest.approx(10 * 500_000, abs=10 * 3_000)
    assert result.summary["clock_residual_ns"] < 4_000
    assert any("clocks were aligned" in note for note in result.notes) == (ahead_ns != 0)


def test_one_host_has_one_clock():
    result = communication(collectives_with_clock(5_000_000, hosts=("node", "node")))
    assert result.summary["last_arrivals"] == {1: 10}


def test_unknown_types_have_no_bus_factor():
    table = communication(
        run_of(nccl(0, 0, 10, "send_recv", message_bytes=8), nccl(1, 0, 10, "", message_bytes=8))
    ).table
    assert table["collective"].tolist() == ["send_recv", "unknown"]
    assert table["busbw_bytes_per_s"].isna().all() and table["algbw_bytes_per_s"].notna().all()


def test_public_dlrm(real_data):
    result = communication(load(real_data / "traces" / "dlrm_8x_v100"))
    summary = result.summary
    assert summary["last_arrivals"] == {7: 5, 5: 2, 4: 1}
    assert summary["shared_pct"] == pytest.approx(3.6, abs=0.2)
    assert summary["duration_ns"] == pytest.approx(48.5e6, abs=0.05e6)
    assert (summary["collectives"], summary["calls"]) == (8, 64)
    assert result.table.groupby("collective")["calls"].sum().to_dict() == {"all_reduce": 24, "all_to_all": 40}
    assert result.table["bytes"].notna().all() and result.table["efficiency_share"].between(0, 1).all()


def test_public_gloo_rank(real_data):
    result = communication(load(real_data / "traces" / "gloo_cpu_rank34of300.json.gz"))
    (row,) = result.table.to_dict("records")
    assert (row["rank"], row["collective"], row["calls"], row["group_size"]) == (34, "all_reduce", 10, 300)
    assert row["bytes"] == 4 * 5 * (321_271 + 2_082_411)
    assert math.isnan(row["wait_ns"])
