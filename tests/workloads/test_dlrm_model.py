"""The model's own parts against the obvious way to compute them."""

import numpy as np
import pytest
import torch
from torch import nn

from workbench.costs import mlp_flops
from workbench.embeddings.link import Link, WireBytes
from workbench.embeddings.sharded import EmbeddingOptions, ShardedEmbeddings
from workbench.embeddings.sharding import uniform_plan
from workbench.embeddings.tables import TableConfig
from workbench.trace.recorder import Recorder
from workbench.trace.streams import read_accesses
from workbench.workloads.training.accesses import AccessLog
from workbench.workloads.training.config import tiny
from workbench.workloads.training.gradients import SummedGradients
from workbench.workloads.training.manifest import describe
from workbench.workloads.training.model import DotInteraction, mlp


def all_pairs(bottom: torch.Tensor, tables: list[torch.Tensor]) -> torch.Tensor:
    """Dot products of every pair, one at a time: vector 1 with 0, 2 with 0, 2 with 1, 3 with 0..."""
    vectors = [bottom, *tables]
    return torch.stack([(vectors[i] * vectors[j]).sum(1) for i in range(len(vectors)) for j in range(i)], dim=1)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_interaction_is_the_same_wherever_tables_lie(order):
    torch.manual_seed(0)
    bottom, *tables = (torch.randn(4, 5, dtype=torch.float64, requires_grad=True) for _ in range(4))
    ways = []
    for rows in (all_pairs(bottom, tables), DotInteraction(order)(bottom, [tables[table] for table in order])[:, 5:]):
        weights = torch.arange(rows.numel(), dtype=torch.float64).view_as(rows)
        ways.append((rows, *torch.autograd.grad((rows * weights).sum(), [bottom, *tables])))
    torch.testing.assert_close(*ways)


def test_interaction_takes_embeddings_in_any_grouping():
    bottom, joined = torch.randn(4, 5), torch.randn(4, 15)
    interaction = DotInteraction([0, 1, 2])
    together, apart = interaction(bottom, [joined]), interaction(bottom, list(joined.split([5, 10], dim=1)))
    torch.testing.assert_close(together, apart, rtol=0, atol=0)
    torch.testing.assert_close(together[:, :5], bottom, rtol=0, atol=0)


def test_summed_gradients_are_the_gradients():
    model, same = mlp((3, 4, 1)), mlp((3, 4, 1))
    same.load_state_dict(model.state_dict())
    parameters = list(model.parameters())
    link = Link(0, 1, Recorder(None), WireBytes(), "dense")
    summed = SummedGradients([parameters[2:], parameters[:2]], link, overlap=True)
    for seed in range(2):
        torch.manual_seed(seed)
        x = torch.randn(6, 3)
        summed.start(torch.tensor(1.5), torch.tensor(2.0))
        same.zero_grad()
        for each in (model, same):
            each(x).square().sum().backward()
        assert summed.finish() == (1.5, 2.0)
        for ours, theirs in zip(model.parameters(), same.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    storages = {parameter.grad.untyped_storage().data_ptr() for parameter in parameters}
    assert len(storages) == 2  # one flat buffer a bucket


def test_mlp_has_no_activation_at_its_end():
    assert [type(layer) for layer in mlp((3, 4, 1))] == [nn.Linear, nn.ReLU, nn.Linear]


def test_accesses_are_whole_contiguous_steps_within_the_budget(tmp_path):
    features = [TableConfig(name=name, rows=9, dim=4) for name in "ab"]
    for scheme, shards in (("table-wise", [0, 1]), ("data-parallel", [0, 1])):
        plan = uniform_plan(features, 1, scheme)
        tables = ShardedEmbeddings(features, plan, EmbeddingOptions(), 0, torch.device("cpu"), Recorder(None))
        lengths = torch.tensor([[2, 0, 1], [1, 1, 0]], dtype=torch.int32)
        routed = tables.route(lengths, torch.tensor([5, 5, 7, 1, 2]))
        lookups = tables.send(routed).finish()
        step_bytes = lengths.nbytes + 5 * 8
        with Recorder(tmp_path, scheme, 0) as recorder:
            log = AccessLog(recorder, tables, limit_bytes=2 * step_bytes + 1)
            for recorder.step in range(4):
                log.record(routed, lookups)
        found = read_accesses([tmp_path])
        found = found[found["process"] == scheme].reset_index()
        assert found["step"].tolist() == [0, 0, 1, 1] and found["table"].tolist() == 2 * shards
        np.testing.assert_array_equal(found["lengths"][0], [2, 0, 1])
        np.testing.assert_array_equal(found["rows"][0], [5, 5, 7])
        np.testing.assert_array_equal(found["rows"][3], [1, 2])


def test_manifest_counts_what_the_model_is():
    config = tiny()
    fields = describe(config)
    bottom, top = mlp(config.bottom_sizes), mlp(config.top_sizes)
    assert fields["dense_parameters"] == sum(p.numel() for part in (bottom, top) for p in part.parameters())
    assert {table["rank"] for table in fields["tables"]} == {0, 1}
    assert fields["tables"][0]["row_bytes"] == 4 * config.dim
    products = 3 * (mlp_flops(config.bottom_sizes) + mlp_flops(config.top_sizes))
    assert fields["model_flops_per_sample"] > products
