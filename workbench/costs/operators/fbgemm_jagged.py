"""FBGEMM's jagged tensors: `values` [N, D] are the rows of B sequences of different length, told apart by `offsets`
[B + 1]; dense forms are padded to [B, longest, D]."""

import math

from workbench.costs.call import Call, Tensor, Unknown
from workbench.costs.model import Cost, Gather, model

_SYMBOLS = "N rows of D elements in B sequences, P padded length, s bytes of an element"
_INDEX_BYTES = 8


@model(
    "jagged_to_dense",
    title="Jagged to padded dense",
    operators=(
        "fbgemm::jagged_to_padded_dense",
        "fbgemm::jagged_to_padded_dense_forward",
        "fbgemm::jagged_2d_to_dense",
        "fbgemm::jagged_1d_to_dense",
    ),
    formula="F = 0; Q = s N D + offsets + s B P D",
    symbols=_SYMBOLS,
    source="definition",
    limits="No sequence is longer than P.",
)
def jagged_to_dense(call: Call) -> Cost:
    """jagged_to_padded_dense(values, [offsets...], longest, padding), jagged_2d_to_dense(values, offsets, longest)."""
    values = call.tensor(0)
    offsets = call.optional_list(1) or (call.tensor(1),)
    dense = (offsets[0].numel - 1) * math.prod(call.integers(2)) * math.prod(values.shape[1:])
    read_bytes = values.bytes + _offsets_bytes(offsets)
    return Cost(0.0, read_bytes, dense * values.item_bytes, values.dtype)


@model(
    "dense_to_jagged",
    title="Padded dense to jagged",
    operators=(
        "fbgemm::dense_to_jagged",
        "fbgemm::dense_to_jagged_forward",
        "fbgemm::jagged_to_padded_dense_backward",
    ),
    formula="F = 0; Q = 2 s N D + offsets",
    symbols=_SYMBOLS,
    source="definition: only rows that exist are read",
    limits="Unknown where the call does not name N.",
)
def dense_to_jagged(call: Call) -> Cost:
    """dense_to_jagged(dense, [offsets...], N)."""
    dense, offsets = call.tensor(0), call.tensor_list(1)
    rows_bytes = call.integer(2) * math.prod(dense.shape[1 + len(offsets) :]) * dense.item_bytes
    return Cost(0.0, rows_bytes + _offsets_bytes(offsets), rows_bytes, dense.dtype)


@model(
    "jagged_elementwise",
    title="Jagged with dense, elementwise",
    operators=(
        "fbgemm::jagged_dense_elementwise_add",
        "fbgemm::jagged_dense_elementwise_add_jagged_output",
        "fbgemm::jagged_dense_elementwise_mul",
        "fbgemm::jagged_dense_elementwise_mul_forward",
    ),
    formula="F = N D; Q = 3 s N D + offsets; with a dense result s (N D + 2 B P D) + offsets",
    symbols=_SYMBOLS,
    source="one operation for each jagged element",
    limits="No sequence is longer than P.",
)
def jagged_elementwise(call: Call) -> Cost:
    """jagged_dense_elementwise_add(values, [offsets...], dense)."""
    values, offsets, dense = call.tensor(0), call.tensor_list(1), call.tensor(2)
    partner_bytes = dense.bytes if call.operator.endswith("elementwise_add") else values.bytes
    read_bytes = values.bytes + partner_bytes + _offsets_bytes(offsets)
    return Cost(float(values.numel), read_bytes, partner_bytes, values.dtype)


@model(
    "jagged_product",
    title="Matrix product of jagged tensors",
    operators=(
        "fbgemm::jagged_dense_bmm",
        "fbgemm::jagged_dense_bmm_forward",
        "fbgemm::jagged_jagged_bmm",
        "fbgemm::jagged_jagged_bmm_forward",
        "fbgemm::batched_dense_vec_jagged_2d_mul",
        "fbgemm::batched_dense_vec_jagged_2d_mul_forward",
    ),
    formula="F = 2 N D T; Q = s (N D + second factor + result) + offsets; result N T (dense factor) or B D T (jagged)",
    symbols=_SYMBOLS + ", T columns of the second factor (1 for a vector a sequence, whose factor counts N)",
    source="one multiply-add for each row, element and column",
    limits="No sequence is longer than P.",
)
def jagged_product(call: Call) -> Cost:
    """jagged_dense_bmm(values, offsets, dense [B, D, T], longest), jagged_jagged_bmm(x [N, D], y [N, T], offsets,
    longest), batched_dense_vec_jagged_2d_mul(vectors [B, longest], values, offsets)."""
    if "vec" in call.operator:
        vectors, values, offsets = call.tensor(0), call.tensor(1), call.tensor(2)
        heads = vectors.shape[0] // (offsets.numel - 1)
        factor, columns, results = values.shape[0] * heads, 1, (offsets.numel - 1) * values.shape[1]
    elif "jagged_jagged" in call.operator:
        values, other, offsets = call.tensor(0), call.tensor(1), call.tensor(2)
        factor, columns = other.numel, other.shape[1]
        results = (offsets.numel - 1) * values.shape[1] * columns
    else:
        values, offsets, dense = call.tensor(0), call.tensor(1), call.tensor(2)
        factor, columns = dense.numel, dense.shape[2]
        results = values.shape[0] * columns
    read_bytes = (values.numel + factor) * values.item_bytes + offsets.bytes
    return Cost(2.0 * values.numel * columns, read_bytes, results * values.item_bytes, values.dtype)


@model(
    "jagged_softmax",
    title="Jagged softmax",
    operators=("fbgemm::jagged_softmax", "fbgemm::jagged_softmax_forward", "fbgemm::jagged_softmax_backward"),
    formula="F = 5 N D, backward 4 N D; Q = 2 s N D + offsets, backward 3 s N D + offsets",
    symbols=_SYMBOLS,
    source="as the dense softmax",
    limits="No sequence is longer than P.",
)
def jagged_softmax(call: Call) -> Cost:
    """jagged_softmax(values, offsets, longest), jagged_softmax_backward(grad, output, offsets, longest)."""
    backward = call.operator.endswith("backward")
    values, offsets = call.tensor(0), call.tensor(1 + backward)
    read_bytes = values.bytes * (1 + backward) + offsets.bytes
    return Cost((4.0 if backward else 5.0) * values.numel, read_bytes, values.bytes, values.dtype)


@model(
    "jagged_index",
    title="Select or add sequences of a jagged tensor",
    operators=(
        "fbgemm::jagged_index_select_2d_forward",
        "fbgemm::jagged_index_add_2d_forward",
        "fbgemm::keyed_jagged_index_select_dim1_forward",
    ),
    formula="F = 0, adding N D; Q = index + 2 s N D, adding 2 s N D + s R D",
    symbols=_SYMBOLS + "; N counts the rows selected or added, R the rows of the result that is added into",
    source="definition",
    limits="Unknown where the call does not name N. Rows of one sequence lie together and gather as one piece.",
)
def jagged_index(call: Call) -> Cost:
    """jagged_index_select_2d_forward(values, index, in_offsets, out_offsets, N), jagged_index_add_2d_forward(values,
    index, in_offsets, out_offsets, N, R), keyed_jagged_index_select_dim1_forward(values, lengths, offsets, index,
    batch, weights, N)."""
    values = call.tensor(0)
    row_bytes = math.prod(values.shape[1:]) * values.item_bytes
    if "add" in call.operator:
        rows_bytes = call.integer(4) * row_bytes
        read_bytes = rows_bytes + _offsets_bytes([call.tensor(position) for position in (1, 2, 3)])
        return Cost(rows_bytes / values.item_bytes, read_bytes, call.integer(5) * row_bytes, values.dtype)
    keyed = call.operator.startswith("keyed")
    index, count = call.tensor(3 if keyed else 1), call.integer(6 if keyed else 4)
    sequences = index.numel
    if keyed:
        sequences = index.numel * call.tensor(1).numel // call.integer(4)
        row_bytes += call.optional(5).item_bytes if call.optional(5) else 0
    if not sequences:
        raise Unknown("no sequence is selected")
    gather = Gather(sequences, count * row_bytes / sequences, values.bytes)
    return Cost(0.0, index.bytes + count * row_bytes, count * row_bytes, values.dtype, gather=gather)


def _offsets_bytes(offsets: list[Tensor] | tuple[Tensor, ...]) -> int:
    """Offsets in a list show no dtype: FBGEMM's are of 8 B."""
    return sum(t.numel for t in offsets) * _INDEX_BYTES
