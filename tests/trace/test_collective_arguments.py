"""What a trace says of its collectives: process group, sequence number, splits, and which part of it told the size."""

import json
import math

import pytest

from workbench.trace.part import merge
from workbench.trace.readers import kineto

DEFAULT_GROUP = {"pg_name": "0", "pg_desc": "default_pg", "pg_size": 4, "ranks": [0, 1, 2, 3]}


def event(cat, name, ts, dur, pid=10, tid=10, **args):
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


def kernel(ts, **args):
    return event("kernel", "ncclDevKernel_SendRecv(x)", ts, 5, pid=0, tid=7, **args)


def arguments(in_split="[]", out_split="[]", group="0", sequence=None, ranks="[0, 1, 2, 3]", elements=(40, 40)):
    said = {
        "Collective name": "all_to_allv", "In msg nelems": elements[0], "Out msg nelems": elements[1], "Group size": 4,
        "dtype": "Float", "In split size": in_split, "Out split size": out_split, "Process Group Name": group,
        "Process Group Ranks": ranks,
    }  # fmt: skip
    return said if sequence is None else said | {"Seq": sequence}


def read(tmp_path, events, rank=1, groups=(DEFAULT_GROUP,), world_size=8):
    path = tmp_path / "trace.json"
    distributed = {"backend": "nccl", "rank": rank, "world_size": world_size, "pg_config": list(groups)}
    path.write_text(json.dumps({"distributedInfo": distributed, "traceEvents": events}))
    return kineto.read(path)


def test_group_and_sequence_from_a_kernels_arguments(tmp_path):
    events = [kernel(0, **arguments(group="tp", sequence=17)), kernel(10, **arguments(group="dp"))]
    events.append(event("cpu_op", "aten::mm", 0, 3, **{"Sequence number": 99}))
    table = read(tmp_path, events).events
    assert table["process_group"].tolist() == ["tp", "dp", ""]
    assert table["sequence"].tolist() == [17, -1, -1]
    assert table["bytes_source"].tolist() == ["kernel arguments"] * 2 + [""]


def test_a_kernel_without_arguments_has_those_of_its_launch(tmp_path):
    events = [
        event("cpu_op", "record_param_comms", 0, 9, **arguments("[10, 20, 5, 5]", "[10, 10, 10, 10]", "tp", 3)),
        event("cuda_runtime", "cudaLaunchKernel", 2, 2, correlation=8),
        kernel(20, correlation=8),
    ]
    part = read(tmp_path, events)
    row = part.events.iloc[2]
    assert (row["process_group"], row["sequence"], row["bytes_source"]) == ("tp", 3, "launch and record_param_comms")
    # Rank 1 keeps 20 of the 40 elements that it sends and 10 of the 40 that it receives, of 4 B each.
    assert row["message_bytes"] == 4 * 30
    assert part.splits["event_id"].tolist() == [0, 2]
    assert part.splits["sent_bytes"].iloc[1].tolist() == [40, 80, 20, 20]
    assert part.splits["received_bytes"].iloc[1].tolist() == [40, 40, 40, 40]


@pytest.mark.parametrize(
    ("in_split", "out_split", "sent", "size_bytes"),
    [
        ("[]", "[]", [40] * 4, 160),  # even: the whole buffer
        ("[10, 10, 10, 10]", "[]", [40] * 4, 160),
        ("[0, 0, 0, 40]", "[]", [0, 0, 0, 160], 160),  # nothing of what leaves stays here
        ("[0, 40, 0, 0]", "[]", [0, 160, 0, 0], 120),  # all that leaves stays: what arrives is more
        ([40, 0, 0, 0], [10, 10, 10, 10], [160, 0, 0, 0], 160),  # a list instead of its text
    ],
)
def test_splits_and_the_size_that_they_make(tmp_path, in_split, out_split, sent, size_bytes):
    part = read(tmp_path, [kernel(0, **arguments(in_split, out_split))])
    assert part.splits["sent_bytes"].iloc[0].tolist() == sent
    assert part.events["message_bytes"][0] == size_bytes


@pytest.mark.parametrize("in_split", ["[1, 2, 3, ...]", "[1, 2]", "[-1, 3, 1, 1]", "nonsense", None, 7, {"a": 1}])
def test_splits_that_cannot_be_read_are_unknown_and_taken_as_even(tmp_path, in_split):
    part = read(tmp_path, [kernel(0, **arguments(in_split))])
    assert len(part.splits) == 0 and part.events["message_bytes"][0] == 160


def test_the_size_of_uneven_splits_needs_the_own_place(tmp_path):
    elsewhere = DEFAULT_GROUP | {"ranks": [4, 5, 6, 7]}
    part = read(tmp_path, [kernel(0, **arguments("[1, 1, 1, 37]"))], groups=[elsewhere])
    assert math.isnan(part.events["message_bytes"][0]) and part.events["bytes_source"][0] == ""
    assert len(part.splits) == 1


def test_groups_that_only_collectives_name_are_listed_too(tmp_path):
    events = [kernel(10 * n, **arguments(group=g, ranks=r)) for n, (g, r) in
              enumerate([("ep", "[1, 3, 5, 7]"), ("ep", "[1, 3, 5, 7]"), ("long", "[0, 1, ...]")])]  # fmt: skip
    groups = read(tmp_path, events).info["process_groups"]
    assert [(group["name"], group["size"], group["ranks"]) for group in groups] == [
        ("0", 4, [0, 1, 2, 3]),
        ("ep", 4, [1, 3, 5, 7]),
    ]


@pytest.mark.parametrize(("groups", "name"), [([DEFAULT_GROUP], "0"), ([DEFAULT_GROUP, {"pg_name": "1"}], "")])
def test_an_annotation_is_of_the_only_group_there_is(tmp_path, groups, name):
    table = read(tmp_path, [event("user_annotation", "gloo:barrier", 0, 1)], groups=groups).events
    assert table["process_group"].tolist() == [name]


def gloo(sizes, splits, late=0):
    """All-to-alls of fp32: calls on one thread with their splits, transfers on two others in the order of the calls."""
    events = []
    for number, (size, (sent, received)) in enumerate(zip(sizes, splits, strict=True)):
        inputs = {"Input Dims": [[sum(received)], [size], [], [], [], [], []],
                  "Input type": ["float", "float", "", "ScalarList", "ScalarList", "Scalar", "Scalar"],
                  "Concrete Inputs": ["", "", "", str(received), str(sent), "True", "-1"]}  # fmt: skip
        events.append(event("cpu_op", "c10d::alltoall_base_", 100 * number, 5, **inputs))
        shown = {"Input Dims": [[size]], "Input type": ["float"], "Concrete Inputs": [""]}
        transfer = event("user_annotation", "gloo:all_to_all", 100 * number + 10, 60, tid=77 + number % 2, **shown)
        events.insert(0, transfer)  # threads are written one after the other, not in order of time
    return events[late:]


def test_transfers_of_gloo_have_the_splits_of_their_calls(tmp_path):
    splits = [([3, 1], [3, 4]), ([2, 2], [2, 2]), ([0, 6], [5, 6])]
    part = read(tmp_path, gloo((4, 4, 6), splits), rank=0, groups=[], world_size=2)
    transfers = part.events[part.events["name"] == "gloo:all_to_all"].sort_values("start_ns")
    sent = part.splits.set_index("event_id")["sent_bytes"]
    assert [sent[row].tolist() for row in transfers["event_id"]] == [[12, 4], [8, 8], [0, 24]]
    # Rank 0 receives 4 elements from the other; an even exchange counts its whole buffer; then it sends 6.
    assert transfers["message_bytes"].tolist() == [16, 16, 24]
    assert set(transfers["bytes_source"]) == {"host call"}


def test_transfers_without_their_calls_have_no_splits(tmp_path):
    part = read(tmp_path, gloo((4, 4), [([3, 1], [3, 4])] * 2, late=1), rank=0, groups=[], world_size=2)
    transfers = part.events[part.events["name"] == "gloo:all_to_all"]
    assert not set(transfers["event_id"]) & set(part.splits["event_id"])


def test_splits_follow_their_events_when_parts_are_merged(tmp_path):
    parts = [read(tmp_path, [event("cpu_op", "a", 0, 1), kernel(5, **arguments())], rank=rank) for rank in (0, 1)]
    merged = merge(parts)
    assert merged.splits["event_id"].tolist() == [1, 3]
    assert merged.events.set_index("event_id").loc[[1, 3], "collective"].tolist() == ["all_to_all"] * 2


def test_a_public_trace_with_nccl_arguments(real_data):
    table = kineto.read(real_data / "traces" / "ddp_a100_rank0of2_nccl_args.json.gz").events
    kernels = table[(table["device"] == "cuda:0") & (table["collective"] != "")]
    assert set(kernels["process_group"]) == {"0"} and set(kernels["bytes_source"]) == {"kernel arguments"}
    dlrm = kineto.read(real_data / "traces" / "dlrm_8x_v100" / "rank-0.json.gz").events
    kernels = dlrm[(dlrm["device"] == "cuda:0") & (dlrm["collective"] != "")]
    assert set(kernels["bytes_source"]) == {"launch and record_param_comms"} and set(kernels["sequence"]) == {-1}
