"""Study neo: what each part finds at scale tiny, against what is known beforehand."""

import json
import math
from dataclasses import fields
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from workbench import studies
from workbench.costs.sharding import ShardWork, StepShape, messages
from workbench.embeddings.plan import Plan, Shard, TablePlan
from workbench.embeddings.tables import TableConfig
from workbench.errors import InputError
from workbench.studies.core.folder import read
from workbench.studies.core.quantities import COLUMNS
from workbench.studies.neo_parts import (
    balance,
    cache,
    capacity,
    exactness,
    fusion,
    models,
    quality,
    ranks,
    traffic,
    trained_waterfall,
    waterfall,
)
from workbench.studies.neo_parts.paper import MODELS


def rows_of(part) -> dict[str, dict]:
    """Rows by the name of their quantity."""
    return {row["quantity"]: row for row in part.rows}


def said(text: str, share: float) -> None:
    assert text and 0 <= share <= 1


def test_the_whole_study_at_scale_tiny(tmp_path, monkeypatch):
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)  # public reuse statistics are not in a clone
    told = []
    path = studies.run("neo", "tiny", 2, tmp_path, lambda text, share: told.append(share))
    written = read(path)
    saved = json.loads((path / "study.json").read_text())
    assert written.status == "complete" and told == sorted(told) and told[-1] == 1
    assert set(saved["rows"][0]) == set(COLUMNS) and len(saved["curves"]) >= 8
    table = written.result.table
    assert table["quantity"].is_unique and len(table) == written.result.summary["quantities"]
    assert set(table["source"]) == {"measured", "modelled", "simulated"}
    # Only what has a source is judged.
    judged = table[~table["verdict"].str.startswith("not testable")]
    assert len(judged) >= 10 and judged["scale_free"].all() and (judged["criterion"] != "").all()
    assert not judged["tag"].str.contains("unverified").any() and (judged["tag"] != "").all()
    absent = table[table["quantity"].str.startswith("hits of unique rows")]
    assert absent["ours"].isna().all() and absent["verdict"].str.contains("WORKBENCH_DATA").all()
    assert "not reproduced" not in set(table["verdict"])
    # 8 tables of 16 fp32 columns are 512 B a sample, of which half are wanted by the rank that has them.
    (on_the_wire,) = (curve.table for curve in written.result.curves if curve.title.startswith("Bytes on the wire"))
    bytes_of = {(point["run"], point["what travels"]): point["B a sample"] for point in on_the_wire}
    assert bytes_of["table-wise, fp32", "forward"] == bytes_of["table-wise, fp32", "backward"] == 256
    assert bytes_of["row-wise, fp32", "forward"] == 512
    (trained,) = (curve.table for curve in written.result.curves if curve.title.startswith("Optimisations trained"))
    assert [point["step"] for point in trained] == [setting.name for setting in waterfall.SETTINGS]
    assert trained[0]["samples/s over the first"] == 1 and all(point["low"] <= point["high"] for point in trained)


def test_capacity_is_the_papers_arithmetic():
    rows = rows_of(capacity.run("tiny", range(1), said))
    assert rows[capacity.STATE_SHARE.name]["ours"] == pytest.approx(1 / 256)
    assert rows[capacity.SAVING.name]["ours"] == pytest.approx(8 / (2 + 4 / 256))
    assert {row["verdict"] for row in rows.values()} == {"reproduced"}


def test_models_stand_beside_the_papers():
    (curve,) = models.run("tiny", range(1), said).curves
    assert [(point["label"], point[models.PARAMETERS]) for point in curve.paper] == [
        (model.name, model.parameters) for model in MODELS
    ]
    # The preset `tiny`: 8 tables of 16 columns, MLPs 13-32-16 and 52-32-1.
    parameters, mflops = models.counted("tiny")
    dense = (14 * 32 + 33 * 16) + (53 * 32 + 33 * 1)
    assert (parameters - dense) % 16 == 0
    products = 2 * (13 * 32 + 32 * 16 + 52 * 32 + 32 * 1) + 2 * 9 * 9 * 16
    assert products / 1e6 < mflops < 1.2 * products / 1e6


def test_bytes_by_scheme_worked_by_hand():
    """4 ranks in 2 hosts, one sample each, 1 B an element, 8 columns."""
    rows = [Shard(r, 2 * r, 2 * r + 2, 0, 8) for r in range(4)]
    host = [Shard(r, 4 * r, 4 * r + 4, 0, 8) for r in range(2)]
    whole, all_rows, by_host = (
        traffic.sent_bytes(Plan(4, (TablePlan("t", scheme, tuple(shards)),)), 1, 1)
        for scheme, shards in (("table-wise", [Shard(0, 0, 8, 0, 8)]), ("row-wise", rows), ("table-row-wise", host))
    )
    assert whole.tolist() == [[0, 8, 8, 8], [0] * 4, [0] * 4, [0] * 4]
    assert all_rows.tolist() == (8 * (1 - np.eye(4))).tolist()
    # Ranks 0 and 1 exchange partial sums of two samples each, then each sends one sample's to its place in host 2.
    assert by_host.tolist() == [[0, 16, 8, 0], [16, 0, 0, 8], [0] * 4, [0] * 4]


@pytest.mark.parametrize("scheme", ["table-wise", "row-wise", "table-row-wise"])
def test_bytes_by_scheme_are_the_planners(scheme):
    """The cost model's message, less what stays on its rank, is what the busiest rank sends."""
    ranks, host_ranks = 32, 8
    plan = traffic.one_table_plan(scheme, ranks)
    shard = plan.tables[0].shards[0]
    work = ShardWork(scheme, shard.rows, shard.dim, 4.0 * shard.dim, 4.0, 1.0)
    step = StepShape(ranks, 3, host_ranks, forward_element_bytes=2, backward_element_bytes=0)
    collectives = messages(work, step)[1:]
    expected = sum(size * (group - 1) / group for _, size, group in collectives)
    assert traffic.sent_bytes(plan, 3, 2).sum(axis=1).max() == pytest.approx(expected)


def test_planners_beat_chance_and_splitting_columns_beats_them():
    rows = rows_of(balance.run("tiny", range(3), said))
    random, greedy, differencing, split = (row["ours"] for row in rows.values())
    assert random > greedy >= differencing > split >= 1


def test_the_random_placement_is_a_mean_and_a_maximum():
    tables = balance.model_a_tables(16, 0)
    assert balance.max_over_mean(tables, StepShape(1, 8, 1), "random", 0) == 1


REUSE = """x.pt
Ratio of index distribution at different column sizes:
(0, 1]: 0.250
(1, 2]: 0.250
(32768+: 0.500
[0, 1, 2, 32768]
"""


def test_reuse_is_read_and_turned_into_frequencies():
    uses, shares = cache.read_reuse(REUSE)
    assert uses == pytest.approx([1, 2, math.sqrt(32769 * 65536)]) and shares.tolist() == [0.25, 0.25, 0.5]
    frequencies = cache.row_frequencies(uses, shares, 300)
    # Rows once used are twice as many as those used twice; of the hottest there is one.
    assert len(frequencies) == 301 and frequencies.sum() == pytest.approx(1)
    assert sorted(np.unique(frequencies, return_counts=True)[1].tolist()) == [1, 100, 200]
    with pytest.raises(InputError, match="Ratio of index distribution"):
        cache.read_reuse("something else")


def test_a_stream_holds_each_row_once_a_batch():
    stream, counted = cache.unique_row_stream(np.full(100, 0.01), seed=0)
    assert len(stream) == len(counted) and set(stream) == set(range(100))
    assert counted.mean() == pytest.approx(0.5, abs=0.05)


def test_hit_rates_on_the_public_reuse(real_data, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", str(real_data))
    (curve,) = cache.run("tiny", range(1), said).curves
    for policy in ("LRU", "LFU"):
        hits = [point["hits / accesses"] for point in curve.table if point["policy"] == policy]
        assert hits == sorted(hits) and hits[0] > 0 and hits[-1] < 1
    # Independent draws have no recency to exploit: counting wins.
    by_policy = {(p["policy"], p["share of rows cached"]): p["hits / accesses"] for p in curve.table}
    assert by_policy["LFU", 0.1] > by_policy["LRU", 0.1]


def test_fusion_saves_the_gradient_of_every_lookup():
    rows = rows_of(fusion.run("tiny", range(2), said))
    assert rows[fusion.GRADIENT.name]["ours"] == 20 and rows[fusion.GRADIENT.name]["tag"].startswith("unverified")
    assert rows[fusion.PEAK.name]["verdict"] == rows[fusion.TRAFFIC.name]["verdict"] == "reproduced"
    assert rows[fusion.SPEED.name]["verdict"].startswith("not testable here")


def test_a_known_allocation_is_the_peak():
    assert fusion.peak_bytes(lambda: torch.empty(1000)) == 4000


def test_sharded_lookups_are_equal_to_the_bit_except_where_sums_are_split():
    whole, sharded = exactness.unsharded_lookup(16, 3), exactness.sharded_lookups(16, 3)
    assert torch.equal(whole, sharded["table-wise"]) and torch.equal(whole, sharded["column-wise"])
    assert not torch.equal(whole, sharded["row-wise"]) and torch.allclose(whole, sharded["row-wise"], atol=1e-5)


def test_low_precision_starts_from_the_same_model_and_data():
    size = quality.Size(tables=2, rows=50, batch=64, steps=3)
    data = quality.make_data(size, seed=1)
    batches, held_out = list(islice(data.batches(), size.steps)), list(data.held_out(0, 1, 1))
    entropies = [quality.trained_entropy(variant, data, batches, held_out) for variant in (quality.BASELINE,) * 2]
    assert entropies[0] == entropies[1]
    lossy = quality.trained_entropy(quality.VARIANTS[2], data, batches, held_out)
    assert lossy != entropies[0] and lossy == pytest.approx(entropies[0], abs=0.01)


def test_the_iteration_model_by_hand():
    times = {"bottom_ns": 2, "top_ns": 10, "lookup_ns": 3, "update_ns": 6, "exchange_ns": 5, "all_reduce_ns": 8}
    # Forward max(2, 3 + 5) + 10 = 18; backward max(20 + max(5 + 6, 4), 8) = 31.
    assert waterfall.Iteration(**times).step_ns == 49
    # Where the all-reduce lasts longest it hides everything else of the backward pass.
    assert waterfall.Iteration(**times | {"all_reduce_ns": 100}).step_ns == 118


def test_every_optimisation_adds_something():
    (curve,) = waterfall.run("tiny", range(2), said).curves
    gains = [point["samples/s over the first"] for point in curve.table]
    assert gains[0] == 1 and gains == sorted(gains) and len(set(gains)) == len(gains)


def test_each_trained_setting_changes_one_thing(tmp_path):
    size = trained_waterfall.SIZES["small"]
    configs = [trained_waterfall.configured(setting, size, 3, tmp_path) for setting in waterfall.SETTINGS]
    changed = [
        {field.name for field in fields(config) if getattr(config, field.name) != getattr(before, field.name)}
        for before, config in pairwise(configs)
    ]
    assert changed == [{"plan"}, {"row_dtype"}, {"forward_wire", "backward_wire"}, {"global_batch_size"}]
    assert configs[-1].global_batch_size == 4 * configs[0].global_batch_size
    placed = [[table.shards[0].rank for table in config.plan_for(2).tables] for config in configs[:2]]
    assert placed[0] == np.random.default_rng(3).integers(2, size=16).tolist() != placed[1]


def test_a_balanced_plan_of_four_tables():
    """Rows of 12, 8, 8 and 4 columns, equally often looked up: 16 columns a rank."""
    tables = [TableConfig(name=f"t{n}", rows=10, dim=dim, pooling_factor=1.0) for n, dim in enumerate((12, 8, 8, 4))]
    owners = [table.shards[0].rank for table in trained_waterfall.balanced_plan(tables).tables]
    assert owners[0] == owners[3] != owners[1] == owners[2]


def test_what_is_exposed_adds_up_to_the_step():
    found = {(2, "matrix products", view): [2e6, 4e6] for view in ("serialized", "exposed")}
    found |= {(2, "all_reduce", "serialized"): [5e6, 5e6], (2, "all_reduce", "exposed"): [1e6, 1e6]}
    found |= {(2, "communication", "exposed"): [1e6, 1e6], (2, "step", "exposed"): [10e6, 10e6]}
    found |= {(1, operators, "exposed"): [1e6, 1e6] for operators in ("matrix products", "step")}
    bars = {(bar["ranks"], bar["class"]): bar["ms a step and rank"] for bar in ranks.bars(found)}
    assert bars["W = 2, exposed", "in no operator"] == 10 - 3 - 1 and bars["W = 1, exposed", "in no operator"] == 0
    assert bars["W = 2, serialized", "all_reduce"] == 5 and len(bars) == 7
