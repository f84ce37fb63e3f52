"""FBGEMM's operators as the installed version really calls them: the arguments stand where the models read them."""

from dataclasses import replace
from pathlib import Path

import pytest
from profiled_calls import calls_of, counted

from workbench.costs import MODELS, Gather, embedding_backward_cost, embedding_forward_cost, model_of

torch = pytest.importorskip("torch")
pytest.importorskip("fbgemm_gpu")

TABLES, BATCH, ROWS, DIM = 3, 4, 20, 8
LENGTHS = torch.tensor([2, 1, 1, 3] * TABLES)
OFFSETS = torch.cat([torch.zeros(1, dtype=torch.long), LENGTHS.cumsum(0)])
INDICES = torch.arange(int(LENGTHS.sum())) % ROWS
LOOKUPS, BAGS = len(INDICES), TABLES * BATCH


def table_batched(**options):
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        EmbeddingLocation,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    tables = [(ROWS, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)] * TABLES
    return SplitTableBatchedEmbeddingBagsCodegen(tables, **options)


@pytest.mark.parametrize(
    ("optimizer", "precision", "state_bytes_per_row", "update_flops"),
    [("EXACT_SGD", "FP32", 0, 2), ("EXACT_ROWWISE_ADAGRAD", "FP16", 4, 4), ("EXACT_ADAGRAD", "FP32", 4 * DIM, 7)],
)
def test_lookup_and_fused_update(
    optimizer: str, precision: str, state_bytes_per_row: int, update_flops: float, tmp_path: Path
) -> None:
    from fbgemm_gpu.split_embedding_configs import EmbOptimType, SparseType

    lookup = table_batched(optimizer=getattr(EmbOptimType, optimizer), weights_precision=getattr(SparseType, precision))
    calls = calls_of(lambda: lookup(INDICES, OFFSETS).sum().backward(), tmp_path)
    found = {known.model: known for _, known in counted(calls)}
    weight_bytes = 2 if precision == "FP16" else 4
    table_bytes = TABLES * ROWS * DIM * weight_bytes
    forward = embedding_forward_cost(LOOKUPS, BAGS, DIM, weight_bytes, table_bytes=table_bytes)
    backward = embedding_backward_cost(
        LOOKUPS, BAGS, DIM, weight_bytes, state_bytes_per_row, update_flops=update_flops, table_bytes=table_bytes
    )
    for key, expected in (("table_batched_embedding", forward), ("table_batched_embedding_backward", backward)):
        known = found[key]
        assert (known.flops, known.read_bytes, known.write_bytes) == (
            expected.flops,
            expected.read_bytes,
            expected.write_bytes,
        )
        assert known.gather == expected.gather


def test_the_compiled_update_costs_what_fbgemm_does(tmp_path: Path) -> None:
    from workbench.embeddings.kernels import make_lookup
    from workbench.embeddings.tables import TableConfig

    tables = [TableConfig(name=f"{number}", rows=ROWS, dim=DIM) for number in range(TABLES)]
    found = []
    for kernel in ("auto", "fbgemm"):
        lookup = make_lookup(tables, kernel, 0.1, "cpu", seed=0)
        calls = calls_of(lambda lookup=lookup: lookup(INDICES, OFFSETS).sum().backward(), tmp_path)
        found += [known for _, known in counted(calls) if known.model.endswith("embedding_backward")]
    ours, theirs = found
    assert replace(ours, model=theirs.model) == theirs


def test_no_pooling(tmp_path: Path) -> None:
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode

    lookup = table_batched(pooling_mode=PoolingMode.NONE)
    calls = calls_of(lambda: lookup(INDICES, OFFSETS), tmp_path)
    (known,) = [known for _, known in counted(calls) if known.model == "table_batched_embedding"]
    assert known.flops == 0
    assert known.write_bytes == LOOKUPS * DIM * 4


@pytest.mark.parametrize(("row_format", "row_bytes"), [("INT8", DIM + 4), ("INT4", DIM // 2 + 4), ("FP16", 2 * DIM)])
def test_quantized_lookup(row_format: str, row_bytes: int, tmp_path: Path) -> None:
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
        EmbeddingLocation,
        IntNBitTableBatchedEmbeddingBagsCodegen,
    )

    tables = [("", ROWS, DIM, getattr(SparseType, row_format), EmbeddingLocation.HOST)] * TABLES
    lookup = IntNBitTableBatchedEmbeddingBagsCodegen(tables, device="cpu", output_dtype=SparseType.FP32)
    lookup.fill_random_weights()
    calls = calls_of(lambda: lookup(INDICES.int(), OFFSETS.int()), tmp_path)
    (known,) = [known for _, known in counted(calls) if known.model == "quantized_table_batched_embedding"]
    assert known.gather == Gather(LOOKUPS, row_bytes, lookup.weights_host.numel())
    assert known.write_bytes == BAGS * DIM * 4


def test_sparse_features_and_formats_have_a_cost_as_they_are_called(tmp_path: Path) -> None:
    operators = torch.ops.fbgemm
    lengths = LENGTHS.view(TABLES, BATCH)
    permute = torch.tensor([2, 0, 1], dtype=torch.int32)
    values, offsets = torch.ones(7, DIM), OFFSETS[: BATCH + 1]

    def use_each() -> None:
        operators.permute_2D_sparse_data(permute, lengths, INDICES, None, None)
        operators.permute_sparse_features(permute, lengths, INDICES, None)
        operators.asynchronous_complete_cumsum(LENGTHS)
        operators.offsets_range(OFFSETS[:-1], LOOKUPS)
        operators.block_bucketize_sparse_features(LENGTHS, INDICES, False, False, torch.tensor([10] * TABLES), 2)
        operators.jagged_to_padded_dense(values, [offsets], [3], 0.0)
        operators.dense_to_jagged(torch.ones(BATCH, 3, DIM), [offsets], 7)
        operators.jagged_index_select(values, LENGTHS[:BATCH], torch.tensor([0, 3]))
        operators.Fused8BitRowwiseQuantizedToFloat(operators.FloatToFused8BitRowwiseQuantized(values))

    calls = calls_of(use_each, tmp_path)
    named = [call for call in calls if call.name.startswith("fbgemm::") and model_of(call.name)]
    assert len({call.name for call in named}) >= 10
    assert [call.name for call in named if call.cost is None] == []
    assert {call.cost.model for call in named} >= {"permute_sparse", "bucketize_sparse", "range", "jagged_index"}
    assert {call.cost.model for call in named} <= set(MODELS)
