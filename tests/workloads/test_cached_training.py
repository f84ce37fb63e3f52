"""Whole training steps through a row cache: the same bits as in memory, and hits that the analysis predicts."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import workbench as wb
from workbench.errors import InputError
from workbench.trace.recorder import Recorder
from workbench.workloads.directory import create_run
from workbench.workloads.profiling import StepProfiler
from workbench.workloads.training import train
from workbench.workloads.training.config import Config, tiny
from workbench.workloads.training.manifest import describe

CONFIG = replace(tiny(), ranks=1, threads_per_rank=1, tables=4, rows=(300, 3000), dim=8, steps=40, evaluation_batches=1)


def losses(config: Config, path) -> list[float]:
    trainer = train.Trainer(config, Recorder(None), path)
    batches = trainer.redistribute(trainer.inputs())
    return [trainer.step(batches).log_loss for _ in range(8)] + list(trainer.evaluate().values())


@pytest.mark.parametrize("backing", ["dram", "ssd"])
def test_losses_are_those_of_training_in_memory(tmp_path, backing):
    torch.set_num_threads(1)
    cached = replace(CONFIG, cache_share=0.03, cache_policy="lfu", backing=backing)
    assert losses(cached, tmp_path) == losses(CONFIG, tmp_path)


@pytest.mark.parametrize("policy", ["lru", "lfu"])
@pytest.mark.parametrize("share", [0.3, 0.6])  # from about one batch's rows on
def test_predicted_hits_are_within_two_points_of_the_measured(tmp_path, policy, share):
    config = replace(CONFIG, cache_share=share, cache_policy=policy)
    directory = create_run("training", "tiny", config, tmp_path, **describe(config))
    with directory.recorder("trainer-0", 0) as recorder:
        train.run(config, recorder, StepProfiler(None, "trainer-0", 0, 0, 1), directory.path)
    directory.finish("complete")
    run = wb.load(directory.path)
    result = wb.analyze(run, "memory_tiers", by="cache")
    (row,) = result.table.to_dict("records")
    for per in ("lookup", "unique_row"):
        assert row[f"replayed_{per}_hit_share"] == pytest.approx(row[f"measured_{per}_hit_share"], abs=0.02)
    assert 0 < row["measured_unique_row_hit_share"] < row["measured_lookup_hit_share"] < 1
    assert row["replayed_conflict_share"] == pytest.approx(row["measured_conflict_share"], abs=0.02)
    assert row["replayed_moved_bytes"] == pytest.approx(row["measured_moved_bytes"], rel=0.05)
    assert min(row["step_predicted_ns"], row["fetch_measured_ns"], row["wait_measured_ns"]) > 0
    what_if = partial(wb.analyze, run, "memory_tiers", by="cache")
    all_fits = what_if(cache_rows=10 * row["capacity_rows"]).summary
    assert all_fits["replayed_lookup_hit_share"] > row["replayed_lookup_hit_share"]
    slow = what_if(backing_bytes_per_s=1e3).summary
    assert slow["step_predicted_ns"] > 1e9 * row["replayed_moved_bytes"] / 1e3


@pytest.mark.parametrize("where", [{"backing": "dram"}, {"backing": "ssd", "host_cache_share": 0.2}])
def test_traffic_of_spans_sums_to_the_metrics(tmp_path, where):
    config = replace(CONFIG, cache_share=0.05, **where)
    directory = create_run("training", "tiny", config, tmp_path, **describe(config))
    with directory.recorder("trainer-0", 0) as recorder:
        train.run(config, recorder, StepProfiler(None, "trainer-0", 0, 0, 1), directory.path)
    directory.finish("complete")
    run = wb.load(directory.path)
    traffic = run.traffic.merge(run.events[["event_id", "name", "step"]], on="event_id")
    assert set(traffic["name"]) == {"row_fetch", "row_wait"}
    in_steps = traffic[traffic["step"] >= 0].groupby("tier", observed=True)[["read_bytes", "write_bytes"]].sum()
    metrics = run.metrics.groupby("name", observed=True)["value"].sum()
    assert set(in_steps.index) == {"dram", "ssd"} & {where["backing"], "dram"}
    for tier, moved in in_steps.iterrows():
        assert moved["read_bytes"] == metrics[f"{tier}_read_bytes"] > 0, tier
        assert moved["write_bytes"] == metrics[f"{tier}_write_bytes"] > 0, tier


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_share": 0.0}, "cache_share=0.0: must be above 0"),
        ({"cache_share": 1.5}, "cache_share=1.5: must be above 0 and at most 1"),
        ({"backing": "ssd"}, "need a cache: give its size with cache_share"),
        ({"cache_share": 0.1, "host_cache_share": 0.2}, "set backing=ssd"),
    ],
)
def test_settings_that_cannot_work(changes, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **changes)
