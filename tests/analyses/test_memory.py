"""The memory analysis on tables worked out by hand, against a replay of every block, and on public traces."""

import numpy as np
import pytest
from hand_made import EPOCH_NS, event, run_of, span
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.analyses.core.memory_use import BEFORE, holders, memory_use
from workbench.analyses.memory import MOST_POINTS, memory
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.memory_table import memory_frame


def changes(*rows, device="cuda:0", **columns):
    """The memory table of (time, address, bytes, allocated after, event); 1000 bytes are reserved."""
    time, address, size, allocated, event_id = zip(*rows, strict=True)
    told = {
        "time_ns": [EPOCH_NS + t for t in time], "address": address, "bytes": size, "allocated_bytes": allocated,
        "event_id": event_id, "device": [device] * len(rows), "reserved_bytes": [1000.0] * len(rows),
        "rank": [0] * len(rows), "process": ["rank-0"] * len(rows),
    }  # fmt: skip
    return memory_frame(told | columns)


STEP = (
    event("ProfilerStep#2", "span", 0, 100, step=2),
    event("aten::zeros", "compute", 10, 20, step=2, phase="forward"),
    event("aten::empty", "compute", 12, 14, step=2, phase="forward"),
    event("aten::mm", "compute", 30, 40, step=2, phase="forward"),
    event("aten::mul", "compute", 50, 60, step=2, phase="backward"),
    event("aten::empty", "compute", 62, 64, step=2, phase="backward"),
)
# 100 bytes were there before, and 40 of them go at time 45.
BLOCKS = changes(
    (13, 0xA, 200, 300, 2), (31, 0xB, 300, 600, 3), (35, 0xC, 50, 650, 3), (38, 0xC, -50, 600, 3),
    (45, 0x1, -40, 560, 0), (51, 0xD, 100, 660, 4), (63, 0xE, 10, 670, 5), (70, 0xA, -200, 470, 0),
)  # fmt: skip


def run_with(memory_table, *events):
    return run_of(*(events or STEP), memory=memory_table)


def test_peaks_of_phases_by_hand():
    table = memory(run_with(BLOCKS)).table.set_index("phase")
    assert list(table.index) == ["forward", "", "backward"]
    assert table["peak_allocated_bytes"].tolist() == [650, 670, 670]  # the phase "" finds 670 before its last release
    assert table["peak_reserved_bytes"].tolist() == [1000] * 3
    assert table["allocations"].tolist() == [3, 0, 2]
    assert table["new_bytes"].tolist() == [550, 0, 110] and table["freed_bytes"].tolist() == [50, 240, 0]


def test_holders_at_the_peak_by_hand():
    result = memory(run_with(BLOCKS), by="holder")
    held = [tuple(row) for row in result.table[["name", "phase", "blocks", "held_bytes"]].to_numpy()]
    assert held == [
        ("aten::mm", "forward", 1, 300), ("aten::zeros", "forward", 1, 200), ("aten::mul", "backward", 1, 100),
        (BEFORE, "", None, 60), ("aten::empty", "backward", 1, 10),
    ]  # fmt: skip
    assert result.table["held_share"].sum() == pytest.approx(1)
    summary = result.summary
    assert (summary["peak_allocated_bytes"], summary["peak_phase"], summary["peak_after_ns"]) == (670, "backward", 50)
    assert (summary["top_holder"], summary["top_holder_bytes"]) == ("aten::mm", 300)
    assert summary["seen_share"] == pytest.approx(610 / 670)


def test_a_device_by_hand():
    devices = [{"name": "cuda:0", "model": "V100", "memory_bytes": 5000}]
    run = run_of(*STEP, memory=BLOCKS, parts=[{"rank": 0, "devices": devices}])
    (row,) = memory(run, by="device").table.to_dict("records")
    assert (row["peak_allocated_bytes"], row["peak_phase"], row["peak_step"]) == (670, "backward", 2)
    assert (row["start_bytes"], row["end_bytes"], row["capacity_bytes"]) == (100, 470, 5000)
    assert (row["allocations"], row["new_bytes"], row["unused_share"]) == (5, 660, pytest.approx(0.33))


def test_over_time_by_hand():
    table = memory(run_with(BLOCKS), by="time").table
    assert table["after_ns"].tolist() == [0, 18, 22, 25, 32, 38, 50, 57]
    assert table["allocated_bytes"].tolist() == [300, 600, 650, 600, 560, 660, 670, 470]


def test_a_long_line_is_thinned_and_keeps_its_peak():
    count = 5 * MOST_POINTS
    sizes = np.where(np.arange(count) % 2, -8, 8)
    allocated = 100.0 + np.arange(count) % 2
    allocated[4321] = 9999
    run = run_with(changes(*zip(range(count), [1] * count, sizes, allocated, [0] * count, strict=True)))
    result = memory(run, by="time")
    assert len(result.table) <= MOST_POINTS and result.table["allocated_bytes"].max() == 9999
    assert any("at most" in note for note in result.notes)


def test_phases_between_operators_are_those_of_the_recorder():
    spans = (span("backward", "span", 40, 80, phase="backward"), span("step", "span", 0, 100))
    table = memory(run_with(BLOCKS, *STEP, *spans)).table.set_index("phase")
    assert table["freed_bytes"].to_dict() == {"forward": 50, "backward": 240}


def test_lines_of_code_win_over_operators():
    sites = ["model.py:3 forward"] * 2 + [""] * 6
    table = memory(run_with(BLOCKS.assign(site=sites).astype({"site": "category"})), by="holder").table
    assert table.set_index("name")["held_bytes"].to_dict()["model.py:3 forward"] == 500


def test_blocks_of_another_recording_are_not_known_at_the_peak():
    second = changes((500, 0xF, 900, 1370, -1), recording=[1])
    both = memory_frame({name: [*BLOCKS[name], *second[name]] for name in BLOCKS})
    result = memory(run_with(both), by="holder")
    assert dict(zip(result.table["name"], result.table["held_bytes"], strict=True)) == {
        "(no operator)": 900, BEFORE: 470,
    }  # fmt: skip
    assert any("between two recordings" in note for note in result.notes)


def test_the_host_comes_last_and_counts_only_alone():
    host = changes((5, 0xA, 9999, 9999, 0), device="cpu", reserved_bytes=[np.nan])
    both = memory_frame({name: [*host[name], *BLOCKS[name]] for name in BLOCKS})
    result = memory(run_with(both), by="device")
    assert result.table["device"].tolist() == ["cuda:0", "cpu"] and result.summary["peak_device"] == "cuda:0"
    assert memory(run_with(host)).summary["peak_allocated_bytes"] == 9999


def test_without_totals_it_counts():
    result = memory(run_with(BLOCKS.assign(allocated_bytes=np.nan, reserved_bytes=np.nan)), by="time")
    assert result.table["allocated_bytes"].tolist() == [200, 500, 550, 500, 460, 560, 570, 370]
    assert any("no totals" in note for note in result.notes)


def test_what_it_cannot_say():
    result = memory(run_of(*STEP))
    assert not result.applies and "profile_memory=True" in result.reason and "save_snapshot" in result.reason


@pytest.mark.parametrize("by", ["phase", "time", "holder", "device"])
def test_every_key_is_defined(by):
    result = memory(run_with(BLOCKS), by=by)
    assert [key for key in [*result.table, *result.summary] if define("memory", key) is None] == []


@settings(max_examples=15, deadline=None)  # a run takes tens of ms
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=30))
def test_holders_are_those_of_a_replay(actions):
    """An address that is in use is released, another one is allocated; the replay keeps a dict of live blocks."""
    live, rows, total = {}, [], 50
    lives = []
    for time, (address, size) in enumerate(actions):
        change = -live.pop(address) if address in live else live.setdefault(address, size)
        total += change
        rows.append((time, address, change, total, -1))
        lives.append(sum(live.values()))
    use = memory_use(run_with(changes(*rows)))
    peak = use["allocated_bytes"].idxmax()
    held = holders(use, peak).set_index("name")["held_bytes"]
    assert held.sum() == use["allocated_bytes"].max()
    assert held.drop(BEFORE, errors="ignore").sum() == lives[peak]


@pytest.mark.parametrize("file", ["bert_h100", "vit_h100", "bert_mi300"])
def test_public_traces(real_data, file):
    """Totals follow from the changes, and who holds a peak sums to it."""
    run = load(real_data / "traces" / f"{file}.json.gz")
    device = run.memory[run.memory["device"] == "cuda:0"]
    assert (device["allocated_bytes"].diff()[1:] == device["bytes"][1:]).all()
    held = memory(run, by="holder").table
    held = held[held["device"] == "cuda:0"]
    assert held["held_bytes"].sum() == device["allocated_bytes"].max()
    assert "aten::addmm" in set(held["name"]) and "aten::empty" not in set(held["name"])
    (row,) = memory(run, by="device").table.query("device == 'cuda:0'").to_dict("records")
    assert row["peak_allocated_bytes"] <= row["peak_reserved_bytes"] < row["capacity_bytes"]


def test_public_traces_without_memory_events(real_data):
    assert not memory(load(real_data / "traces" / "dlrm_8x_v100")).applies
