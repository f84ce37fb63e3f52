"""Snapshots of the CUDA allocator: written, read, worked out by hand, damaged."""

import json

import pytest
from damaged import mutated_bytes, mutated_values, survives

from workbench.analyses.memory import memory
from workbench.errors import InputError
from workbench.trace.memory_table import MEMORY_COLUMNS
from workbench.trace.readers import snapshot
from workbench.trace.recognise import format_of
from workbench.trace.run import Run
from workbench.trace.snapshot import save_snapshot


def frames(*places):
    return [{"filename": file, "line": line, "name": name} for file, line, name in places]


LINEAR = frames(
    ("??", 0, "c10::cuda::Native::malloc"), ("/env/lib/python3.11/site-packages/torch/nn/linear.py", 7, "forward"),
    ("/src/model.py", 35, "forward"), ("/src/train.py", 9, "main"),
)  # fmt: skip
INIT = frames(("/src/model.py", 12, "__init__"))


def block(address, size, state="active_allocated", stack=()):
    return {"address": address, "size": size, "requested_size": size, "state": state, "frames": list(stack)}


def action(kind, address, size, time_us, stack=()):
    return {"action": kind, "addr": address, "size": size, "stream": 0, "time_us": time_us, "frames": list(stack)}


# In use now: 100 (since before the history begins) and 300. Before, 50 more were in use, and 1000 fewer reserved.
SNAPSHOT = {
    "segments": [
        {"device": 0, "address": 1000, "total_size": 400, "stream": 0, "segment_type": "small", "blocks": [
            block(1000, 100, stack=INIT), block(1100, 300, stack=LINEAR)]},
        {"device": 0, "address": 9000, "total_size": 1000, "stream": 0, "segment_type": "large", "blocks": [
            block(9000, 1000, "inactive")]},
    ],
    "device_traces": [[
        action("free_requested", 500, 50, 10), action("free_completed", 500, 50, 10),
        action("alloc", 1100, 300, 20, LINEAR), action("segment_alloc", 9000, 1000, 30, LINEAR),
        action("alloc", 9000, 700, 30, LINEAR), action("free_requested", 9000, 700, 40),
        {"action": "oom", "size": 10**9, "device_free": 5, "time_us": 50, "frames": LINEAR},
    ]],
    "allocator_settings": {"expandable_segments": False},
}  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    return save_snapshot(tmp_path / "memory.json", SNAPSHOT)


def test_totals_worked_out_backwards(saved):
    part = snapshot.read(saved)
    assert list(part.memory) == list(MEMORY_COLUMNS)
    rows = part.memory[["time_ns", "address", "bytes", "allocated_bytes", "reserved_bytes", "site"]]
    assert rows.astype({"site": object}).values.tolist() == [
        [10_000, 1000, 100, 150, 400, "model.py:12 __init__"],
        [10_000, 500, -50, 100, 400, ""],
        [20_000, 1100, 300, 400, 400, "model.py:35 forward"],
        [30_000, 9000, 0, 400, 1400, "model.py:35 forward"],
        [30_000, 9000, 700, 1100, 1400, "model.py:35 forward"],
        [40_000, 9000, -700, 400, 1400, ""],
    ]
    assert set(part.memory["device"]) == {"cuda:0"}
    assert part.notes == ["memory.json: the allocator ran out of memory 1 times"]


def test_who_holds_the_peak(saved):
    result = memory(Run(saved, memory=snapshot.read(saved).memory), by="holder")
    assert dict(zip(result.table["name"], result.table["held_bytes"], strict=True)) == {
        "model.py:35 forward": 1000, "model.py:12 __init__": 100,
    }  # fmt: skip
    assert (result.summary["peak_allocated_bytes"], result.summary["seen_share"]) == (1100, 1)


def test_only_what_is_needed_is_written(saved):
    document = json.loads(saved.read_text())
    assert set(document) == {"segments", "device_traces", "rank", "saved_us"}
    kept = document["device_traces"][0][2]["frames"]
    assert [frame["filename"] for frame in kept] == ["/src/model.py", "/src/train.py"]
    assert format_of(saved) == "snapshot"
    assert not saved.with_name(".memory.json.part").exists()


def test_what_torch_itself_says_as_json_can_be_read_too(tmp_path, saved):
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps(SNAPSHOT))
    assert format_of(raw) == "snapshot"
    assert snapshot.read(raw).memory.equals(snapshot.read(saved).memory)


def test_a_snapshot_without_history_shows_what_is_held(tmp_path):
    path = save_snapshot(tmp_path / "memory.json", SNAPSHOT | {"device_traces": [[]]})
    part = snapshot.read(path)
    assert part.memory["bytes"].tolist() == [100, 300] and part.memory["allocated_bytes"].tolist() == [100, 400]
    assert part.memory["reserved_bytes"].tolist() == [1400, 1400]
    assert "_record_memory_history" in part.notes[0]


def test_several_devices_and_older_blocks(tmp_path):
    """Blocks had no address of their own until 2023: they lie end to end in their segment."""
    blocks = [{"size": 64, "state": "active_allocated"}, {"size": 32, "state": "active_allocated"}]
    segments = [
        {"device": device, "address": 100, "total_size": 128, "stream": 0, "blocks": blocks} for device in (0, 3)
    ]
    path = save_snapshot(tmp_path / "memory.json", {"segments": segments, "device_traces": []})
    found = snapshot.read(path).memory
    assert found["address"].tolist() == [100, 164] * 2
    assert found["device"].astype(str).tolist() == ["cuda:0", "cuda:0", "cuda:3", "cuda:3"]


def test_the_rank_is_the_launchers(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "5")
    assert snapshot.read(save_snapshot(tmp_path / "memory.json", SNAPSHOT)).info["rank"] == 5


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        save_snapshot(tmp_path / "no such folder" / "memory.json", SNAPSHOT)


def test_without_a_gpu_it_says_what_to_do_instead(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="profile_memory"):
        save_snapshot(tmp_path / "memory.json")


def test_damaged_snapshots(tmp_path, saved):
    for content in mutated_bytes(saved.read_bytes(), 60):
        survives(snapshot.read, tmp_path / "damaged.json", content)
    for content in mutated_values(json.loads(saved.read_text()), 80):
        survives(snapshot.read, tmp_path / "damaged.json", content)
