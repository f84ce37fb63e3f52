"""The profiler's memory instants: worked out by hand, damaged, merged, cached, and from a real profile of a run."""

import json
import math

import pandas as pd
import pytest
import torch
from damaged import mutated_values, survives
from torch.profiler import ProfilerActivity, profile

from workbench.trace.cache import cached_part
from workbench.trace.loader import load
from workbench.trace.memory_table import MEMORY_COLUMNS, empty_memory
from workbench.trace.part import Part, merge
from workbench.trace.readers import kineto

BASE_NS = 1_700_000_000_000_000_000


def operator(name, ts, dur, tid=10):
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 10, "tid": tid, "ts": ts, "dur": dur, "args": {}}


def change(ts, address, size, total=None, reserved=None, tid=10, device=(1, 0)):
    args = {"Addr": address, "Bytes": size, "Device Type": device[0], "Device Id": device[1]}
    args |= {} if total is None else {"Total Allocated": total, "Total Reserved": reserved}
    return {
        "ph": "i",
        "cat": "cpu_instant_event",
        "s": "t",
        "name": "[memory]",
        "pid": 10,
        "tid": tid,
        "ts": ts,
        "args": args,
    }


# The second change is inside the inner operator, the third on another thread, the last one in none.
EVENTS = [
    operator("aten::linear", 0, 20),
    operator("aten::addmm", 5, 10),
    operator("aten::mul", 5, 10, tid=11),
    change(2, 4096, 512, 1536, 2048),
    change(7.5, 8192, 1024, 2560, 4096),
    change(8, 64, 100, 100, 0, tid=11, device=(0, -1)),
    change(15, 8192, -1024, 1536, 4096),
    change(30, 4096, -512, 1024, 4096),
]  # fmt: skip


def write(path, events=EVENTS):
    path.write_text(json.dumps({"baseTimeNanoseconds": BASE_NS, "traceEvents": events}))
    return path


def test_changes_by_hand(tmp_path):
    memory = kineto.read(write(tmp_path / "trace.json")).memory
    assert list(memory) == list(MEMORY_COLUMNS)
    rows = memory[["device", "address", "bytes", "allocated_bytes", "reserved_bytes", "event_id"]].astype(object)
    assert rows.fillna("none").values.tolist() == [
        ["cuda:0", 4096, 512, 1536, 2048, 0],
        ["cuda:0", 8192, 1024, 2560, 4096, 1],
        ["cpu", 64, 100, 100, "none", 2],
        ["cuda:0", 8192, -1024, 1536, 4096, 0],  # the inner operator ends as the block is released
        ["cuda:0", 4096, -512, 1024, 4096, -1],
    ]
    assert (memory["time_ns"] - BASE_NS).tolist() == [2000, 7500, 8000, 15000, 30000]
    assert len(kineto.read(write(tmp_path / "trace.json")).events) == 3


def test_changes_are_in_order_of_time_and_of_the_device_that_ran(tmp_path):
    launch = {**operator("hipLaunchKernel", 1, 1), "cat": "hip_runtime"}
    memory = kineto.read(write(tmp_path / "trace.json", [launch, *EVENTS[:2:-1]])).memory
    assert memory["time_ns"].is_monotonic_increasing
    assert set(memory["device"]) == {"hip:0", "cpu"}


def test_older_profilers_wrote_no_totals(tmp_path):
    memory = kineto.read(write(tmp_path / "trace.json", [EVENTS[0], change(3, 4096, 512)])).memory
    assert math.isnan(memory["allocated_bytes"][0]) and math.isnan(memory["reserved_bytes"][0])


@pytest.mark.parametrize("broken", [{"Bytes": None}, {"Addr": "x"}, {"Bytes": 2**70}, {"Bytes": 0.5}])
def test_a_change_without_place_or_size_is_left_out(tmp_path, broken):
    bad = change(3, 4096, 512)
    bad["args"] |= broken
    assert kineto.read(write(tmp_path / "trace.json", [*EVENTS, bad])).memory["address"].tolist() == [
        4096, 8192, 64, 8192, 4096,
    ]  # fmt: skip


def test_wrong_values_anywhere(tmp_path):
    document = {"baseTimeNanoseconds": BASE_NS, "traceEvents": EVENTS}
    for content in mutated_values(document, 80):
        part = survives(kineto.read, tmp_path / "trace.json", content)
        if part is not None and len(part.memory):
            assert part.memory["event_id"].max() < len(part.events)


def test_merged_parts_keep_their_events_and_recordings(tmp_path):
    parts = [kineto.read(write(tmp_path / f"{name}.json")) for name in ("a", "b")]
    whole = merge([merge(parts), Part(), kineto.read(write(tmp_path / "c.json"))])
    assert whole.memory["recording"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert whole.memory["event_id"].tolist() == [0, 1, 2, 0, -1, 3, 4, 5, 3, -1, 6, 7, 8, 6, -1]
    assert whole.memory.dtypes.astype(str).to_dict() == {name: kind for name, (kind, _, _) in MEMORY_COLUMNS.items()}


@pytest.mark.parametrize("events", [EVENTS, EVENTS[:3]], ids=["with changes", "without"])
def test_the_cache_keeps_them(tmp_path, events):
    path = write(tmp_path / "trace.json", events)
    for _ in range(2):
        warm = cached_part(path, kineto.read, tmp_path / ".derived").memory
    pd.testing.assert_frame_equal(warm, kineto.read(path).memory)
    assert len(merge([Part(memory=warm), Part()]).memory) == len(warm)


def test_a_loaded_run_says_whose_memory_it_is(tmp_path):
    for rank in range(2):
        write(tmp_path / f"rank-{rank}.json")
    memory = load(tmp_path).memory
    assert memory["rank"].tolist() == [0] * 5 + [1] * 5
    assert memory["process"].astype(str).tolist() == ["rank-0"] * 5 + ["rank-1"] * 5


def test_an_empty_table_has_its_types():
    found = empty_memory().dtypes.astype(str).to_dict()
    assert found == {name: kind for name, (kind, _, _) in MEMORY_COLUMNS.items()}


def test_a_real_profile_on_the_host(tmp_path):
    """PyTorch's own counter and our table agree on a tensor of known size."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        tensor = torch.zeros(1000, 1000)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    part = kineto.read(tmp_path / "trace.json")
    row = part.memory[part.memory["bytes"] == tensor.nbytes].iloc[0]
    assert row["device"] == "cpu" and row["allocated_bytes"] >= tensor.nbytes
    assert row["address"] == tensor.data_ptr()
    assert part.events["name"][row["event_id"]] in ("aten::empty", "aten::zeros")
