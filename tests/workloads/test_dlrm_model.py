"""The model's own parts against the obvious way to compute them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from workbench.costs import mlp_flops
from workbench.data.batch import Batch
from workbench.embeddings.exchange import end_to_end
from workbench.embeddings.link import Link, WireBytes
from workbench.errors import InputError
from workbench.trace.recorder import Recorder
from workbench.trace.streams import read_accesses
from workbench.workloads.training.accesses import AccessLog
from workbench.workloads.training.config import PRESETS, tiny
from workbench.workloads.training.gradients import SummedGradients
from workbench.workloads.training.history import attend, history_bags
from workbench.workloads.training.interaction import Concatenation, DotInteraction
from workbench.workloads.training.manifest import describe, model_flops
from workbench.workloads.training.mlp import FusedMLP, mlp
from workbench.workloads.training.tables import ModelTables
from workbench.workloads.training.train import Trainer


def all_pairs(bottom: torch.Tensor, tables: list[torch.Tensor]) -> torch.Tensor:
    """Dot products of every pair, one at a time: vector 1 with 0, 2 with 0, 2 with 1, 3 with 0..."""
    vectors = [bottom, *tables]
    return torch.stack([(vectors[i] * vectors[j]).sum(1) for i in range(len(vectors)) for j in range(i)], dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # batched products; the compiled pass
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [2, 0, 1, 5, 4, 3]])
def test_interaction_is_the_same_wherever_tables_lie(order, dtype):
    torch.manual_seed(0)
    bottom, *tables = (torch.randn(4, 5, dtype=dtype, requires_grad=True) for _ in range(7))
    ways = []
    for rows in (
        torch.cat([bottom, all_pairs(bottom, tables)], dim=1),
        DotInteraction(order, [5] * 6)(bottom, [tables[table] for table in order]),
    ):
        weights = torch.linspace(-1, 1, rows.numel(), dtype=dtype).view_as(rows)
        ways.append((rows, *torch.autograd.grad((rows * weights).sum(), [bottom, *tables])))
    torch.testing.assert_close(*ways)


def test_interaction_is_the_same_for_any_number_of_threads():
    torch.manual_seed(0)
    interaction, threads = DotInteraction(range(6), [8] * 6), torch.get_num_threads()
    found = []
    for torch_threads in (1, 2):
        torch.set_num_threads(torch_threads)
        torch.manual_seed(1)
        vectors = [torch.randn(700, width, requires_grad=True) for width in (8, 40, 8)]
        joined = interaction(vectors[0], vectors[1:])
        found.append((joined, *torch.autograd.grad(joined.square().sum(), vectors)))
    torch.set_num_threads(threads)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_interaction_passes_on_what_is_not_a_number():
    bottom, embedding = torch.ones(2, 4), torch.ones(2, 4)
    embedding[1, 2] = torch.nan
    joined = DotInteraction([0], [4])(bottom, [embedding])
    assert joined[:, 4].isnan().tolist() == [False, True]


def test_interaction_takes_embeddings_in_any_grouping():
    bottom, joined = torch.randn(4, 5), torch.randn(4, 15)
    interaction = DotInteraction([0, 1, 2], [5] * 3)
    found = []
    for columns in ([15], [5, 10], [3, 2, 4, 6]):  # the last as column-wise shards arrive
        parts = [bottom, *joined.split(columns, dim=1)]
        inputs = [part.clone().requires_grad_() for part in parts]
        rows = interaction(inputs[0], inputs[1:])
        gradients = torch.autograd.grad((rows * torch.arange(11)).sum(), inputs)
        found.append((rows, gradients[0], torch.cat(gradients[1:], dim=1)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)
    torch.testing.assert_close(found[0][0][:, :5], bottom, rtol=0, atol=0)


def test_gradients_of_embeddings_lie_as_they_are_sent():
    bottom, *parts = (torch.randn(4, columns, requires_grad=True) for columns in (5, 10, 5))
    joined = DotInteraction([0, 1, 2], [5] * 3)(bottom, parts)
    first, second = torch.autograd.grad(joined.square().sum(), parts)
    assert end_to_end([first, second]).data_ptr() == first.data_ptr()  # no copy


def test_interaction_refuses_columns_that_are_no_tables():
    interaction = DotInteraction([0, 1, 2], [5] * 3)
    for columns in (14, 20):
        with pytest.raises(ValueError, match=f"3 embeddings of 4 samples and 5 columns are needed, not {columns}"):
            interaction(torch.randn(4, 5), [torch.randn(4, columns)])


def test_summed_gradients_are_the_gradients():
    model, same = mlp((3, 4, 1)), mlp((3, 4, 1))
    same.load_state_dict(model.state_dict())
    parameters = list(model.parameters())
    link = Link(0, 1, Recorder(None), WireBytes(), "dense")
    summed = SummedGradients([(link, parameters[2:]), (link, parameters[:2])], overlap=True)
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


def test_a_parameter_that_the_loss_does_not_depend_on_has_no_gradient():
    used, unused = (nn.Parameter(torch.ones(2)) for _ in range(2))
    summed = SummedGradients([(Link(0, 1, Recorder(None), WireBytes(), "dense"), [used, unused])], overlap=True)
    for loss, expected in ((used.sum() + unused.sum(), 1.0), (used.sum(), 0.0)):
        summed.start(torch.tensor(0.0), torch.tensor(0.0))
        loss.backward()
        summed.finish()
        assert used.grad.tolist() == [1.0, 1.0]
        assert unused.grad.tolist() == [expected] * 2  # and not what an earlier step left


@pytest.mark.parametrize("sizes", [(3, 8, 5, 1), (3, 16, 32, 7), (3, 4)])  # 16 times 3: its gradient is transposed
def test_fused_layers_are_the_layers(sizes):
    torch.manual_seed(0)
    fused, inputs = FusedMLP(sizes), torch.randn(6, 3, requires_grad=True)
    plain = nn.Sequential(*fused)
    found = []
    for model in (fused, plain):
        outputs = model(inputs)
        found.append((outputs, *torch.autograd.grad(outputs.square().sum(), [inputs, *model.parameters()])))
    torch.testing.assert_close(*found)
    assert not torch.equal(found[0][1], torch.zeros(6, 3))
    assert list(fused.state_dict()) == list(mlp(sizes).state_dict())


def test_mlp_has_no_activation_at_its_end():
    assert [type(layer) for layer in mlp((3, 4, 1))] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("sharding", ["table-wise", "data-parallel"])
def test_accesses_are_whole_contiguous_steps_within_the_budget(tmp_path, sharding):
    config = replace(tiny(), ranks=1, tables=2, rows=(9, 9), sharding=sharding)
    tables = ModelTables(config, config.plan_for(1), 0, torch.device("cpu"), Recorder(None), Path("unused"))
    lengths, indices = np.array([[2, 0, 1], [1, 1, 0]], dtype=np.int32), np.array([5, 5, 7, 1, 2])
    inputs = tables.prepare(Batch(np.zeros((3, 13), np.float32), lengths, indices, np.zeros(3, np.float32)))
    received = tables.send(inputs).finish()
    with Recorder(tmp_path, "trainer-0", 0) as recorder:
        log = AccessLog(recorder, tables, limit_bytes=2 * (lengths.nbytes + indices.nbytes) + 1)
        for recorder.step in range(4):
            log.record(received)
    found = read_accesses([tmp_path])
    assert found["step"].tolist() == [0, 0, 1, 1] and found["table"].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(found["lengths"][0], [2, 0, 1])
    np.testing.assert_array_equal(found["rows"][0], [5, 5, 7])
    np.testing.assert_array_equal(found["rows"][3], [1, 2])


def test_an_id_without_a_row_is_named():
    config = replace(tiny(), ranks=1, tables=2, rows=(9, 9))
    tables = ModelTables(config, config.plan_for(1), 0, torch.device("cpu"), Recorder(None), Path("unused"))
    for wrong in (9, -1):
        batch = Batch(np.zeros((1, 13), np.float32), np.ones((2, 1), np.int32), np.array([8, wrong]), np.zeros(1))
        with pytest.raises(
            InputError, match=f"feature table_1 has id {wrong}, and its table has 9 rows: ids are 0 to 8"
        ):
            tables.prepare(batch)


def test_attention_over_present_places_only():
    random = np.random.default_rng(0)
    lengths, indices = np.array([[3, 0], [1, 2]], dtype=np.int32), np.array([4, 5, 6, 7, 8, 9])
    bags, kept = history_bags(lengths, indices, length=2)
    assert bags.tolist() == [[1, 1, 0, 0], [1, 0, 1, 1]] and kept.tolist() == [4, 5, 7, 8, 9]
    query, rows = (torch.from_numpy(random.standard_normal(shape)) for shape in ((2, 4), (2, 2, 2, 4)))
    present = torch.from_numpy(bags).view(2, 2, 2).transpose(0, 1) > 0
    pooled = attend(query, rows, present)
    assert pooled[1, 0].tolist() == [0.0] * 4  # an empty history
    torch.testing.assert_close(pooled[0, 1], rows[0, 1, 0])  # of one id: its row
    weights = torch.softmax(rows[0, 0] @ query[0] / 2, dim=0)
    torch.testing.assert_close(pooled[0, 0], weights @ rows[0, 0])


def test_concatenation_is_in_table_order():
    bottom, columns = torch.zeros(1, 1), torch.tensor([[2.0, 2.0, 0.0, 1.0, 1.0, 1.0]])
    joined = Concatenation([2, 0, 1], [2, 1, 3])(bottom, list(columns.split([3, 3], dim=1)))
    assert joined.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0]]


# FLOPs a sample, tables, mean width, mean pooling, MLP layers after Neo's Table 3; the number of tables is known only
# to its order: ratios to a lookup's bytes are of the counts given here.
NEO = {"model-a": (638e6, 1000, 93, 15, 20), "model-f": (5e6, 10, 256, 20, 7), "model-i": (60e6, 100, 92, 70, 43)}


@pytest.mark.parametrize("preset", NEO)
def test_scaled_models_keep_flops_a_byte_widths_and_depth(preset):
    flops, count, width, pooling, layers = NEO[preset]
    config = PRESETS[preset]()
    tables = config.table_configs
    assert sum(table.pooling_factor for table in tables) / len(tables) == pytest.approx(pooling)
    assert sum(table.dim for table in tables) / len(tables) == pytest.approx(width, rel=0.15)
    assert len(config.bottom_sizes) + len(config.top_sizes) - 2 == layers
    row_bytes = sum(table.pooling_factor * table.row_bytes for table in tables)
    ours, theirs = model_flops(config, training=False) / row_bytes, flops / (count * pooling * width * 4)
    assert ours == pytest.approx(theirs, rel=0.15)


@pytest.mark.parametrize("preset", ["model-a", "model-i"])
def test_deep_models_do_not_leap_at_the_first_updates(preset, tmp_path):
    config = replace(PRESETS[preset](), ranks=1, global_batch_size=32, rows=(100, 500), pooling_factor=2.0)
    trainer = Trainer(config, Recorder(None), tmp_path)
    batches = trainer.redistribute(trainer.inputs())
    losses = [(sums := trainer.step(batches)).log_loss / sums.samples for _ in range(4)]
    # Labels' own entropy is about 0.6 nats; a model that knows nothing has ln 2.
    assert losses[0] == pytest.approx(math.log(2), abs=0.05) and max(losses) < 0.9


def test_manifest_counts_what_the_model_is():
    config = tiny()
    fields = describe(config)
    bottom, top = mlp(config.bottom_sizes), mlp(config.top_sizes)
    assert fields["dense_parameters"] == sum(p.numel() for part in (bottom, top) for p in part.parameters())
    assert {table["rank"] for table in fields["tables"]} == {0, 1}
    assert fields["tables"][0]["row_bytes"] == 4 * config.dim
    products = 3 * (mlp_flops(config.bottom_sizes) + mlp_flops(config.top_sizes))
    assert fields["model_flops_per_sample"] > products
