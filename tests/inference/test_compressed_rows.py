"""Rows in 8 or 4 bits an element: what they take, how far off their sums may be, and that servers keep them so."""

import dataclasses

import numpy as np
import pytest
import torch
from in_process import deployed, expected_scores, plan_for, some_requests

from workbench.errors import InputError
from workbench.workloads import start
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.manifest import describe
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.exported import export_model, load_model
from workbench.workloads.inference.models.lookup import FbgemmTables, TorchTables, serving_tables
from workbench.workloads.inference.models.ranker import Ranker
from workbench.workloads.inference.strategies import make_plan

STEPS = {"int8": 255, "int4": 15}
KERNELS = [FbgemmTables, TorchTables]


def some_tables():
    random = np.random.default_rng(3)
    return [random.normal(0.3, 0.1, (40 + number, 8)).astype(np.float32) for number in range(3)]


def some_bags():
    """Lengths [3, 5] and ids, some bags empty."""
    random = np.random.default_rng(4)
    lengths = random.integers(0, 7, (3, 5))
    return torch.from_numpy(lengths), torch.from_numpy(random.integers(0, 40, lengths.sum()))


def largest_errors(weights, lengths, steps):
    """[bags, tables]: what a bag's sum of fp32 rows may be off by, an element. Half a step a row; and a step and a
    smallest value in fp16 are off by 2^-11 of themselves, so that the ends of a row's range are too."""
    rows = [
        np.max((w.max(axis=1) - w.min(axis=1)) * (0.5 / steps + 2.0**-11) + np.abs(w.min(axis=1)) * 2.0**-11)
        for w in weights
    ]
    return lengths.numpy().T * np.array(rows)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("table_type", ["int8", "int4"])
def test_sums_are_within_half_a_step_a_row(kernel, table_type):
    weights, (lengths, ids) = some_tables(), some_bags()
    exact, compressed = (kernel(weights, kind)(lengths, ids) for kind in ("fp32", table_type))
    off = (exact - compressed).abs().reshape(5, 3, 8).amax(dim=2).numpy()
    assert (off <= largest_errors(weights, lengths, STEPS[table_type]) + 1e-6).all()
    assert off.max() > 0


@pytest.mark.parametrize("table_type", ["fp32", "int8", "int4"])
def test_the_bytes_of_a_shard_are_those_that_it_keeps(table_type):
    model = model_config("tiny")
    lookups = [1.0] * len(model.tables)
    plan = make_plan("capacity_balanced", model, 2, lookups, table_type=table_type)
    described = describe(Config(model="tiny", table_type=table_type), model, plan, lookups)
    tables = {table.name: np.ones((table.rows, table.dim), dtype=np.float32) for table in model.tables}
    for shard, told in zip(plan.shards, described["shards"], strict=True):
        held = serving_tables([tables[piece.table] for piece in shard.pieces], table_type)
        assert told["bytes"] == held.size_bytes
    assert described["model"]["embedding_bytes"] == sum(told["bytes"] for told in described["shards"])
    assert described["model"]["embedding_bytes"] == sum(
        told["rows"] * told["row_bytes"] for told in described["tables"]
    )


def test_a_shards_limit_holds_for_the_rows_that_it_keeps():
    """Half of the model's bytes in fp32 hold all rows in 8 bits."""
    model = model_config("tiny")
    limit_bytes = sum(4 * table.rows * table.dim for table in model.tables) // 2
    arguments = ("one_shard", model, 1, [1.0] * len(model.tables), limit_bytes)
    assert make_plan(*arguments, table_type="int8").shards
    with pytest.raises(InputError, match="misses"):
        make_plan(*arguments)


@pytest.mark.parametrize("kernel", KERNELS)
def test_values_on_the_steps_are_exact(kernel):
    """0, 1, ... 15 are the steps of 4 bits themselves; a row of one value has no step."""
    weights = [np.stack([np.arange(16), np.full(16, 2.5)]).astype(np.float32)]
    pooled = kernel(weights, "int4")(torch.tensor([[2, 1]]), torch.tensor([0, 1, 1]))
    assert pooled.tolist() == [[n + 2.5 for n in range(16)], [2.5] * 16]


@pytest.mark.parametrize(
    ("kernel", "row_bytes"),
    [(FbgemmTables, {"fp32": 32, "int8": 12, "int4": 8}), (TorchTables, {"fp32": 32, "int8": 16, "int4": 8})],
)
def test_bytes_of_a_row_of_eight(kernel, row_bytes):
    weights = some_tables()
    rows = sum(map(len, weights))
    assert {kind: kernel(weights, kind).size_bytes / rows for kind in row_bytes} == row_bytes


def test_both_kernels_round_to_the_same_4_bits():
    weights, bags = some_tables(), some_bags()
    by_fbgemm, by_torch = (kernel(weights, "int4")(*bags) for kernel in KERNELS)
    torch.testing.assert_close(by_fbgemm, by_torch, atol=1e-5, rtol=0)


def test_half_a_byte_is_refused():
    with pytest.raises(InputError, match="rows of 5 elements fill no whole bytes"):
        serving_tables([np.zeros((2, 5), dtype=np.float32)], "int4")


@pytest.mark.parametrize(("strategy", "shards"), [("singular", 1), ("net_specific", 4)])
@pytest.mark.parametrize("table_type", ["int8", "int4"])
def test_a_deployment_scores_as_the_compressed_model_does(tiny, table_type, strategy, shards):
    """Wherever a row lies, its steps are its own."""
    model, exported = tiny
    plan, requests = plan_for(model.config, strategy, shards), some_requests(model.config, 2)

    async def scenario(deployment):
        return [await deployment.client.rank(number, request, 5.0) for number, request in enumerate(requests)]

    answers = deployed(exported, plan, scenario, table_type=table_type)
    compressed = load_model(exported.path, table_type)
    assert compressed.table_bytes < load_model(exported.path).table_bytes
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(answer.scores, expected_scores(compressed, request), atol=1e-6)
        assert not np.array_equal(answer.scores, expected_scores(model, request))


@pytest.mark.parametrize("strategy", ["singular", "one_shard"])
def test_the_setting_reaches_the_process_that_holds_the_rows(tmp_path, strategy):
    whole = model_config("tiny")
    net = dataclasses.replace(
        whole.nets[0], tables=tuple(dataclasses.replace(table, dim=5) for table in whole.nets[0].tables)
    )
    odd = Ranker.untrained(dataclasses.replace(whole, nets=(net,)))
    exported = export_model(odd, tmp_path / "odd")
    settings = {"exported": str(exported.path), "strategy": strategy, "table_type": "int4", "requests": "1"}
    with pytest.raises(InputError, match="rows of 5 elements fill no whole bytes"):
        start("inference", "tiny", settings, tmp_path / "traces", ceilings=False, py_spy=False)
