"""The sharding analysis: hand-made manifests, the golden run, and agreement with the planner."""

import numpy as np
import pytest
from hand_made import event, run_of

import workbench as wb
from workbench.costs.sharding import StepShape
from workbench.embeddings.planner import plan_tables
from workbench.embeddings.tables import TableShard, synthetic_tables
from workbench.metrics import define


def described(table, plan) -> list[dict]:
    """The manifest's entries of one table: a shard each."""
    shards = [(placed, TableShard.of(table, placed)) for placed in plan.shards]
    return [
        {
            "name": table.name, "scheme": plan.scheme, "rank": placed.rank, "rows": shard.rows, "dim": shard.dim,
            "row_bytes": shard.row_bytes, "state_bytes_per_row": shard.state_bytes_per_row,
            "pooling_factor": table.pooling_factor * shard.rows / table.rows,
        }
        for placed, shard in shards
    ]  # fmt: skip


def run_with(manifest: dict):
    return run_of(event("aten::mm", "compute", 0, 10), manifest=manifest)


@pytest.mark.parametrize("method", ["greedy", "karmarkar-karp"])
def test_a_planned_run_reads_back_as_it_was_planned(method):
    tables = synthetic_tables(9, (50, 5_000), (32,) * 9, 6.0, 1)
    planned = plan_tables(tables, StepShape(4, 16, 4), method=method)
    pairs = zip(tables, planned.plan.tables, strict=True)
    shards = [shard for table, plan in pairs for shard in described(table, plan)]
    manifest = {"ranks": 4, "samples_per_step": 64, "tables": shards}
    result = wb.analyze(run_with(manifest), "sharding")
    np.testing.assert_allclose(result.table["predicted_ns"], planned.loads_ns)
    assert result.summary["max_over_mean"] == pytest.approx(planned.max_over_mean)
    assert any("every byte counts one nanosecond" in note for note in result.notes)
    shards = wb.analyze(run_with(manifest), "sharding", by="shard").table
    assert shards["predicted_ns"].is_monotonic_decreasing
    columns = ["table", "rank", "rows", "dim", "stored_bytes"]
    expected = planned.table()[columns]
    assert sorted(map(tuple, shards[columns].values)) == sorted(map(tuple, expected.values))


def test_the_golden_run_is_predicted_with_its_own_ceilings(golden_run):
    result = wb.analyze(golden_run, "sharding")
    table = result.table
    assert list(table["rank"]) == [0, 1] and list(table["shards"]) == [2, 2]
    assert (table["measured_ns"] > 0).all() and (table["lookup_ns"] > 0).all()
    assert table["over_mean"].mean() == pytest.approx(1)
    whole = sum(t["rows"] * (t["row_bytes"] + t["state_bytes_per_row"]) for t in golden_run.manifest["tables"])
    assert table["stored_bytes"].sum() == whole
    assert 0 < result.summary["predicted_over_measured"] < 1  # bytes alone are less than what a few rows take


def test_other_traces_have_no_sharding():
    assert "names no embedding tables" in wb.analyze(run_with({}), "sharding").reason


def test_bytes_on_the_wire_by_scheme():
    counted = {"row-wise": {"input": 100.0, "forward": 200.0, "backward": 300.0}, "dense": {"backward": 400.0}}
    result = wb.analyze(run_with({"results": {"wire_bytes_per_step": counted}}), "sharding", by="scheme")
    assert list(result.table["scheme"]) == ["row-wise", "dense"] and list(result.table["source"]) == ["measured"] * 2
    assert list(result.table["sent_bytes"]) == [600, 400] and list(result.table["sent_share"]) == [0.6, 0.4]
    assert result.summary["sent_bytes"] == 1000
    for key in [*result.table.columns, *result.summary]:
        assert define("sharding", key), key
    assert [bar.name for bar in wb.figure(result).data][:2] == ["lookups", "pooled rows"]
    assert "one rank" in wb.analyze(run_with({}), "sharding", by="scheme").reason
