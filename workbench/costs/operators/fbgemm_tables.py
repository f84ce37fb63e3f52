"""FBGEMM's table-batched embeddings: the lookups of many tables in one kernel, and their fused updates.

The `..._function_pt2` operators hand everything on to a `..._pt2_wrapper` inside them and, unlike it, do not show the
tables' dtype: the wrapper has the model, they count as views (views.py).
"""

import re

from workbench.costs import fbgemm_layouts as layouts
from workbench.costs.call import Call, Unknown
from workbench.costs.model import Cost, model
from workbench.costs.operators.embedding import embedding_backward_cost, embedding_forward_cost

_STATE_BYTES = 4  # optimizer states are fp32
# optimizer -> (states of a row's size, states of one value a row, FLOPs an element). Adagrad: square, add; root, add,
# divide, scale, subtract. Row-wise: square, add; scale, subtract. Adam: as in optimizers.py.
_OPTIMIZERS = {
    "sgd": (0, 0, 2),
    "adagrad": (1, 0, 7),
    "rowwise_adagrad": (0, 1, 4),
    "rowwise_adagrad_with_counter": (0, 3, 4),
    "adam": (2, 0, 13),
    "partial_rowwise_adam": (1, 1, 10),
}
_SYMBOLS = (
    "L indices, B bags (tables x batch), D mean elements a row over tables; s, i, o bytes of an element of the tables, "
    "an index and an element of the output"
)
_EVERY_LOOKUP = (
    "Tables of different D are taken as looked up equally often. Every lookup reads its row, also one in a cache."
)


@model(
    "table_batched_embedding",
    title="Table-batched embedding lookup with pooling",
    operators=tuple(layouts.FORWARD),
    formula="F = (L - B) D, + L D weighted, + B D for a mean, 0 without pooling; Q = L (s D + i) + i B + o B D",
    symbols=_SYMBOLS,
    source="(length - 1) D additions for each bag, summed over bags; arguments by the schemas of FBGEMM 1.8 and 0.2",
    limits=f"No bag is empty. {_EVERY_LOOKUP} Output and sums are taken as fp32. Where the trace does not tell D "
    "(older PyTorch), it is weights / states of a row-wise optimizer, with another optimizer the cost is unknown.",
)
def table_batched_embedding(call: Call) -> Cost:
    """split_embedding_codegen_forward_unweighted_pt2_wrapper(...) and its kin."""
    lookup = layouts.read(call, layouts.FORWARD)
    return embedding_forward_cost(
        lookup.indices.numel,
        lookup.bags,
        lookup.dim,
        lookup.weights.item_bytes,
        index_bytes=lookup.indices.item_bytes,
        weighted=lookup.weighted,
        mean=lookup.mean,
        table_bytes=lookup.weights.bytes,
    )


@model(
    "table_batched_embedding_backward",
    title="Table-batched embedding, backward fused with the update",
    operators=tuple(layouts.BACKWARD),
    formula="F = (L - U) D + c U D; Q = g B D + i (L + B) + 2 U (s D + state)",
    symbols=_SYMBOLS + "; g bytes of an element of the gradient, U distinct rows, c operations an element and state "
    "bytes a row by optimizer (SGD 2 and 0, row-wise Adagrad 4 and 4, Adagrad 7 and 4 D, Adam 13 and 8 D)",
    source="the gradient read once, then one read and one write of each distinct row and its state; operations counted "
    "from each optimizer's definition",
    limits="How many rows are distinct is not recorded: U = L, at most all rows, an upper bound "
    "(embedding_backward_cost takes a measured share). The sorting of indices, weights of lookups and weight decay are "
    "not counted.",
)
def table_batched_embedding_backward(call: Call) -> Cost:
    """split_embedding_backward_codegen_rowwise_adagrad_cpu(...) and its kin."""
    optimizer = re.search(r"backward_codegen_(.+?)_(?:cpu|unweighted|weighted)", call.name)[1]
    if optimizer not in _OPTIMIZERS:
        raise Unknown(f"optimizer {optimizer}")
    states, values_a_row, update_flops = _OPTIMIZERS[optimizer]
    lookup = layouts.read(call, layouts.BACKWARD)
    return embedding_backward_cost(
        lookup.indices.numel,
        lookup.bags,
        lookup.dim,
        lookup.weights.item_bytes,
        _STATE_BYTES * (states * lookup.dim + values_a_row),
        update_flops=update_flops,
        grad_bytes=call.tensor(0).item_bytes,
        index_bytes=lookup.indices.item_bytes,
        table_bytes=lookup.weights.bytes,
    )


@model(
    "compiled_embedding_backward",
    title="Table-batched embedding, backward fused with row-wise Adagrad",
    operators=("workbench::rowwise_adagrad_backward",),
    formula="F = (L - U) D + 4 U D; Q = g B D + i (L + B) + 2 U (s D + 4)",
    symbols=_SYMBOLS + "; g bytes of an element of the gradient, U distinct rows",
    source="as FBGEMM's (table_batched_embedding_backward)",
    limits="How many rows are distinct is not recorded: U = L, at most all rows, an upper bound. The sorting of "
    "indices is not counted.",
)
def compiled_embedding_backward(call: Call) -> Cost:
    """rowwise_adagrad_backward(gradient, weights, a moment of each row, indices, offsets, ...)."""
    gradient, weights, moments, indices, offsets = map(call.tensor, range(5))
    if not moments.numel:
        raise Unknown("no table has a row")
    dim = weights.numel / moments.numel
    states, values_a_row, update_flops = _OPTIMIZERS["rowwise_adagrad"]
    return embedding_backward_cost(
        indices.numel, offsets.numel - 1, dim, weights.item_bytes, _STATE_BYTES * (states * dim + values_a_row),
        update_flops=update_flops, grad_bytes=gradient.item_bytes, index_bytes=indices.item_bytes,
        table_bytes=weights.bytes,
    )  # fmt: skip


@model(
    "sample_weights_backward",
    title="Table-batched embedding, gradient of the weights of lookups",
    operators=tuple(layouts.SAMPLE_WEIGHTS_BACKWARD),
    formula="F = 2 L D; Q = g B D + L (s D + i) + i B + 4 L",
    symbols=_SYMBOLS + "; g bytes of an element of the gradient",
    source="a dot product of a row and its bag's gradient for each lookup",
    limits=_EVERY_LOOKUP,
)
def sample_weights_backward(call: Call) -> Cost:
    """split_embedding_codegen_grad_indice_weights_cpu(...) and its kin."""
    lookup = layouts.read(call, layouts.SAMPLE_WEIGHTS_BACKWARD)
    count = lookup.indices.numel
    forward = embedding_forward_cost(
        count,
        lookup.bags,
        lookup.dim,
        lookup.weights.item_bytes,
        index_bytes=lookup.indices.item_bytes,
        table_bytes=lookup.weights.bytes,
    )
    read_bytes = forward.read_bytes + call.tensor(0).bytes
    return Cost(2.0 * count * lookup.dim, read_bytes, 4.0 * count, "fp32", gather=forward.gather)


# format -> (bytes of an element, bytes of scale and bias in each row)
_ROW_FORMATS = {"int2": (0.25, 4), "int4": (0.5, 4), "int8": (1, 4), "fp16": (2, 0), "fp32": (4, 0)}
_OUTPUT_BYTES = {0: 4, 1: 2, 5: 2}  # FBGEMM's SparseType: fp32, fp16, bf16


@model(
    "quantized_table_batched_embedding",
    title="Quantised table-batched embedding lookup with pooling",
    operators=tuple(layouts.QUANTIZED),
    formula="F = (L - B) D, + 2 L D quantised, + L D weighted, + B D for a mean; Q = L (q D + e + i) + i B + o B D",
    symbols=_SYMBOLS + "; q bytes of a quantised element, e of a quantised row's scale and bias (4)",
    source="as the unquantised lookup, and a multiply-add to restore each element",
    limits=f"No bag is empty. {_EVERY_LOOKUP} All tables have one row format, else the cost is unknown. Padding of "
    "rows is not counted.",
)
def quantized_table_batched_embedding(call: Call) -> Cost:
    """int_nbit_split_embedding_codegen_lookup_function(...)."""
    lookup = layouts.read(call, layouts.QUANTIZED)
    formats = [name for name in _ROW_FORMATS if lookup.values[name]]
    if len(formats) != 1:
        raise Unknown("tables of several row formats, or of none that was recorded")
    item_bytes, extra_bytes = _ROW_FORMATS[formats[0]]
    count, dim = lookup.indices.numel, lookup.dim
    pooled = embedding_forward_cost(
        count,
        lookup.bags,
        dim,
        item_bytes + extra_bytes / dim,
        output_bytes=_OUTPUT_BYTES[lookup.values["output_dtype"]],
        index_bytes=lookup.indices.item_bytes,
        weighted=lookup.weighted,
        mean=lookup.mean,
        table_bytes=lookup.weights.bytes,
    )
    restoring = 2.0 * count * dim if extra_bytes else 0.0
    return Cost(pooled.flops + restoring, pooled.read_bytes, pooled.write_bytes, "fp32", gather=pooled.gather)


@model(
    "bounds_check",
    title="Bounds check of indices",
    operators=("fbgemm::bounds_check_indices",),
    formula="F = 2 L; Q = i (L + B) + 8 T",
    symbols="L indices, B bags, T tables, i bytes of an index",
    source="two comparisons an index",
    limits="No index is out of bounds: such a one would be written.",
)
def bounds_check(call: Call) -> Cost:
    """bounds_check_indices(rows_per_table, indices, offsets, mode, ...)."""
    rows, indices, offsets = call.tensor(0), call.tensor(1), call.tensor(2)
    return Cost(2.0 * indices.numel, rows.bytes + indices.bytes + offsets.bytes, 0.0, indices.dtype)
