"""Collectives of several process groups: who belongs together, uneven splits, who sends to whom, over which link."""

import math

import pytest
from hand_made import event, kernel, run_of, span

from workbench.analyses.communication import communication
from workbench.analyses.core.collectives import collectives
from workbench.analyses.core.peers import farthest_link
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.schema import splits_frame

MB = 1_000_000


def nccl(rank, start, end, group="0", collective="all_reduce", **columns):
    place = {"rank": rank, "lane": "stream 9", "device": f"cuda:{rank}", "group_size": 2}
    return kernel("nccl", "communication", start, end, collective=collective, process_group=group, **place | columns)


def part(rank, groups, host=None, world_size=4):
    listed = [{"name": name, "size": len(ranks), "ranks": ranks} for name, ranks in groups.items()]
    return {"rank": rank, "world_size": world_size, "host": host, "process_groups": listed}


def test_sequence_numbers_match_what_order_would_not():
    # The profiler of rank 1 missed the first collective.
    rows = [nccl(0, 0, 10, sequence=4), nccl(0, 20, 30, sequence=5), nccl(0, 40, 50, sequence=6),
            nccl(1, 25, 30, sequence=5), nccl(1, 44, 50, sequence=6)]  # fmt: skip
    found = collectives(run_of(*rows))
    assert found.matched_by == "process group and sequence number"
    assert found.calls.groupby("match")["sequence"].agg(set).tolist() == [{4}, {5}, {6}]
    assert found.calls["wait_ns"].tolist()[1:] == [5, 4, 0, 0] and math.isnan(found.calls["wait_ns"][0])
    assert communication(run_of(*rows)).notes[1].endswith("matched over ranks by process group and sequence number")


def test_one_call_without_a_number_and_order_decides():
    rows = [nccl(rank, 10 * n, 10 * n + 5, sequence=n if rank else -1) for rank in (0, 1) for n in (0, 1)]
    assert collectives(run_of(*rows)).matched_by == "process group, order and type within a step"


def test_collectives_started_as_one_share_a_number():
    started = ((0, "all_reduce"), (3, "all_reduce"), (5, "all_gather"))
    rows = [nccl(rank, start + rank, 30, "0", kind, sequence=1) for rank in (0, 1) for start, kind in started]
    calls = collectives(run_of(*rows)).calls
    assert calls["complete"].all() and calls.groupby("match")["collective"].nunique().tolist() == [1, 1, 1]


def test_groups_of_one_size_are_told_apart_by_name():
    rows = [nccl(rank, start, 50, group) for rank in (0, 1) for start, group in ((rank, "tp"), (10 * rank + 20, "dp"))]
    table = communication(run_of(*rows), by="process_group").table
    assert table["process_group"].tolist() == ["dp", "tp", "dp", "tp"] and table["calls"].tolist() == [1] * 4
    assert table["wait_ns"].tolist() == [10, 1, 0, 0]


def test_groups_of_one_name_are_told_apart_by_their_ranks():
    """As when every rank splits the world and names the part that it is in."""
    halves = {0: [0, 1], 1: [0, 1], 2: [2, 3], 3: [2, 3]}
    rows = [nccl(rank, 100 * rank, 1000, "1", sequence=1) for rank in halves]
    result = communication(run_of(*rows, parts=[part(rank, {"1": ranks}) for rank, ranks in halves.items()]))
    assert result.table["wait_ns"].tolist() == [100, 0, 100, 0]
    assert result.summary["last_arrivals"] == {1: 1, 3: 1} and result.summary["collectives"] == 2


def all_to_all(rank, start, end, sent, received, size_bytes):
    """(event, its splits)."""
    return nccl(rank, start, end, "0", "all_to_all", message_bytes=size_bytes), (sent, received)


def uneven_run(**fields):
    """Two uneven exchanges among ranks 0 and 1: rank 0 sends MB to rank 1 and 3 MB to itself; then an even one."""
    rows = [
        all_to_all(0, 0, 20_000, [3 * MB, MB], [3 * MB, 2 * MB], 2 * MB),
        all_to_all(0, 30_000, 40_000, [MB, MB], [MB, MB], 2 * MB),
        # Rank 1's own splits are even; the exchange is not.
        all_to_all(1, 10_000, 20_000, [2 * MB, 2 * MB], [MB, MB], 4 * MB),
        all_to_all(1, 30_000, 40_000, [MB, MB], [MB, MB], 2 * MB),
    ]
    events, splits = zip(*rows, strict=True)
    return run_of(*events, splits=splits_frame(range(4), *zip(*splits, strict=True)), **fields)


def test_an_uneven_all_to_all_counts_what_leaves_or_enters_the_busiest_rank():
    table = communication(uneven_run(), by="call").table.set_index(["rank", "match"])
    assert table["bytes"].tolist() == [2 * MB, 2 * MB] * 2
    # 2 MB over the wire in 10 us, own part already out; then 2 MB of buffer of which half is the own part.
    assert table["busbw_bytes_per_s"].tolist() == pytest.approx([200e9, 100e9] * 2)
    assert table["split_imbalance"].tolist() == pytest.approx([1.5, 1, 1, 1])
    by_type = communication(uneven_run()).table
    assert by_type["split_imbalance"].tolist() == pytest.approx([(3 + 1) / (2 + 1), 1])


def test_who_sends_how_much_to_whom():
    hosts = [part(0, {}, "a", 2), part(1, {}, "b", 2)]
    table = communication(uneven_run(parts=hosts), by="matrix").table
    assert table[["from_rank", "to_rank", "link", "calls", "bytes"]].values.tolist() == [
        [0, 0, "same process", 2, 4 * MB],
        [0, 1, "other host", 2, 2 * MB],
        [1, 0, "other host", 2, 3 * MB],
        [1, 1, "same process", 2, 3 * MB],
    ]


def test_no_matrix_without_splits():
    result = communication(run_of(nccl(0, 0, 9, collective="all_to_all"), nccl(1, 0, 9)), by="matrix")
    assert not result.applies and "splits" in result.notes[0]


def test_unknown_splits_are_counted():
    run = run_of(nccl(0, 0, 9, collective="all_to_all", message_bytes=8), nccl(1, 0, 9, collective="all_to_all"))
    assert "the splits of 2 of 2 all-to-alls are unknown: they are taken as even" in communication(run).notes


@pytest.mark.parametrize(
    ("ranks", "link"),
    [((0,), "same process"), ((0, 1), "same host"), ((1, 2), "other host"), ((0, 3), "unknown"), ((), "unknown")],
)
def test_the_farthest_link_of_a_group(ranks, link):
    assert farthest_link(ranks, {0: "a", 1: "a", 2: "b"}) == link


def test_rows_by_link():
    groups = {"near": [0, 1], "far": [0, 2]}
    near = [nccl(0, 0, 5, "near", message_bytes=MB), nccl(1, 0, 5, "near")]
    far = [nccl(0, 10, 15, "far", message_bytes=2 * MB), nccl(2, 10, 15, "far")]
    hosts = {0: "a", 1: "a", 2: "b"}
    run = run_of(*near, *far, parts=[part(rank, groups, host) for rank, host in hosts.items()])
    table = communication(run, by="link").table.set_index(["rank", "link"])
    assert table["bytes"].to_dict() == {
        (0, "other host"): 2 * MB, (0, "same host"): MB, (1, "same host"): MB, (2, "other host"): 2 * MB,
    }  # fmt: skip


def test_ranks_of_a_group_are_shown_in_short():
    strided = {"ep": [0, 1, 2, 5, 7]}
    run = run_of(nccl(0, 0, 5, "ep", group_size=5), parts=[part(0, strided, world_size=8)])
    assert communication(run, by="process_group").table["group_ranks"].tolist() == ["0-2, 5, 7"]


def test_where_sizes_are_from():
    rows = [nccl(rank, 0, 9, message_bytes=MB, bytes_source="kernel arguments") for rank in (0, 1)]
    rows += [nccl(rank, 20, 29) for rank in (0, 1)]
    assert communication(run_of(*rows)).table["bytes_source"].tolist() == ["kernel arguments, unknown"] * 2
    spans = [span("exchange", "wait", 0, 9, rank=rank, collective="all_to_all", message_bytes=8) for rank in (0, 1)]
    assert communication(run_of(*spans)).table["bytes_source"].tolist() == ["recorder's span"] * 2


@pytest.mark.parametrize("by", ["process_group", "link", "matrix", "call"])
def test_every_column_of_these_rows_is_defined(by):
    columns = communication(uneven_run(parts=[part(0, {}, "a", 2)]), by=by).table
    assert [key for key in columns if define("communication", key) is None] == []


def test_a_host_call_that_never_transfers_has_no_groups():
    run = run_of(event("nccl:all_reduce", "communication", 0, 100, collective="all_reduce", process_group="0"))
    assert collectives(run) is None


def test_golden_run_knows_its_splits_and_its_host(golden_run):
    pairs = communication(golden_run, by="matrix").table.set_index(["from_rank", "to_rank"])
    assert pairs["link"].to_dict() == {
        (0, 0): "same process", (0, 1): "same host", (1, 0): "same host", (1, 1): "same process",
    }  # fmt: skip
    # Each rank's bytes in the matrix are those of its calls' splits.
    sent = golden_run.splits.merge(golden_run.events[["event_id", "rank", "name"]])
    sent = sent[sent["name"] == "gloo:all_to_all"]
    assert pairs.groupby("from_rank")["bytes"].sum().to_dict() == {
        rank: sum(parts.sum() for parts in rows["sent_bytes"]) for rank, rows in sent.groupby("rank")
    }


def test_public_trace_with_group_names(real_data):
    run = load(real_data / "traces" / "ddp_a100_rank0of2_nccl_args.json.gz")
    (row,) = communication(run, by="process_group").table.to_dict("records")
    assert (row["process_group"], row["group_ranks"], row["group_size"], row["calls"]) == ("0", "0-1", 2, 21)
