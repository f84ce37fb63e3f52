"""Chakra traces as JSON: both forms by hand, modelled starts, real files, damaged ones."""

import json

import pytest
from damaged import mutated_bytes, mutated_values, survives

from workbench.errors import InputError
from workbench.trace.readers import chakra
from workbench.trace.schema import validate_events


def read(tmp_path, content):
    path = tmp_path / "chakra.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    part = chakra.read(path)
    validate_events(part.events)
    return part


def node(number, name, node_type=4, runtime=10, deps=(), cpu=True, **more):
    fields = {"Id": number, "Name": name, "NodeType": node_type, "runtime": runtime, "data_deps": list(deps)}
    return fields | {"is_cpu_op": cpu} | more


GRAPH = [
    node(1, "aten::mm(0)", runtime=10),
    node(2, "sgemm", deps=[1], runtime=30, cpu=False),
    node(3, "aten::copy_(1)", ctrlDeps=[1], runtime=5),
    node(4, "c10d::allreduce_(0)", 7, deps=[3], runtime=5),
    node(6, "ncclKernel_AllReduce_RING_LL_Sum_float(int)", 7, deps=[2, 4], cpu=False, comm_type=0, comm_size=4096),
    node(5, "Memcpy DtoH (Device -> Pinned)", deps=[6], runtime=1, cpu=False),
    node(7, "load", 2, runtime=2),
    node(8, "to the next stage", 5, runtime=1),
]


def test_a_graph_by_hand(tmp_path):
    part = read(tmp_path, {"workload_graph": GRAPH, "ngpus": 8})
    columns = ["name", "lane", "device", "kind", "collective", "start_ns", "duration_ns"]
    rows = part.events[columns].astype("object").values.tolist()
    # Host: 1, 3, 4, 7, 8 one after the other. Device: 2 waits for 1, 6 for 2 and 4, 5 (a smaller id) for 6.
    assert rows == [
        ["aten::mm(0)", "host", "cpu", "compute", "", 0, 10_000],
        ["sgemm", "device", "device:0", "compute", "", 10_000, 30_000],
        ["aten::copy_(1)", "host", "cpu", "memory", "", 10_000, 5_000],
        ["c10d::allreduce_(0)", "host", "cpu", "communication", "all_reduce", 15_000, 5_000],
        ["Memcpy DtoH (Device -> Pinned)", "device", "device:0", "memory", "", 50_000, 1_000],
        [GRAPH[4]["Name"], "device", "device:0", "communication", "all_reduce", 40_000, 10_000],
        ["load", "host", "cpu", "memory", "", 20_000, 2_000],
        ["to the next stage", "host", "cpu", "communication", "send", 22_000, 1_000],
    ]
    assert part.events["message_bytes"][5] == 4096 and part.events["message_bytes"].isna().sum() == 7
    assert set(part.events["source"]) == {"modelled"}
    assert part.dependencies.values.tolist() == [[1, 0], [2, 0], [3, 2], [4, 5], [5, 1], [5, 3]]
    assert part.notes == [
        "chakra.json: it has no start times: each node starts when what it depends on has ended and its lane is free"
    ]


def proto(number, name, **fields):
    return {"id": str(number), "name": name, "type": "COMP_NODE", "durationMicros": "7"} | fields


def test_what_the_jsonizer_writes(tmp_path):
    """Objects behind one another, 64-bit numbers as texts, zeros left out."""
    on_device = [{"name": "is_cpu_op", "boolVal": False}, {"name": "comm_type", "int64Val": "6"}]
    on_device += [{"name": "comm_size", "int64Val": "512"}, {"name": "tensor", "stringVal": "}{"}]
    nodes = [
        {"version": "0.0.4"},
        proto(1, "aten::mm", startTimeMicros="100"),
        proto(2, "SendRecv", type="COMM_COLL_NODE", startTimeMicros="110.5", dataDeps=["1"], attr=on_device),
    ]
    part = read(tmp_path, "".join(json.dumps(each, indent=2) for each in nodes).encode())
    columns = ["name", "lane", "kind", "collective", "start_ns", "duration_ns", "source"]
    assert part.events[columns].astype("object").values.tolist() == [
        ["aten::mm", "host", "compute", "", 100_000, 7_000, "measured"],
        ["SendRecv", "device", "communication", "all_to_all", 110_500, 7_000, "measured"],
    ]
    assert part.events["message_bytes"][1] == 512
    assert part.notes == []


def test_circles_and_missing_nodes(tmp_path):
    graph = [node(1, "a", deps=[2]), node(2, "b", deps=[1]), node(3, "c", deps=[99]), node(3, "twice")]
    part = read(tmp_path, {"workload_graph": graph})
    assert part.events["name"].tolist() == ["a", "b", "c"]
    assert part.events["start_ns"].tolist() == [10_000, 20_000, 0]
    assert [note.removeprefix("chakra.json: ") for note in part.notes[:2]] == [
        "left out 1 nodes whose id another one has",
        "1 dependencies name nodes that are not in the file",
    ]
    assert part.notes[3] == "chakra.json: 2 nodes depend on one another in a circle, or on such: they come last"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"{}", "missing required field `workload_graph`"),
        (b'{"traceEvents": []}', "missing required field `workload_graph`"),
        (b'{"workload_graph": [{"Id": []}]}', r"at `\$.workload_graph\[0\].Id`"),
        (b"\x0a\x05hello", "cannot be read"),
    ],
)
def test_what_is_no_chakra_trace_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value) and "Chakra" in str(refusal.value)


def test_damage_of_any_kind_is_repaired_or_refused(tmp_path):
    whole = {"workload_graph": GRAPH}
    jsonized = "".join(json.dumps(proto(number, "x", ctrlDeps=["1"])) for number in range(1, 5)).encode()
    contents = [
        *mutated_bytes(json.dumps(whole).encode(), 60),
        *mutated_values(whole, 60),
        *mutated_bytes(jsonized, 60),
    ]
    parts = [survives(chakra.read, tmp_path / "chakra.json", content) for content in contents]
    assert any(part is None for part in parts) and sum(part is not None for part in parts) > 20


@pytest.mark.parametrize(("name", "count"), [("small_chakra.0.json", 7), ("chakra.0.json", 3664)])
def test_real_files(real_data, name, count):
    path = real_data / "execution_traces" / name
    part = chakra.read(path)
    graph = json.loads(path.read_text())["workload_graph"]
    assert len(part.events) == count
    assert part.events["duration_ns"].sum() == 1000 * sum(each.get("runtime", 0) for each in graph)
    end_ns = (part.events["start_ns"] + part.events["duration_ns"]).to_numpy()
    starts_ns = part.events["start_ns"].to_numpy()
    edges = part.dependencies
    assert (starts_ns[edges["event_id"]] >= end_ns[edges["depends_on"]]).all()
    for _, lane in part.events.groupby("lane", observed=True):
        ordered = lane.sort_values(["start_ns", "duration_ns"])
        assert (ordered["start_ns"].to_numpy()[1:] >= end_ns[ordered.index[:-1]]).all()
