"""Embedding lookups, pooling and updates: the arithmetic once, for PyTorch's operators, FBGEMM's and callers that
know the access log."""

from workbench.costs.call import Call
from workbench.costs.model import Cost, Gather, aten, model

_WEIGHT_OF_LOOKUP_BYTES = 4
_PYTORCH_MEAN = 1  # pooling mode of aten::_embedding_bag


def embedding_forward_cost(
    indices: float,
    bags: float | None,
    dim: float,
    weight_bytes: float = 4,
    *,
    output_bytes: float = 4,
    index_bytes: float = 8,
    weighted: bool = False,
    mean: bool = False,
    table_bytes: float | None = None,
) -> Cost:
    """Look up `indices` rows of `dim` elements and pool them into `bags` rows (None: no pooling, a row an index).

    `weight_bytes` and `output_bytes` are those of an element. Pooling a bag of L rows takes (L - 1) dim additions:
    (indices - bags) dim together where no bag is empty. A weighted sum adds a product for each element looked up, a
    mean a division for each element of the result. Every lookup reads its row, also one read before: how fast that
    can go depends on `table_bytes`, the memory that the rows are spread over.
    """
    results = indices if bags is None else bags
    flops = max(indices - results, 0) * dim + weighted * indices * dim + mean * results * dim
    row_bytes = dim * weight_bytes
    positions_bytes = (indices + (bags or 0)) * index_bytes
    read_bytes = indices * row_bytes + positions_bytes + weighted * indices * _WEIGHT_OF_LOOKUP_BYTES
    gather = Gather(indices, row_bytes, table_bytes)
    return Cost(float(flops), read_bytes, results * dim * output_bytes, "fp32", "embedding_bag", gather)


def embedding_backward_cost(
    indices: float,
    bags: float | None,
    dim: float,
    weight_bytes: float = 4,
    state_bytes_per_row: float = 0,
    unique_share: float = 1.0,
    *,
    update_flops: float = 2.0,
    grad_bytes: float = 4,
    index_bytes: float = 8,
    table_bytes: float | None = None,
) -> Cost:
    """Add the gradients of `bags` (None: one an index) into the rows looked up and update these, fused.

    Each of the unique = `unique_share` x indices distinct rows (at most all rows of `table_bytes`) is read, changed and
    written once, with its `state_bytes_per_row`. Gradients of a row that occurs twice are added, (indices - unique) dim
    additions; the update takes `update_flops` an element (2: scale, subtract).
    """
    row_bytes = dim * weight_bytes
    unique = indices * unique_share
    if table_bytes is not None and row_bytes:
        unique = min(unique, table_bytes / row_bytes)
    flops = (indices - unique) * dim + unique * dim * update_flops
    updated_bytes = unique * (row_bytes + state_bytes_per_row)
    grad_rows = indices if bags is None else bags
    read_bytes = grad_rows * dim * grad_bytes + (indices + (bags or 0)) * index_bytes + updated_bytes
    gather = Gather(unique, row_bytes + state_bytes_per_row, table_bytes)
    return Cost(float(flops), read_bytes, updated_bytes, "fp32", "table_batched_embedding_backward", gather)


@model(
    "embedding",
    title="Embedding lookup",
    operators=aten("embedding"),
    formula="F = 0; Q = L (s D + i) + s L D",
    symbols="L indices, D elements a row, s and i bytes of an element and an index",
    source="definition",
    limits="Every lookup reads its row, also one that a cache holds.",
)
def embedding(call: Call) -> Cost:
    """embedding(weight, indices, ...)."""
    weight, indices = call.tensor(0), call.tensor(1)
    rows, size = indices.numel, weight.item_bytes
    row_bytes = weight.shape[1] * size
    gather = Gather(rows, row_bytes, weight.bytes)
    return Cost(0.0, rows * row_bytes + indices.bytes, rows * row_bytes, weight.dtype, gather=gather)


@model(
    "embedding_bag",
    title="Embedding lookup with pooling",
    operators=aten("_embedding_bag", "_embedding_bag_forward_only"),
    formula="F = (L - B) D, + L D weighted, + B D for a mean; Q = L (s D + i) + i B + s B D",
    symbols="L indices, B bags, D elements a row, s and i bytes of an element and an index",
    source="(length - 1) D additions for each bag, summed over bags",
    limits="No bag is empty. Every lookup reads its row, also one that a cache holds. Bookkeeping outputs (which bag "
    "an index is in) are not counted.",
)
def embedding_bag(call: Call) -> Cost:
    """_embedding_bag(weight, indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights,
    include_last_offset, padding_idx)."""
    weight, indices, offsets = call.tensor(0), call.tensor(1), call.tensor(2)
    bags = offsets.numel - (call.value(7) is True)
    return embedding_forward_cost(
        indices.numel, bags, weight.shape[1], weight.item_bytes, output_bytes=weight.item_bytes,
        index_bytes=indices.item_bytes, weighted=call.optional(6) is not None, mean=call.value(4) == _PYTORCH_MEAN,
        table_bytes=weight.bytes,
    )  # fmt: skip


@model(
    "embedding_dense_backward",
    title="Embedding lookup, dense backward",
    operators=aten("embedding_dense_backward", "_embedding_bag_dense_backward"),
    formula="F = L D; Q = gradients that come in + indices + s R D",
    symbols="L indices, D elements a row, R rows of the table (whose whole gradient is written), s bytes of an element",
    source="one addition for each element looked up",
    limits="The sorting of indices, and reading what was added before, are not counted.",
)
def embedding_dense_backward(call: Call) -> Cost:
    """embedding_dense_backward(grad, indices, rows, ...), _embedding_bag_dense_backward(grad, indices, bag_of_index,
    bag_size, maximum_indices, rows, ...)."""
    grad, indices = call.tensor(0), call.tensor(1)
    bagged = call.operator.startswith("_embedding_bag")
    rows, dim = call.integer(5 if bagged else 2), grad.shape[-1]
    read_bytes = grad.bytes + indices.bytes * (2 if bagged else 1)
    return Cost(float(indices.numel * dim), read_bytes, rows * dim * grad.item_bytes, grad.dtype)
