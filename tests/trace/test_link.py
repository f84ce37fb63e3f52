"""Profile and execution trace joined: sequences aligned, calls matched by id and by order, what the profile gains."""

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from damaged import mutated_values, survives
from execution_nodes_by_hand import document
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.communication import communication
from workbench.costs.collectives import uneven_bytes
from workbench.errors import InputError
from workbench.trace.align import align
from workbench.trace.link import BY_ID, BY_NAME, BY_SHAPE, link
from workbench.trace.loader import load
from workbench.trace.readers import execution_trace, kineto
from workbench.trace.schema import validate_events


def test_a_stretch_is_found_where_it_lies():
    right = np.arange(100)
    position, places = align(right[40:60], right)
    assert position.tolist() == list(range(40, 60)) and places == 1


def test_the_first_of_equal_places_is_taken():
    position, places = align(np.arange(20), np.tile(np.arange(20), 5))
    assert position.tolist() == list(range(20)) and places == 5


def test_what_begins_earlier_is_aligned_too():
    position, _ = align(np.arange(30), np.arange(10, 50))
    assert position.tolist() == [-1] * 10 + list(range(20))


def test_missing_and_added_calls_are_passed_over():
    right = np.arange(60)
    left = np.concatenate([right[:20], [777, 778], right[25:]])
    position, _ = align(left, right)
    assert position.tolist() == [*range(20), -1, -1, *range(25, 60)]


@pytest.mark.parametrize(("left", "right"), [([], [1, 2]), ([1, 2], []), ([1, 2, 3], [4, 5, 6])])
def test_nothing_in_common(left, right):
    position, places = align(np.array(left), np.array(right))
    assert position.tolist() == [-1] * len(left) and places == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=60), st.lists(st.integers(0, 4), max_size=60))
def test_pairs_are_equal_and_in_order(left, right):
    position, _ = align(np.array(left, dtype=np.int64), np.array(right, dtype=np.int64))
    pairs = [(i, j) for i, j in enumerate(position.tolist()) if j >= 0]
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(before[1] < after[1] for before, after in pairwise(pairs))


def event(name, ts, dur, tid=10, cat="cpu_op", **args):
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": args}


def shapes(dims, kinds):
    return {"Input Dims": dims, "Input type": kinds}


# The calls of execution_nodes_by_hand.document, as an old profiler saw them: no ids, no values, no NCCL arguments.
PROFILE = [
    event("ProfilerStep#7", 0, 100, cat="user_annotation"),
    event("aten::mm", 5, 10, **shapes([[2, 3], [3, 4]], ["float", "float"])),
    event("cudaLaunchKernel", 6, 1, cat="cuda_runtime", correlation=1),
    event("c10d::alltoall_base_", 20, 30, **shapes([[3, 8], [6, 8], [], [], []], ["float", "float", "", "", ""])),
    event("record_param_comms", 21, 28, **shapes([[6, 8], [], [], [], []], ["float", *["Scalar"] * 3, ""])),
    event("nccl:all_to_all", 22, 26, cat="user_annotation", **shapes([[6, 8]], ["float"])),
    event("cudaLaunchKernel", 24, 2, cat="cuda_runtime", correlation=2),
    event("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(int)", 40, 30, tid=20, cat="kernel", correlation=2),
    event("Optimizer.step#SGD.step", 60, 20, tid=11, cat="user_annotation"),
    event("aten::add_", 61, 5, tid=11, **shapes([[2, 3], []], ["float", "Scalar"])),
    event("main.py(1): <module>", 0, 100, cat="python_function"),
]  # fmt: skip


def pair(tmp_path, profile=PROFILE, schema="1.0.1", **top):
    (tmp_path / "k.json").write_text(json.dumps({"baseTimeNanoseconds": 10**18, "traceEvents": profile, **top}))
    (tmp_path / "et.json").write_text(json.dumps(document(schema)))
    return kineto.read(tmp_path / "k.json"), execution_trace.read(tmp_path / "et.json")


def test_by_order_and_shape(tmp_path):
    profile, execution = pair(tmp_path)
    linked = link(profile, execution)
    assert (linked.rule, linked.node_share, linked.operator_share, linked.places) == (BY_SHAPE, 1.0, 1.0, 1)
    names = execution.events["name"].to_numpy()[linked.matches["node"]]
    assert names.tolist() == profile.events["name"].to_numpy()[linked.matches["event_id"]].tolist()
    assert sorted(linked.matches["event_id"]) == [0, 1, 3, 4, 5, 8, 9]
    shares = "100.0 % of its calls and 100.0 % of the profile's found each other"
    assert linked.part.notes[-1] == f"k.json: execution trace linked by name, order and shape: {shares}"
    validate_events(linked.part.events)


def test_splits_reach_the_kernel(tmp_path):
    linked = link(*pair(tmp_path))
    rows = linked.part.splits.set_index("event_id")
    assert sorted(rows.index) == [3, 4, 5, 7]  # call, record, annotation, and the kernel behind its launch
    assert (rows["sent_bytes"][7].tolist(), rows["received_bytes"][7].tolist()) == ([128, 64], [32, 64])
    kernel = linked.part.events.iloc[7]
    assert kernel["message_bytes"] == uneven_bytes([4 * 32, 2 * 32], [1 * 32, 2 * 32], self_rank=1)
    assert kernel["bytes_source"] == "execution trace"


def test_the_profile_gains_operands_and_sizes(tmp_path):
    bare = [{**e, "args": {k: v for k, v in e["args"].items() if k == "correlation"}} for e in PROFILE]
    profile, execution = pair(tmp_path, bare)
    assert len(profile.operators) == 0 and profile.events["message_bytes"].isna().all()
    linked = link(profile, execution)
    assert (linked.rule, linked.node_share) == (BY_NAME, 1.0)
    events, operators = linked.part.events, linked.part.operators
    product = operators.iloc[events["operator_id"][1]]
    assert product.tolist() == ["aten::mm", "[[2,3],[3,4]]", '["float","float"]', '["",""]']
    kernel = events.iloc[7]
    assert (kernel["collective"], kernel["group_size"], kernel["message_bytes"]) == ("all_to_all", 2, 128)
    assert (kernel["process_group"], kernel["bytes_source"]) == ("", "execution trace")  # 945 is a pointer, no name
    assert events["operator_id"][[2, 6, 7, 10]].tolist() == [-1] * 4
    assert profile.events["message_bytes"].isna().all()  # the profile itself is left as it was


def test_what_the_profile_knows_stays(tmp_path):
    nccl = {
        "Collective name": "all_to_allv",
        "In msg nelems": 5,
        "Out msg nelems": 5,
        "Group size": 4,
        "dtype": "Float",
    }
    nccl |= {"In split size": "[2, 1, 1, 1]", "Out split size": "[]", "Process Group Name": "tp"}
    profile = [e | {"args": e["args"] | nccl} if e["cat"] == "kernel" else e for e in PROFILE]
    part = link(*pair(tmp_path, profile, distributedInfo={"rank": 0, "world_size": 4})).part
    kernel = part.events.iloc[7]
    assert (kernel["group_size"], kernel["message_bytes"], kernel["process_group"]) == (4, 15, "tp")
    assert kernel["bytes_source"] == "kernel arguments"
    assert part.splits.set_index("event_id")["sent_bytes"][7].tolist() == [8, 4, 4, 4]


def test_the_group_that_an_execution_trace_lists(tmp_path):
    part = link(*pair(tmp_path, schema="1.1.1-chakra.0.0.4")).part
    assert part.events["process_group"][7] == "0" and part.info["process_groups"][0]["size"] == 2


def test_by_record_function_id(tmp_path):
    _, execution = pair(tmp_path, schema="1.1.1-chakra.0.0.4")
    ids = dict(zip(execution.events["name"], execution.events["record_function_id"].tolist(), strict=True))
    ids["aten::mm"] = 999  # recorded by the profiler only
    ids["aten::add_"] = ids["ProfilerStep#7"]  # the id of another call
    told = [e | {"args": e["args"] | {"Record function id": ids.get(e["name"], -1)}} for e in PROFILE]
    linked = link(*pair(tmp_path, told, schema="1.1.1-chakra.0.0.4"))
    assert (linked.rule, linked.places) == (BY_ID, 0)
    assert sorted(linked.matches["event_id"]) == [0, 3, 4, 5, 8]
    assert linked.node_share == 5 / 8 and linked.operator_share == 5 / 7


def test_several_steps_in_the_profile(tmp_path):
    later = [e | {"ts": e["ts"] + 200} for e in PROFILE]
    linked = link(*pair(tmp_path, [*PROFILE, *later]))
    assert linked.node_share == 1.0 and linked.operator_share == 0.5 and linked.places == 2
    assert linked.matches["event_id"].max() < len(PROFILE)
    assert "fits the profile at 2 places" in linked.part.notes[-1]


def test_traces_of_different_runs(tmp_path):
    linked = link(*pair(tmp_path, [event("aten::other", 0, 5)]))
    assert (linked.node_share, linked.operator_share, len(linked.part.splits)) == (0.0, 0.0, 0)
    empty = link(*pair(tmp_path, []))
    assert (empty.node_share, empty.operator_share) == (0.0, 0.0)
    validate_events(empty.part.events)


def test_whatever_could_be_read_can_be_linked(tmp_path):
    profile, _ = pair(tmp_path)
    contents = mutated_values(document("1.0.1"), 50)
    parts = [survives(execution_trace.read, tmp_path / "et.json", content) for content in contents]
    readable = [part for part in parts if part is not None]
    for part in readable:
        linked = link(profile, part)
        validate_events(linked.part.events)
        assert 0 <= linked.node_share <= 1 and 0 <= linked.operator_share <= 1
    assert len(readable) > 10


def test_an_unknown_rank_is_that_of_the_profile(tmp_path):
    """The c10d call itself does not know its rank: in a group of all ranks it is the run's."""
    for rank, expected in ((1, 128), (-1, math.nan)):
        linked = link(*pair(tmp_path, distributedInfo={"rank": rank, "world_size": 2}))
        found = linked.part.events["message_bytes"][3]
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize("rank", range(8))
def test_dlrm(real_data, rank):
    """Every call of the execution trace is found; of the profile, all but its step's annotation."""
    profile = kineto.read(real_data / f"traces/dlrm_8x_v100/rank-{rank}.json.gz")
    linked = link(profile, execution_trace.read(real_data / f"execution_traces/dlrm_8x_v100/rank-{rank}.json.gz"))
    assert (linked.rule, linked.node_share, linked.places) == (BY_SHAPE, 1.0, 1)
    assert linked.operator_share > 0.999
    events = linked.part.events
    kernels = events[(events["device"] != "cpu") & (events["kind"] == "communication")]
    splits = linked.part.splits.set_index("event_id").loc[kernels["event_id"][kernels["collective"] == "all_to_all"]]
    uneven = [row for row, *both in splits.itertuples() if any(np.ptp(parts) > 0 for parts in both)]
    assert len(splits) == 5 and len(uneven) == 1
    told = profile.events["message_bytes"]
    assert (kernels["message_bytes"].to_numpy() == told[kernels["event_id"]]).sum() == 7
    assert events["bytes_source"][uneven].tolist() == ["execution trace"]


def test_an_execution_trace_of_one_step_of_forty(real_data):
    profile = kineto.read(real_data / "traces/linear_rtx2080.json.gz")
    linked = link(profile, execution_trace.read(real_data / "execution_traces/linear_rtx2080.json.gz"))
    assert (linked.rule, linked.node_share) == (BY_NAME, 1.0)
    assert linked.operator_share == pytest.approx(1 / 40, rel=0.01) and linked.places > 30
    gained = linked.part.events["operator_id"].to_numpy()[linked.matches["event_id"]]
    products = linked.part.operators.iloc[gained[gained >= 0]]
    assert "[[1024],[512,1024],[1024,1024],[],[]]" in set(products["input_dims"][products["name"] == "aten::addmm"])
    assert isinstance(linked.part.events["collective"].dtype, pd.CategoricalDtype)


def ranks_and_executions(tmp_path, ranks, recorded):
    """Folders of profiles and of execution traces, one a rank."""
    for folder, numbers in (("profiles", ranks), ("executions", recorded)):
        (tmp_path / folder).mkdir()
        for rank in numbers:
            top = {"baseTimeNanoseconds": 10**18, "distributedInfo": {"rank": rank, "world_size": 2}}
            content = top | {"traceEvents": PROFILE} if folder == "profiles" else document("1.0.1")
            (tmp_path / folder / f"rank-{rank}.json").write_text(json.dumps(content))
    return tmp_path / "profiles", tmp_path / "executions"


def test_ranks_meet_their_execution_traces(tmp_path):
    profiles, executions = ranks_and_executions(tmp_path, (0, 1), (1, 0))
    run = load(profiles, execution_trace=executions)
    kernels = run.events[run.events["device"] != "cpu"]
    assert kernels["bytes_source"].tolist() == ["execution trace"] * 2
    assert kernels["message_bytes"].tolist() == [128, 128] and set(kernels["rank"]) == {0, 1}
    assert sum("linked by name, order and shape: 100.0 %" in note for note in run.notes) == 2
    assert len(run.splits) == 8


def test_ranks_without_an_execution_trace_are_named(tmp_path):
    profiles, executions = ranks_and_executions(tmp_path, (0, 1), (1,))
    run = load(profiles, execution_trace=str(executions))
    assert "no execution trace is here for ranks 0" in run.notes
    (tmp_path / "rank-5.json").write_text(json.dumps(document("1.0.1")))
    with pytest.raises(InputError, match="are of ranks 1, 5, and no profile is"):
        load(profiles, ranks="0", execution_trace=[executions, tmp_path / "rank-5.json"])


def test_one_of_each_belong_together(tmp_path):
    profiles, executions = ranks_and_executions(tmp_path, (1,), (0,))
    assert len(load(profiles, execution_trace=executions).splits) == 4


def test_what_completes_nothing_is_refused(tmp_path):
    profiles, executions = ranks_and_executions(tmp_path, (0,), (0,))
    for path, other in ((executions, executions), (profiles, profiles), (profiles, tmp_path / "missing")):
        with pytest.raises(InputError, match=r"--execution-trace|no execution trace|does not exist"):
            load(path, execution_trace=other)


def test_all_ranks_of_dlrm(real_data):
    """The one all-to-all that is uneven counts what leaves or enters the busiest rank, and the matrix knows all."""
    folders = (real_data / "traces/dlrm_8x_v100", real_data / "execution_traces/dlrm_8x_v100")
    run = load(folders[0], execution_trace=folders[1])
    result = communication(run, by="call")
    uneven = result.table[result.table["bytes_source"] == "execution trace"]
    assert len(uneven) == 8 and uneven["match"].nunique() == 1
    kernels = run.events[(run.events["bytes_source"] == "execution trace") & (run.events["device"] != "cpu")]
    sent = run.splits.set_index("event_id")["sent_bytes"][kernels["event_id"]].set_axis(kernels["rank"])
    arriving = [sum(sent[other][rank] for other in sent.index if other != rank) for rank in sent.index]
    leaving = [sent[rank].sum() - sent[rank][rank] for rank in sent.index]
    assert set(uneven["bytes"]) == {max(arriving + leaving)}
    assert not any("splits of" in note for note in result.notes)
    matrix = communication(run, by="matrix").table
    assert len(matrix) == 64 and set(matrix["calls"]) == {5}
