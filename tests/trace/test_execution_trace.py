"""Execution traces of every schema, by hand; what they say of collectives; real ones; damaged ones."""

import gzip
import json
import math

import pandas as pd
import pytest
from damaged import mutated_bytes, mutated_values, survives
from execution_nodes_by_hand import SCHEMAS, call, communicated, document, integers, tensor, tensors, written

from workbench.errors import InputError
from workbench.trace.readers import documents, execution_trace
from workbench.trace.schema import validate_events

PAIR = tensors(tensor(1, [10]), tensor(2, [5]))


def read(tmp_path, content, name="et.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    part = execution_trace.read(path)
    validate_events(part.events)
    return part


def plain(frame):
    """Categoricals as plain values, NaN as -1."""
    return frame.astype("object").where(frame.notna(), -1).values.tolist()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_calls_of_every_schema(tmp_path, schema):
    part = read(tmp_path, document(schema))
    events = part.events[part.events["name"] != "## process_group:init ##"]
    first = events["event_id"].iloc[0]
    columns = ["name", "parent_id", "lane", "step", "kind", "phase", "collective", "group_size", "message_bytes"]
    assert plain(events.assign(parent_id=(events["parent_id"] - first).clip(-1))[columns]) == [
        ["ProfilerStep#7", -1, "thread 1", 7, "span", "", "", -1, -1],
        ["aten::mm", 0, "thread 1", 7, "compute", "", "", -1, -1],
        ["c10d::alltoall_base_", 0, "thread 1", 7, "communication", "", "all_to_all", 2, 192],
        ["record_param_comms", 2, "thread 1", 7, "communication", "", "all_to_all", 2, 192],
        ["nccl:all_to_all", 3, "thread 1", 7, "communication", "", "all_to_all", 2, 192],
        ["Optimizer.step#SGD.step", -1, "thread 2", 7, "span", "optimizer", "", -1, -1],
        ["aten::add_", 5, "thread 2", 7, "compute", "optimizer", "", -1, -1],
    ]
    assert events["start_ns"].tolist() == list(range(first, first + 7)) and set(events["duration_ns"]) == {0}
    assert part.info["clock"] == "order"
    assert part.notes == [f"et.json: {execution_trace.NO_TIMES}"]
    operators = part.operators.set_index("name")
    assert operators.loc["aten::mm"].tolist() == ["[[2,3],[3,4]]", '["float","float"]', '["",""]']
    assert operators.loc["aten::add_"].tolist() == ["[[2,3],[]]", '["float","Scalar"]', '["","0.5"]']
    assert operators.loc["c10d::alltoall_base_"].tolist() == [
        "[[3,8],[6,8],[],[],[],[]]", '["float","float","","ScalarList","ScalarList","Scalar"]',
        '["","","","[1, 2]","[4, 2]","-1"]',
    ]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_the_execution_knows(tmp_path, schema):
    part = read(tmp_path, document(schema))
    execution = part.info["execution"]
    offset = int(part.events.index[part.events["name"] == "ProfilerStep#7"][0])
    assert execution.schema == schema
    assert part.events["record_function_id"].tolist()[offset:] == [2, 3, 4, 5, 6, 7, 8]
    assert sorted(execution.collectives) == [offset + 2, offset + 3]
    recorded = execution.collectives[offset + 3]
    assert recorded[:6] == ("all_to_all", "945" if schema == "1.0.1" else "0", 2, 1, 192, 96)
    assert (recorded.in_split, recorded.out_split) == ((4, 2), (1, 2))
    # Rows of 32 bytes: 4 of 6 go to rank 0, 1 of 3 comes from there.
    assert recorded.size_bytes() == max(4 * 32, 1 * 32)
    produced = execution.tensors.query("event_id == @offset + 1")
    assert plain(produced[["role", "storage_id", "numel", "dtype"]]) == [
        ["input", 101, 6, "float"], ["input", 102, 12, "float"], ["output", 103, 8, "float"],
    ]  # fmt: skip


def test_process_groups(tmp_path):
    part = read(tmp_path, document("1.1.1-chakra.0.0.4"))
    expected = {"name": "0", "description": "default_pg", "backend": "cuda:nccl", "size": 2, "ranks": [], "uid": ""}
    assert part.info["process_groups"] == [expected]
    cut = [call(3, 2, "## process_group:init ##", [("String", [], '[{"pg_name": "0", "ra')])]
    assert read(tmp_path, written(cut, "1.1.0-chakra.0.0.4")).info["process_groups"] == []


def test_attributes_of_a_collective_win(tmp_path):
    inputs, outputs = communicated(("Tuple[String,String]", [[], []], ["0", "default_pg"]))
    named = {
        "collective_name": "all_to_allv",
        "pg_name": "5",
        "pg_size": 2,
        "in_split_size": "[5,1]",
        "out_split_size": "[1,...]",
    }
    node = call(3, 2, "record_param_comms", inputs, outputs, **named)
    found = read(tmp_path, written([node], "1.1.1-chakra.0.0.4")).info["execution"].collectives[0]
    assert (found.process_group, found.in_split, found.out_split) == ("5", (5, 1), None)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "expected"),
    [
        ("wait", [], [], None),
        ("barrier", [], [], ("barrier", 0.0)),
        ("allreduce", [PAIR], [PAIR], ("all_reduce", 60.0)),
        ("_allgather_base", [tensor(1, [4])], [tensor(2, [8])], ("all_gather", 32.0)),
        ("broadcast", [tensor(1, [4], "c10::Half", 2)], [], ("broadcast", 8.0)),
    ],
)  # fmt: skip
def test_sizes_of_collectives(tmp_path, name, inputs, outputs, expected):
    rest = [("Int", [], 3), ("Int", [], 945), ("Int", [], 0), ("String", [], name), integers(), integers()]
    part = read(tmp_path, written([call(3, 2, "record_param_comms", [*inputs, *rest], outputs)], "1.0.1"))
    found = part.info["execution"].collectives.get(0)
    assert (found and (found.collective, found.size_bytes())) == expected


def test_unknown_group_size_leaves_the_size_of_a_gather_unknown(tmp_path):
    rest = [("Int", [], 3), ("Int", [], 945), ("Int", [], 0), ("String", [], "_allgather_base")]
    part = read(tmp_path, written([call(3, 2, "record_param_comms", [tensor(1, [4]), *rest])], "1.0.1"))
    assert math.isnan(part.events["message_bytes"][0])


def test_times_of_a_linked_trace(tmp_path):
    """As Chakra's linker writes it: microseconds, device work as further nodes."""
    nodes = document("1.1.0-chakra.0.0.4")["nodes"]
    product = next(node for node in nodes if node["name"] == "aten::mm")
    product |= {"ts": 1700000000000010.5, "inclusive_dur": 20, "exclusive_dur": 20}
    kernel = product | {"id": 20, "ctrl_deps": 5, "name": "sgemm", "cat": "kernel", "ph": "X", "stream": 7}
    kernel |= {"ts": 1700000000000025, "inclusive_dur": 12.5}
    part = read(tmp_path, {"schema": "1.1.0-chakra.0.0.4", "nodes": [product, kernel, nodes[1]]})
    columns = ["name", "parent_id", "device", "lane", "kind", "start_ns", "duration_ns"]
    assert plain(part.events[columns]) == [
        ["ProfilerStep#7", -1, "cpu", "thread 1", "span", 1700000000000010500, 0],
        ["aten::mm", 0, "cpu", "thread 1", "compute", 1700000000000010500, 20000],
        ["sgemm", 1, "cuda:1", "stream 7", "compute", 1700000000000025000, 12500],
    ]
    assert part.info["clock"] == "unix"
    assert part.notes == [
        "et.json: 1 calls have no time: they stand where the call before them starts, with duration 0"
    ]


def test_damaged_ids(tmp_path):
    nodes = [call(5, 7, "a"), call(7, 5, "b"), call(7, 5, "twice"), call(8, 8, "c")]
    part = read(tmp_path, written(nodes, "9.9"))
    assert plain(part.events[["name", "parent_id"]]) == [["a", -1], ["b", 0], ["c", -1]]
    assert part.notes[0] == "et.json: left out 1 nodes whose id another one has"
    assert part.notes[1].startswith("et.json: its schema (9.9) is not among those known")


def test_a_cut_file_keeps_its_whole_nodes(tmp_path):
    content = json.dumps(document("1.0.1")).encode()
    part = read(tmp_path, gzip.compress(content[: content.index(b"nccl:all_to_all")]), name="et.json.gz")
    assert part.events["name"].tolist() == ["ProfilerStep#7", "aten::mm", "c10d::alltoall_base_", "record_param_comms"]
    assert part.notes[0].startswith("et.json.gz: the file was cut")


def test_an_empty_trace_is_no_mistake(tmp_path):
    part = read(tmp_path, {"schema": "1.0.1", "nodes": []})
    assert len(part.events) == 0 and part.notes == ["et.json: no call in it"]


def test_invalid_text_is_repaired(tmp_path):
    content = json.dumps(document("1.0.1")).replace('"aten::mm"', '"aten::mm\x01\xff"').encode("latin-1")
    part = read(tmp_path, content)
    assert part.events["name"][1] == "aten::mm\x01\ufffd"
    assert part.notes[0] == "et.json: repaired control characters, invalid UTF-8 or NaN"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello", "cannot be read"),
        (b'{"traceEvents": []}', "missing required field `nodes`"),
        (b'{"nodes": [{"id": "five"}]}', r"at `\$.nodes\[0\].id`"),
        (b'{"nodes": [{"id": 99999999999999999999}]}', r"at `\$.nodes\[0\].id`"),
        (b'{"nodes": ' + b"[" * 100_000, "nested too deeply|cannot be read"),
        (b'{"nodes": [{"id": 1, "inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", "nested too deeply"),
    ],
)
def test_what_is_no_execution_trace_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value) and "execution trace" in str(refusal.value)


def test_a_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "DOCUMENT_LIMIT_BYTES", 100)
    with pytest.raises(InputError, match="is larger than"):
        read(tmp_path, document("1.0.1"))


@pytest.mark.parametrize("schema", ["1.0.1", "1.1.1-chakra.0.0.4"])
def test_damage_of_any_kind_is_repaired_or_refused(tmp_path, schema):
    whole = document(schema)
    contents = [*mutated_bytes(json.dumps(whole).encode(), 40), *mutated_values(whole, 60)]
    parts = [survives(execution_trace.read, tmp_path / "et.json", content) for content in contents]
    assert any(part is None for part in parts) and sum(part is not None for part in parts) > 20


@pytest.mark.parametrize("name", [*(f"dlrm_8x_v100/rank-{rank}" for rank in range(8)), "linear_rtx2080"])
def test_every_call_of_a_real_trace(real_data, name):
    path = real_data / "execution_traces" / f"{name}.json.gz"
    part = execution_trace.read(path)
    with gzip.open(path) as file:
        nodes = sorted(json.load(file)["nodes"], key=lambda node: node["id"])
    nodes = [node for node in nodes if not node["name"].startswith("[pytorch|")]
    assert part.events["name"].tolist() == [node["name"] for node in nodes]
    ids = [node["id"] for node in nodes]
    assert [ids[row] if row >= 0 else -1 for row in part.events["parent_id"]] == [
        node["parent"] if node["parent"] in ids else -1 for node in nodes
    ]
    described = part.operators["input_dims"].to_numpy()[part.events["operator_id"]]
    product = next(row for row, node in enumerate(nodes) if node["name"] == "aten::addmm")
    assert json.loads(described[product])[:3] == nodes[product]["input_shapes"][:3]


def test_splits_of_the_real_all_to_all(real_data):
    """The lookups that rank r asks of each rank are those that each rank receives from r."""
    sent, received = {}, {}
    for rank in range(8):
        part = execution_trace.read(real_data / f"execution_traces/dlrm_8x_v100/rank-{rank}.json.gz")
        talks = [talk for talk in part.info["execution"].collectives.values() if talk.process_group and talk.uneven]
        assert [talk.rank for talk in talks] == [rank]
        sent[rank], received[rank] = talks[0].in_split, talks[0].out_split
        assert talks[0].size_bytes() == 4 * max(
            sum(sent[rank]) - sent[rank][rank], sum(received[rank]) - received[rank][rank]
        )
    assert pd.DataFrame(sent).equals(pd.DataFrame(received).T)
