"""Index, embedding and jagged operators against figures worked by hand, with the gather that they contain."""

import math

import pytest
from signatures import NONE, Argument, cost_of, index, tensor, tensors, value

from workbench.costs import Gather, embedding_backward_cost, embedding_forward_cost

INT32, BYTE = "int", "unsigned char"
NUMBER = value(0)
# 18 lookups in 12 bags over 3 tables of 8 columns, 480 weights (20 rows each): arguments of FBGEMM's operators.
TABLES, OFFSETS, TOTAL_D, MAX_D = tensor(480), index(3), value(24), value(8)
D_OFFSETS, HASH, PLACEMENTS = tensor(4, dtype=INT32), index(4), tensor(3, dtype=INT32)
INDICES, BAG_OFFSETS = index(18), index(13)
PLACES = (TABLES, NONE, NONE, NONE, PLACEMENTS, OFFSETS)
LOOKUP_BYTES = 18 * (32 + 8) + 12 * 8  # rows and indices, offsets
LOOKUP = Gather(18, 32, 1920)

WORKED: list[tuple[str, tuple[Argument, ...], tuple[float, float, float], Gather | None]] = [
    # reading at an index: index and elements read, elements written
    (
        "aten::index_select",
        (tensor(10, 6), value(0), index(3)),
        (0, 24 + 72, 72),
        Gather(3, 24, 240),
    ),
    (
        "aten::index_select",  # along the last dimension: single elements
        (tensor(10, 6), value(1), index(3)),
        (0, 24 + 120, 120),
        Gather(30, 4, 240),
    ),
    ("aten::gather", (tensor(10, 6), value(1), index(10, 2), value(False)), (0, 240, 80), Gather(20, 4, 240)),
    ("aten::take", (tensor(10, 6), index(3)), (0, 24 + 12, 12), Gather(3, 4, 240)),
    # writing at an index: read-modify-write where it adds; a copy of all where it is not in place
    ("aten::scatter_", (tensor(4, 6), value(1), index(4, 2), tensor(4, 2)), (0, 64 + 32, 32), None),
    ("aten::scatter_", (tensor(4, 6), value(1), index(4, 2), value(1.0)), (0, 64, 32), None),
    ("aten::scatter_add_", (tensor(4, 6), value(1), index(4, 2), tensor(4, 2)), (8, 64 + 32 + 32, 32), None),
    ("aten::scatter", (tensor(4, 6), value(1), index(4, 2), tensor(4, 2)), (0, 64 + 32 + 96, 32 + 96), None),
    ("aten::index_add_", (tensor(9, 6), value(0), index(3), tensor(3, 6), value(1)), (18, 24 + 72 + 72, 72), None),
    ("aten::index_fill_", (tensor(9, 6), value(0), index(3), value(1.0)), (0, 24, 72), None),
    (
        "aten::_index_put_impl_",
        (tensor(4, 6), NONE, tensor(3, 6), value(True), value(False)),
        (18, 18 * 8 + 72 + 72, 72),
        None,
    ),
    ("aten::index_put_", (tensor(4, 6), NONE, tensor(3, 6), value(False)), (0, 18 * 8 + 72, 72), None),
    # PyTorch's embeddings
    ("aten::embedding", (tensor(20, 8), index(3, 2), value(-1)), (0, 6 * 40, 6 * 32), Gather(6, 32, 640)),
    (
        "aten::embedding_dense_backward",
        (tensor(3, 2, 8), index(3, 2), value(20), value(-1), value(False)),
        (48, 192 + 48, 640),
        None,
    ),
    (
        "aten::_embedding_bag",  # 18 lookups in 12 bags
        (tensor(20, 8), INDICES, index(12), value(False), value(0), value(False), NONE, value(False), value(-1)),
        (6 * 8, LOOKUP_BYTES, 12 * 32),
        Gather(18, 32, 640),
    ),
    (
        "aten::_embedding_bag",  # the same bags by their ends too, weighted, then averaged
        (tensor(20, 8), INDICES, index(13), value(False), value(1), value(False), tensor(18), value(True), value(-1)),
        ((6 + 18 + 12) * 8, LOOKUP_BYTES + 72, 12 * 32),
        Gather(18, 32, 640),
    ),
    (
        "aten::_embedding_bag_dense_backward",
        (tensor(12, 8), INDICES, INDICES, index(12), index(12), value(20), value(False), value(0), NONE, value(-1)),
        (18 * 8, 12 * 32 + 2 * 144, 640),
        None,
    ),
    # FBGEMM's table-batched embeddings
    (
        "fbgemm::split_embedding_codegen_forward_unweighted_pt2_wrapper",
        (*PLACES, D_OFFSETS, TOTAL_D, MAX_D, HASH, INDICES, BAG_OFFSETS, NUMBER),
        (6 * 8, LOOKUP_BYTES, 12 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_codegen_forward_weighted_pt2_wrapper",  # a mean with weights
        (*PLACES, D_OFFSETS, TOTAL_D, MAX_D, HASH, INDICES, BAG_OFFSETS, value(1), tensor(18)),
        ((6 + 18 + 12) * 8, LOOKUP_BYTES + 72, 12 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_codegen_lookup_adagrad_function",  # tables in unified memory
        (
            tensor(0), tensor(0), TABLES, tensor(0, 0), PLACEMENTS, OFFSETS, D_OFFSETS, TOTAL_D, MAX_D, HASH, NUMBER,
            INDICES, BAG_OFFSETS, NUMBER,
        ),
        (6 * 8, LOOKUP_BYTES, 12 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_codegen_lookup_rowwise_adagrad_function",  # no scalars, but 60 rows of state
        (
            tensor(0), TABLES, tensor(0), tensor(0, 0), PLACEMENTS, OFFSETS, D_OFFSETS, NONE, NONE, HASH, NONE,
            INDICES, BAG_OFFSETS, NONE, NONE, NONE, tensor(0, dtype=INT32), NONE, NONE, NONE, tensor(60), tensor(0),
        ),
        (6 * 8, LOOKUP_BYTES, 12 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_nobag_codegen_forward_cpu",  # a row for each index
        (TABLES, OFFSETS, value(8), HASH, INDICES, BAG_OFFSETS, NUMBER),
        (0, 18 * 40, 18 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::dense_embedding_codegen_lookup_function",
        (TABLES, OFFSETS, D_OFFSETS, TOTAL_D, MAX_D, HASH, NUMBER, INDICES, BAG_OFFSETS, NUMBER, NONE),
        (6 * 8, LOOKUP_BYTES, 12 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_backward_codegen_rowwise_adagrad_cpu",  # 18 rows of 32 B and one state each
        (tensor(4, 24), TABLES, PLACEMENTS, OFFSETS, D_OFFSETS, MAX_D, HASH, NUMBER, INDICES, BAG_OFFSETS, NUMBER),
        (18 * 8 * 4, 4 * 96 + (18 + 12) * 8 + 18 * 36, 18 * 36),
        Gather(18, 36, 1920),
    ),
    (
        "fbgemm::split_embedding_backward_codegen_adagrad_unweighted_pt2_wrapper",  # half precision tables
        (
            tensor(4, 24), tensor(480, dtype="c10::Half"), *PLACES[1:], D_OFFSETS, MAX_D, value(False), HASH, NUMBER,
            INDICES, BAG_OFFSETS, NUMBER,
        ),
        (18 * 8 * 7, 4 * 96 + (18 + 12) * 8 + 18 * (16 + 32), 18 * (16 + 32)),
        Gather(18, 48, 960),
    ),
    (
        "fbgemm::split_embedding_nobag_backward_codegen_sgd_cpu",
        (tensor(18, 8), TABLES, PLACEMENTS, OFFSETS, value(8), HASH, NUMBER, INDICES, BAG_OFFSETS),
        (18 * 8 * 2, 18 * 32 + 18 * 8 + 18 * 32, 18 * 32),
        LOOKUP,
    ),
    (
        "fbgemm::split_embedding_codegen_grad_indice_weights_cpu",
        (tensor(4, 24), TABLES, OFFSETS, D_OFFSETS, INDICES, BAG_OFFSETS, NONE),
        (2 * 18 * 8, 4 * 96 + LOOKUP_BYTES, 72),
        LOOKUP,
    ),
    (
        "fbgemm::int_nbit_split_embedding_codegen_lookup_function",  # rows of 8 B and 4 B of scale and bias
        (
            tensor(768, dtype=BYTE), tensor(0, dtype=BYTE), PLACEMENTS, OFFSETS, tensor(3, dtype=BYTE), D_OFFSETS,
            TOTAL_D, NUMBER, NUMBER, value(8), NUMBER, NUMBER, tensor(18, dtype=INT32), tensor(13, dtype=INT32), NUMBER,
            NONE, value(1),
        ),
        ((6 + 36) * 8, 18 * (12 + 4) + 12 * 4, 12 * 16),
        Gather(18, 12, 768),
    ),
    (
        "fbgemm::bounds_check_indices",
        (index(3), INDICES, BAG_OFFSETS, value(1), index(1)),
        (36, 24 + 144 + 104, 0),
        None,
    ),
    # FBGEMM's sparse features: 3 features x 4 examples
    (
        "fbgemm::permute_2D_sparse_data",
        (tensor(3, dtype=INT32), index(3, 4), INDICES, tensor(18), value(18)),
        (0, 12 + 96 + 18 * 12, 96 + 18 * 12),
        None,
    ),
    (
        "fbgemm::permute_2D_sparse_data",  # two of three features kept, their sum given
        (tensor(2, dtype=INT32), index(3, 4), INDICES, NONE, value(10)),
        (0, 8 + 64 + 80, 64 + 80),
        None,
    ),
    ("fbgemm::asynchronous_complete_cumsum", (index(12),), (12, 96, 96), None),
    ("fb::asynchronous_complete_cumsum", (tensor(12, dtype=INT32),), (12, 48, 48), None),
    ("fbgemm::offsets_range", (index(12), value(18)), (18, 96, 144), None),
    (
        "fbgemm::block_bucketize_sparse_features",  # into 2 buckets, with positions and the way back
        (index(12), INDICES, value(True), value(True), index(3), value(2), tensor(18)),
        (36, 96 + 144 + 72, 192 + 144 + 72 + 288),
        None,
    ),
    ("fbgemm::permute_pooled_embs_auto_grad", (tensor(4, 24), index(4), index(3)), (0, 384, 384), None),
    ("fbgemm::permute_multi_embedding", (tensors((4, 24), (4, 8)), index(9), NONE), (0, 512, 512), None),
    # FBGEMM's jagged tensors: 6 rows of 8 in 4 sequences, padded to 3
    (
        "fbgemm::jagged_to_padded_dense",
        (tensor(6, 8), tensors((5,)), value([3]), value(0.0)),
        (0, 192 + 40, 4 * 3 * 32),
        None,
    ),
    ("fbgemm::jagged_2d_to_dense", (tensor(6, 8), index(5), value(3)), (0, 192 + 40, 4 * 3 * 32), None),
    ("fbgemm::dense_to_jagged", (tensor(4, 3, 8), tensors((5,)), value(6)), (0, 192 + 40, 192), None),
    (
        "fbgemm::jagged_dense_elementwise_add",
        (tensor(6, 8), tensors((5,)), tensor(4, 3, 8)),
        (48, 192 + 384 + 40, 384),
        None,
    ),
    (
        "fbgemm::jagged_dense_elementwise_mul",
        (tensor(6, 8), tensors((5,)), tensor(4, 3, 8)),
        (48, 192 + 192 + 40, 192),
        None,
    ),
    (
        "fbgemm::jagged_dense_bmm",
        (tensor(6, 8), index(5), tensor(4, 8, 5), value(3)),
        (2 * 6 * 8 * 5, 192 + 640 + 40, 6 * 5 * 4),
        None,
    ),
    (
        "fbgemm::jagged_jagged_bmm",
        (tensor(6, 8), tensor(6, 5), index(5), value(3)),
        (2 * 6 * 8 * 5, 192 + 120 + 40, 4 * 8 * 5 * 4),
        None,
    ),
    (
        "fbgemm::batched_dense_vec_jagged_2d_mul",
        (tensor(4, 3), tensor(6, 8), index(5)),
        (2 * 6 * 8, 192 + 24 + 40, 4 * 8 * 4),
        None,
    ),
    ("fbgemm::jagged_softmax", (tensor(6, 8), index(5), value(3)), (240, 192 + 40, 192), None),
    (
        "fbgemm::jagged_index_select_2d_forward",
        (tensor(6, 8), index(3), index(4), index(3), value(8)),
        (0, 24 + 256, 256),
        Gather(3, 256 / 3, 192),
    ),
    # quantised rows: 16 rows of 8
    ("fbgemm::FloatToFused8BitRowwiseQuantized", (tensor(16, 8),), (640, 512, 16 * 16), None),
    ("fbgemm::Fused8BitRowwiseQuantizedToFloat", (tensor(16, 16, dtype=BYTE),), (256, 256, 512), None),
    ("fbgemm::FloatToFusedNBitRowwiseQuantizedSBHalf", (tensor(16, 8), value(4)), (640, 512, 16 * 8), None),
    ("fbgemm::FusedNBitRowwiseQuantizedSBHalfToFloat", (tensor(16, 8, dtype=BYTE), value(4)), (256, 128, 512), None),
    (
        "fbgemm::FusedNBitRowwiseQuantizedSBHalfToFloatOrHalf",
        (tensor(16, 8, dtype=BYTE), value(4), value(1)),
        (256, 128, 256),
        None,
    ),
    ("fbgemm::FloatToBfloat16Quantized", (tensor(16, 8),), (128, 512, 256), None),
    ("fbgemm::Bfloat16QuantizedToFloat", (tensor(16, 8, dtype="c10::BFloat16"),), (128, 256, 512), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "expected", "gather"), WORKED)
def test_worked_by_hand(
    name: str, arguments: tuple[Argument, ...], expected: tuple[float, float, float], gather: Gather | None
) -> None:
    cost = cost_of(name, *arguments)
    assert cost is not None
    assert (cost.flops, cost.read_bytes, cost.write_bytes) == expected
    assert cost.gather == gather
    if gather:
        assert gather.rows * gather.row_bytes <= cost.read_bytes


def test_pooling_tends_to_a_quarter_flop_a_byte_and_is_nothing_for_single_rows() -> None:
    assert embedding_forward_cost(indices=1000, bags=1000, dim=64).flops == 0
    long_bags = embedding_forward_cost(indices=100_000, bags=10, dim=1024)
    assert math.isclose(long_bags.flops / long_bags.bytes, 0.25, rel_tol=0.01)


def test_updates_touch_each_distinct_row_once() -> None:
    every = embedding_backward_cost(1000, 100, 32, weight_bytes=4, state_bytes_per_row=4)
    some = embedding_backward_cost(1000, 100, 32, weight_bytes=4, state_bytes_per_row=4, unique_share=0.1)
    assert every.write_bytes == 1000 * (128 + 4)
    assert some.write_bytes == 100 * (128 + 4)
    assert some.gather == Gather(100, 132)
    # 900 gradients are added to another of the same row; a row's update takes 2 an element.
    assert some.flops == 900 * 32 + 100 * 32 * 2
    bounded = embedding_backward_cost(1000, 100, 32, table_bytes=50 * 128)
    assert bounded.write_bytes == 50 * 128


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        # Adagrad's state has the tables' size, so without total_D nothing tells the row size.
        (
            "fbgemm::split_embedding_codegen_lookup_adagrad_function",
            (
                tensor(0), TABLES, tensor(0), tensor(0, 0), PLACEMENTS, OFFSETS, D_OFFSETS, NONE, NONE, HASH, NONE,
                INDICES, BAG_OFFSETS, NONE, NONE, NONE, NONE, NONE, NONE, NONE, TABLES,
            ),
        ),
        ("fbgemm::split_embedding_backward_codegen_novel_cpu", (tensor(4, 24), TABLES, PLACEMENTS)),
        ("fbgemm::dense_to_jagged", (tensor(4, 3, 8), tensors((5,)), NONE)),
        ("aten::index", (tensor(16, 27, 27), NONE)),  # no trace shows the list of indices
    ],
)  # fmt: skip
def test_what_the_inputs_do_not_determine_is_unknown(name: str, arguments: tuple[Argument, ...]) -> None:
    assert cost_of(name, *arguments) is None
