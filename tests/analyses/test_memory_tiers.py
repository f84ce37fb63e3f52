"""Memory tiers on streams of a few accesses, worked by hand; software caches against theory."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hand_made import event, kernel, run_of, span
from hand_made_ceilings import ceilings

from workbench.analyses import analyze
from workbench.analyses.core import access_stream
from workbench.analyses.core.access_stream import (
    DENSE,
    POOLED_GRADIENT,
    POOLED_OUTPUT,
    ROW_LOOKUP,
    ROW_UPDATE,
    DenseStep,
    dense_step,
    row_touches,
    touches,
    windows,
)  # fmt: skip
from workbench.analyses.memory_tiers import memory_tiers
from workbench.costs import Cost, Gather
from workbench.errors import InputError
from workbench.metrics import define
from workbench.trace.loader import load
from workbench.trace.run import Run

GIGA = 1e9
TABLE = {"name": "users", "rows": 100, "dim": 16, "row_bytes": 64, "state_bytes_per_row": 0, "rank": 0}
# The nearest tier holds 3 lines.
LEVELS = {"cpu": [{"tier": "l2", "capacity_bytes": 192}, {"tier": "dram", "capacity_bytes": None}]}
CEILINGS = [
    {"kind": "bandwidth", "tier": "l2", "name": "triad", "active": 1, "unit": "B/s", "value": 4 * GIGA},
    {"kind": "bandwidth", "tier": "dram", "name": "triad", "active": 1, "unit": "B/s", "value": 2 * GIGA},
    {"kind": "gather", "tier": "l2", "row_bytes": 64, "working_set_bytes": 100, "unit": "B/s", "value": 2 * GIGA},
    {"kind": "gather", "tier": "dram", "row_bytes": 64, "working_set_bytes": 1e5, "unit": "B/s", "value": GIGA},
]


def accesses(steps: dict[int, list[list[int]]], process: str = "rank-0", bags: int = 1) -> pd.DataFrame:
    """`steps`: step -> rows of each table; all of a table's rows in `bags` bags, as equal as may be."""
    rows = [
        (process, step, table, np.array([len(part) for part in np.array_split(looked_up, bags)]), np.array(looked_up))
        for step, tables in steps.items()
        for table, looked_up in enumerate(tables)
    ]
    return pd.DataFrame(rows, columns=["process", "step", "table", "lengths", "rows"])


def run_with(accessed: pd.DataFrame, tables: list[dict] | None = None, events: list[dict] | None = None) -> Run:
    manifest = {"threads_per_rank": 1, "tables": tables or [TABLE]}
    run = run_of(*(events or [span("step", "span", 0, 10)]), manifest=manifest, ceilings=ceilings(CEILINGS, LEVELS))
    run.accesses = accessed
    return run


def only_window(accessed: pd.DataFrame) -> access_stream.Window:
    (window,) = windows(accessed)
    return window


def test_tiers_by_hand():
    """Stream, in lines: rows 1 2 3, pooled output P | rows 3 1 9, P; the second step counts. Row 3 has one other line
    (P) in between and hits; row 1 has three (2, 3, P); row 9 is new; P has three (3, 1, 9)."""
    result = memory_tiers(run_with(accesses({0: [[1, 2, 3]], 1: [[3, 1, 9]]})))
    near, memory = result.table.to_dict("records")
    assert (near["tier"], near["accesses_share"], near["read_bytes"], near["write_bytes"]) == ("l2", 1 / 3, 64, 64)
    # Memory takes P back once more: its stay in l2 during the first step ended dirty, so does the second.
    assert (memory["tier"], memory["accesses_share"], memory["read_bytes"], memory["write_bytes"]) == (
        "dram",
        2 / 3,
        192,
        64,
    )
    assert near["time_ns"] == pytest.approx(64 / 2 + 64 / 4)  # one row gathered, one line of P stored
    assert memory["time_ns"] == pytest.approx(128 / 1 + 64 / 2 + 64 / 2)  # two rows gathered, P read and taken back
    assert memory["bandwidth_bytes_per_s"] == pytest.approx(256 / 192 * GIGA)
    assert result.table["bytes_share"].sum() == pytest.approx(1) and result.table["time_share"].sum() == pytest.approx(
        1
    )
    assert memory["source"] == "modelled" and math.isnan(memory["capacity_bytes"])
    summary = result.summary
    assert summary["memory_share"] == pytest.approx(2 / 3)
    assert (summary["counted_steps"], summary["prefix_steps"], summary["lookups"], summary["unique_rows"]) == (
        1,
        1,
        3,
        3,
    )
    assert summary["embedding_predicted_ns"] == near["time_ns"] + memory["time_ns"]
    assert math.isnan(summary["embedding_measured_ns"])
    assert any("no operators were profiled" in note for note in result.notes)


def test_what_if_cuts_the_same_distances_again():
    run = run_with(accesses({0: [[1, 2, 3]], 1: [[3, 1, 9]]}))
    larger = memory_tiers(run, last_level_bytes=256)  # 4 lines: row 1 and P fit, row 9 is still new
    assert larger.table["accesses_share"].tolist() == [2 / 3, 1 / 3]
    assert larger.table["write_bytes"].tolist() == [64, 0]
    faster = memory_tiers(run, memory_bytes_per_s=4 * GIGA)
    assert faster.table["time_ns"].tolist() == pytest.approx([48, 256 / 4])
    assert larger.notes[0].startswith("what-if") and faster.notes[0].startswith("what-if")
    with pytest.raises(InputError, match="last_level_bytes=-1 must be above 0"):
        memory_tiers(run, last_level_bytes=-1)


def test_order_and_size_of_touches():
    """128 B rows span 2 lines; 4 B of state a row: sixteen rows share a line of states; two bags of 32 floats."""
    table = TABLE | {"dim": 32, "row_bytes": 128, "state_bytes_per_row": 4}
    dense = DenseStep(before=[(10, 0)], between=[(7, 3)], after=[(5, 5)])
    stream = touches(only_window(accesses({4: [[5, 5, 20]]}, bags=2)), [table], dense)
    assert stream.part.tolist() == [
        DENSE, *[ROW_LOOKUP] * 3, POOLED_OUTPUT, DENSE, POOLED_GRADIENT, *[ROW_UPDATE] * 4, DENSE,
    ]  # fmt: skip
    assert stream.lines.tolist() == [10, 2, 2, 2, 4, 7, 4, 2, 1, 2, 1, 5]
    assert stream.written.tolist() == [0, 0, 0, 0, 4, 3, 0, 2, 1, 2, 1, 5]
    row_5, again, row_20 = stream.unit[1:4]
    assert row_5 == again != row_20
    updated_5, state_0, updated_20, state_1 = stream.unit[7:11]
    assert (updated_5, updated_20) == (row_5, row_20) and state_0 != state_1
    assert len(set(stream.unit)) == 3 + 2 + 4  # dense blocks, pooled ones, rows and lines of states


def test_rows_shorter_than_a_line_share_it():
    table = TABLE | {"dim": 4, "row_bytes": 16}
    stream = touches(only_window(accesses({0: [[0, 3, 4]]})), [table], DenseStep(updates=False))
    lookups = stream.unit[stream.part == ROW_LOOKUP]
    assert lookups[0] == lookups[1] != lookups[2]


def test_dense_operators_stand_around_the_embedding_operators():
    gather = Gather(3, 64, 6400)
    costs = {
        0: Cost(8, 100, 28, "fp32", "matrix_product"),
        1: Cost(0, 200, 64, "fp32", "embedding_bag", gather),
        2: Cost(0, 64, 64, "fp32", "copy"),
        3: Cost(0, 256, 192, "fp32", "embedding_update", gather),
        4: Cost(0, 0, 0, "fp32", "view"),
    }
    calls = pd.DataFrame(
        {"operator_id": [0, 1, 2, 4, 3, 0, -1], "start_ns": range(7), "phase": ["forward"] * 4 + ["backward"] * 3}
    ).assign(name="aten::some")
    assert dense_step(calls, costs, updates=True) == DenseStep([(2, 1)], [(2, 1)], [(2, 1)], updates=True)


def test_dense_operands_flush_the_nearest_tier():
    """Between a step's lookups of the same row, a product of 1280 B leaves nothing of 192 B."""
    product = event("aten::mm", "compute", 0, 100, shapes="[[8, 16], [16, 8]]")
    same_row = accesses({0: [[1]], 1: [[1]]})
    kept = memory_tiers(run_with(same_row))
    flushed = memory_tiers(run_with(same_row, events=[product]))
    assert kept.summary["memory_share"] == 0 and flushed.summary["memory_share"] == 1
    by_phase = memory_tiers(run_with(same_row, events=[product]), by="phase").table
    dense = by_phase[by_phase["phase"] == "dense"]
    assert dense["read_bytes"].tolist() == [0, 1280] and dense["write_bytes"].tolist() == [256, 256]
    assert set(by_phase["phase"]) == {"lookup", "update", "dense"}
    assert by_phase["bytes_share"].sum() == pytest.approx(1)


def test_predicted_against_measured_embedding_time():
    lookup = event("aten::embedding", "compute", 0, 640, shapes="[[100, 16], [3]]")
    result = memory_tiers(run_with(accesses({0: [[1, 2, 3]], 1: [[3, 1, 9]]}), events=[lookup]))
    assert result.summary["embedding_measured_ns"] == 640
    assert result.summary["predicted_over_measured"] == pytest.approx(240 / 640)


def test_a_cyclic_scan_through_software_caches():
    """64 rows in turn: an LRU cache misses all below 64 rows, and nothing at 64."""
    scan = {step: [list(range(64))] for step in range(4)}
    result = memory_tiers(run_with(accesses(scan)), by="capacity")
    below, full = result.table.to_dict("records")
    assert (below["capacity_rows"], below["capacity_bytes"], full["capacity_rows"]) == (32, 2048, 64)
    for per in ("lookup", "unique_row"):
        assert (below[f"{per}_miss_share"], full[f"{per}_miss_share"]) == (1, 0)
        assert full[f"cold_share_per_{per}"] == 0
    assert (below["simulated_lru_miss_share"], below["simulated_fifo_miss_share"]) == (1, 1)
    assert result.summary["supported_rows"] == 64
    beyond = memory_tiers(run_with(accesses(scan)), by="capacity", cache_rows=65)
    assert math.isnan(beyond.summary["lookup_hit_share"])
    assert any("a cache of 65 rows is larger" in note for note in beyond.notes)


def test_hit_rate_has_two_meanings():
    """Each step looks two new rows up four times each: a lookup hits in 3 of 4, a unique row never."""
    steps = {step: [[2 * step, 2 * step + 1] * 4] for step in range(40)}
    result = memory_tiers(run_with(accesses(steps)), cache_rows=32)
    assert result.summary["lookup_hit_share"] == 0.75 and result.summary["unique_row_hit_share"] == 0
    (row,) = memory_tiers(run_with(accesses(steps, bags=2)), by="table", cache_rows=32).table.to_dict("records")
    assert (row["lookups"], row["pooling_factor"], row["unique_share"], row["touched_rows"]) == (160, 4, 0.25, 40)
    assert (row["lookup_bytes"], row["touched_bytes"], row["hot_row_share"]) == (160 * 64, 40 * 64, 1 / 40)
    assert (row["lookup_hit_share"], row["unique_row_hit_share"], row["memory_share"]) == (0.75, 0, 0.25)


def test_the_longest_run_of_steps_is_used_and_cut_after_whole_steps():
    gappy = accesses({step: [[1, 2]] for step in (3, 4, 9, 10, 11, 12, 20)})
    assert only_window(gappy).steps == (9, 10, 11, 12) and only_window(gappy).counted_from == 11
    (limited,) = windows(gappy, lookups_limit=5)
    assert limited.steps == (9, 10)
    unit, table, step = row_touches(limited, unique=True)
    assert len(unit) == 4 and table.tolist() == [0] * 4 and step.tolist() == [9, 9, 10, 10]


def test_two_ranks_with_tables_of_their_own():
    tables = [TABLE, TABLE | {"name": "items", "rank": 1, "row_bytes": 128, "dim": 32}]
    second = accesses({0: [[], [7, 8]], 1: [[], [7, 9]]}, process="rank-1")
    both = pd.concat([accesses({0: [[1, 2, 3]], 1: [[3, 1, 9]]}), second[second["table"] == 1]])
    result = memory_tiers(run_with(both, tables), by="table")
    assert result.table[["table", "rank", "lookups"]].values.tolist() == [["users", 0, 3], ["items", 1, 2]]
    assert result.summary["lookups"] == 5 and result.summary["supported_rows"] == 2
    assert result.summary["cache_bytes"] == result.summary["cache_rows"] * 128


@pytest.mark.parametrize("by", ["tier", "phase", "table", "capacity"])
def test_samples_that_hold_next_to_nothing(by):
    """One step alone, and a step in which no bag holds anything: no figure where there is none, and no failure."""
    alone = memory_tiers(run_with(accesses({7: [[1, 2]]})), by=by)
    assert (alone.summary["counted_steps"], alone.summary["prefix_steps"], alone.summary["lookups"]) == (1, 0, 2)
    assert math.isnan(alone.summary["lookup_hit_share"])  # nothing filled a cache
    emptied = memory_tiers(run_with(accesses({0: [[1, 2]], 1: [[]]})), by=by)
    assert emptied.summary["lookups"] == 0 and json.dumps(emptied.to_dict())


def test_without_accesses_memory_carries_every_operand_once():
    copy = event("aten::copy_", "memory", 0, 10, shapes="[[8], [8]]")
    product = event("aten::mm", "compute", 20, 90, shapes="[[8, 16], [16, 8]]")
    run = run_of(copy, product, manifest={"threads_per_rank": 1}, ceilings=ceilings(CEILINGS, LEVELS))
    (memory,) = memory_tiers(run).table.to_dict("records")
    assert (memory["tier"], memory["read_bytes"], memory["write_bytes"]) == ("dram", 32 + 1024, 32 + 256)
    assert (memory["time_ns"], memory["source"]) == (1344 / 2, "modelled")
    assert any("no embedding accesses" in note for note in memory_tiers(run).notes)
    assert not memory_tiers(run, by="table").applies


def test_copies_over_a_link_are_measured():
    traffic = pd.DataFrame(
        {"event_id": [3, 3], "tier": ["pcie", "hbm"], "read_bytes": [500.0, 0], "write_bytes": [0, 500.0]}
    ).astype({"tier": "category"})
    run = run_of(
        event("aten::mm", "compute", 0, 50, shapes="[[8, 16], [16, 8]]"),
        event("cudaLaunchKernel", "runtime", 10, 20),
        kernel("gemm", "compute", 30, 90, launch_id=1),
        kernel("Memcpy HtoD", "memory", 100, 300),
        traffic=traffic,
    )
    memory, link = memory_tiers(run).table.to_dict("records")
    assert (memory["tier"], memory["read_bytes"], memory["source"]) == ("hbm", 1024, "modelled")
    assert (link["tier"], link["read_bytes"], link["time_ns"], link["source"]) == ("pcie", 500, 200, "measured")
    assert math.isnan(memory["time_ns"])  # nothing is known of this device
    counted = memory_tiers(run, by="measured").table
    assert set(zip(counted["tier"], counted["read_bytes"], counted["write_bytes"], strict=True)) == {
        ("pcie", 500, 0), ("hbm", 0, 500),
    }  # fmt: skip
    assert set(counted["source"]) == {"measured"} and set(counted["time_ns"]) == {200}


def test_what_a_row_cache_moved_in_memory_stands_beside_the_model():
    fetch = span("row_fetch", "memory", 0, 50, step=1)
    run = run_with(accesses({step: [list(range(40))] for step in range(4)}), events=[fetch])
    assert not memory_tiers(run, by="measured").applies and "by=measured" not in str(memory_tiers(run).notes)
    run.traffic = pd.DataFrame({"event_id": [0], "tier": ["dram"], "read_bytes": [64.0], "write_bytes": [32.0]}).astype(
        {"tier": "category"}
    )
    assert "by=measured" in str(memory_tiers(run).notes)
    result = memory_tiers(run, by="measured")
    [moved] = result.table.to_dict("records")
    assert (moved["operator"], moved["tier"], moved["read_bytes"], moved["write_bytes"]) == (
        "row_fetch",
        "dram",
        64,
        32,
    )
    assert (moved["source"], moved["time_ns"]) == ("measured", 50)
    assert all(define("memory_tiers", key) is not None for key in result.table)


def test_nothing_to_say_without_accesses_or_operators():
    assert not memory_tiers(run_of(event("mine::op", "compute", 0, 10))).applies


def test_every_key_is_defined_and_the_result_turns_into_json():
    steps = {step: [list(range(40))] for step in range(4)}
    for by in ("tier", "table", "capacity", "phase"):
        result = analyze(run_with(accesses(steps)), "memory_tiers", by=by)
        assert len(result.table) > 0
        for key in [*result.table.columns, *result.summary]:
            assert define("memory_tiers", key) is not None, key
        assert json.loads(json.dumps(result.to_dict()))["analysis"] == "memory_tiers"


def test_public_dlrm_trace(real_data):
    result = memory_tiers(load(real_data / "traces" / "dlrm_8x_v100"))
    assert result.table["tier"].tolist() == ["hbm", "pcie"] and (result.table["read_bytes"] > 0).all()
    assert result.table["source"].tolist() == ["modelled", "measured"]
