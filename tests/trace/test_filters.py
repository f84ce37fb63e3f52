"""What is loaded of a run: an interval, some ranks, some kinds; in words that are refused when they are wrong."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError
from workbench.trace.filters import filters
from workbench.trace.loader import load
from workbench.trace.readers import kineto
from workbench.trace.schema import validate_events

BASE_NS = 1_700_000_000_000_000_000


def event(cat, name, ts, dur, pid=10, tid=10, **args):
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


STEP = [
    event("user_annotation", "ProfilerStep#7", 0, 100),
    event("cpu_op", "aten::linear", 5, 30),
    event("cpu_op", "aten::mm", 10, 20),
    event("cuda_runtime", "cudaLaunchKernel", 15, 5, correlation=1),
    event("kernel", "gemm", 40, 30, pid=0, tid=7, correlation=1),
    event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 80, 10, pid=0, tid=7, bytes=64, correlation=2),
    event("kernel", "nccl", 90, 5, pid=0, tid=9, **{
        "Collective name": "all_to_allv", "In msg nelems": 4, "Out msg nelems": 4, "Group size": 2, "dtype": "Float",
        "In split size": "[1, 3]", "Out split size": "[2, 2]"}),
    {"ph": "i", "name": "[memory]", "ts": 12, "pid": 10, "tid": 10,
     "args": {"Addr": 1, "Bytes": 64, "Device Type": 1, "Device Id": 0, "Total Allocated": 64, "Total Reserved": 128}},
]  # fmt: skip


def write(path, events, rank=0, world_size=2, base_ns=BASE_NS):
    head = {"baseTimeNanoseconds": base_ns, "distributedInfo": {"rank": rank, "world_size": world_size}}
    path.write_text(json.dumps(head | {"traceEvents": events}))
    return path


def test_kinds_cut_the_tables_and_what_hangs_on_them(tmp_path):
    path = write(tmp_path / "trace.json", STEP)
    whole, run = load(path), load(path, kinds="runtime,communication,memory")
    validate_events(run.events)
    assert run.events["name"].tolist() == ["cudaLaunchKernel", "Memcpy HtoD (Pinned -> Device)", "nccl"]
    assert run.events["parent_id"].tolist() == [-1, -1, -1] and run.events["step"].tolist() == [7, 7, 7]
    assert run.traffic["event_id"].tolist() == [1, 1] and run.splits["event_id"].tolist() == [2]
    # aten::mm, in which memory changed, is gone; the change is not.
    assert whole.memory["event_id"].tolist() == [2] and run.memory["event_id"].tolist() == [-1]


def test_a_child_goes_to_the_nearest_ancestor_that_stays(tmp_path):
    path = write(tmp_path / "trace.json", STEP)
    run = load(path, kinds=["span", "runtime", "compute"])
    assert run.events["name"].tolist()[:4] == ["ProfilerStep#7", "aten::linear", "aten::mm", "cudaLaunchKernel"]
    assert load(path, kinds=["span", "runtime"]).events["parent_id"].tolist() == [-1, 0]
    kernel = run.events.set_index("name").loc["gemm"]
    assert run.events["name"][kernel["launch_id"]] == "cudaLaunchKernel"


def test_an_interval_counts_from_the_first_event_of_all_ranks(tmp_path):
    write(tmp_path / "rank-0.json", STEP, rank=0)
    # The second rank's own clock starts at 1970, and its first event 20 us after that of the first.
    later = [entry | {"ts": entry["ts"] + BASE_NS // 1000 + 20} for entry in STEP]
    write(tmp_path / "rank-1.json", later, rank=1, base_ns=0)
    run = load(tmp_path, between="0.00001:0.00008")
    validate_events(run.events)
    assert run.events.groupby("rank")["name"].agg(list).to_dict() == {
        0: ["aten::mm", "cudaLaunchKernel", "gemm"],
        1: ["aten::linear", "aten::mm", "cudaLaunchKernel"],
    }
    assert run.events["parent_id"].tolist() == [-1, 0, -1, -1, 3, 4]
    assert run.memory["rank"].tolist() == [0, 1]
    assert run.notes[0] == "only this was loaded: 1e-05 to 8e-05 s from its first event"


EVENTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=12)


@settings(max_examples=40)
@given(events=EVENTS, start=st.integers(0, 40), length=st.integers(1, 40), padding=st.sampled_from([0, 7, 10**6]))
def test_decoding_keeps_just_what_lies_inside(events, start, length, padding):
    """Against a plain reading of the same numbers, whatever the trace's clock counts from."""
    rows = [event("cpu_op", f"e{row}", ts + padding, dur) for row, (ts, dur) in enumerate(events)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "trace.json", rows)
        assert kineto.clock(path) == (1000 * (min(ts for ts, _ in events) + padding), BASE_NS)
        found = load(path, between=(start / 1e6, (start + length) / 1e6)).events["name"].tolist()
    first = min(ts for ts, _ in events)
    inside = [start <= ts - first and ts - first + dur <= start + length for ts, dur in events]
    assert found == [f"e{row}" for row in np.flatnonzero(inside)]


def test_other_ranks_are_not_read(tmp_path):
    write(tmp_path / "rank-0.json", STEP, rank=0)
    damaged = write(tmp_path / "rank-1.json", [], rank=1)
    damaged.write_text(damaged.read_text().replace("[]}", "[ this is no JSON"))
    run = load(tmp_path, ranks=[0])
    assert run.ranks == [0] and len(run.parts) == 1
    assert run.notes[0] == "only this was loaded: ranks 0"
    with pytest.raises(InputError, match=r"rank-1\.json"):
        load(tmp_path)


def test_ranks_that_only_file_names_tell(tmp_path):
    for rank in (0, 1, 2):
        write(tmp_path / f"rank-{rank}.json", [event("cpu_op", f"of {rank}", 0, 1)], rank=0)
    run = load(tmp_path, ranks="2,1")
    assert run.events[["rank", "name"]].values.tolist() == [[1, "of 1"], [2, "of 2"]]


def test_ranks_that_nothing_tells_count_in_the_order_given(tmp_path):
    paths = [write(tmp_path / name, [event("cpu_op", name, 0, 1)], rank=-1) for name in ("b.json", "a.json")]
    assert load(*paths, ranks=[1]).events["name"].tolist() == ["a.json"]


def test_a_run_directory_by_rank_and_interval(golden_run):
    path = golden_run.path
    run = load(path, ranks=[1], between=(0, 0.5))
    assert run.ranks == [1] and set(run.metrics["process"]) == {"trainer-1"}
    starts_ns = run.events["start_ns"]
    first_ns = golden_run.events.loc[golden_run.events["rank"] == 1, "start_ns"].min()
    assert starts_ns.min() >= first_ns and (starts_ns + run.events["duration_ns"]).max() <= first_ns + 5 * 10**8
    assert 0 < len(run.events) < (golden_run.events["rank"] == 1).sum()


@pytest.mark.parametrize(
    ("chosen", "says"),
    [({"ranks": "5"}, "ranks 5; no rank 5 is here; no event is left"), ({"between": (5, 6)}, "no event is left"),
     ({"kinds": "storage"}, "events that are storage; no event is left")],
)  # fmt: skip
def test_what_is_not_there_is_no_mistake(tmp_path, chosen, says):
    run = load(write(tmp_path / "rank-0.json", STEP), **chosen)
    assert len(run.events) == 0 and run.notes[0].endswith(says)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"between": "1"}, "START:END"), ({"between": "2:1"}, "START:END"), ({"between": "-1:1"}, "START:END"),
        ({"between": "a:b"}, "START:END"), ({"between": "nan:1"}, "START:END"), ({"between": "0:inf"}, "START:END"),
        ({"between": 3}, "START:END"), ({"between": (1, 2, 3)}, "START:END"), ({"ranks": "one"}, "ranks='one'"),
        ({"ranks": ""}, "ranks=''"), ({"ranks": 3}, "ranks=3"), ({"kinds": "magic"}, "choose one of compute, memory"),
        ({"kinds": []}, "kinds=[]"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused_in_one_line(chosen, says):
    with pytest.raises(InputError) as refusal:
        filters(**chosen)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
