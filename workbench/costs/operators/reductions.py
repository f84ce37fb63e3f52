"""Reductions over all elements or some dimensions, and running sums."""

from workbench.costs.call import Call, Tensor
from workbench.costs.model import Cost, aten, model
from workbench.costs.operators.elementwise import combined

# operator -> FLOPs for each element that goes in, and for each result.
_OPERATIONS = {
    "sum": (1, 0), "nansum": (2, 0), "mean": (1, 1), "prod": (1, 0), "max": (1, 0), "min": (1, 0), "amax": (1, 0),
    "amin": (1, 0), "aminmax": (2, 0), "argmax": (1, 0), "argmin": (1, 0), "any": (1, 0), "all": (1, 0),
    "count_nonzero": (1, 0), "norm": (2, 1), "linalg_vector_norm": (2, 1), "var": (4, 1), "std": (4, 2),
    "var_mean": (4, 2), "std_mean": (4, 3),
}  # fmt: skip
# Where the dimensions stand; the other operators have them at 1.
_DIMENSIONS_AT = {"norm": 2, "linalg_vector_norm": 2}


@model(
    "reduction",
    title="Reduction",
    operators=aten(*_OPERATIONS),
    formula="F = c (N - M) + e M; Q = s N + results",
    symbols="N elements in, M results; c and e operations by operator (sum 1 and 0, mean 1 and 1, norm 2 and 1, var 4 "
    "and 1); max and min over dimensions also write 8 B indices",
    source="definitions; N - M combinations leave M results",
    limits="Where the trace does not tell the dimensions (older PyTorch), one result is assumed: writes are then a "
    "lower bound. A dtype argument is not seen.",
)
def reduction(call: Call) -> Cost:
    """sum(x, dims, keepdim, dtype), max(x), max(x, dim, keepdim), linalg_vector_norm(x, order, dims, ...)."""
    x, other = call.tensor(0), call.optional(1)
    if other is not None and call.operator in ("max", "min"):
        return combined(call, [x, other])
    results = _results(call, x)
    each, at_end = _OPERATIONS[call.operator]
    flops = each * max(x.numel - results, 0) + at_end * results
    return Cost(float(flops), x.bytes, results * _result_bytes(call, x), x.dtype)


def _results(call: Call, x: Tensor) -> int:
    """Elements left of `x`: one where all dimensions (none named, or not recorded) are reduced."""
    if len(call.inputs) < 3 and call.operator != "count_nonzero":
        return 1  # sum(x, dtype), var(x, unbiased), max(x): no dimensions among the arguments
    given = call.value(_DIMENSIONS_AT.get(call.operator, 1), ())
    axes = {axis % len(x.shape) for axis in (given if isinstance(given, tuple) else (given,))}
    return Tensor(tuple(size for axis, size in enumerate(x.shape) if axis not in axes)).numel if axes else 1


def _result_bytes(call: Call, x: Tensor) -> int:
    """Bytes of one result, with its index or its companion where the operator returns one."""
    if call.operator in ("any", "all"):
        return 1
    if call.operator in ("argmax", "argmin", "count_nonzero"):
        return 8
    if call.operator in ("max", "min"):
        return x.item_bytes + (8 if len(call.inputs) > 1 else 0)
    return x.item_bytes * (2 if call.operator in ("aminmax", "var_mean", "std_mean") else 1)


@model(
    "norm_list",
    title="Norms of a list of tensors",
    operators=aten("_foreach_norm"),
    formula="F = 2 N; Q = s (N + T)",
    symbols="N elements of all T tensors, s bytes of an element",
    source="definition: square, add",
)
def norm_list(call: Call) -> Cost:
    """_foreach_norm(tensors, order)."""
    tensors = call.tensor_list(0)
    read_bytes = sum(t.bytes for t in tensors)
    return Cost(2.0 * sum(t.numel for t in tensors), read_bytes, sum(t.item_bytes for t in tensors), tensors[0].dtype)


@model(
    "running_sum",
    title="Running sum or product",
    operators=(*aten("cumsum", "cumprod", "cummax", "cummin"), "fb*::asynchronous_*_cumsum"),
    formula="F = N; Q = 2 s N",
    symbols="N elements, s bytes of an element",
    source="definition; a serial scan",
    limits="A parallel scan does up to twice the additions. The one element more of a complete sum is not counted.",
)
def running_sum(call: Call) -> Cost:
    """cumsum(x, dim, dtype), fbgemm::asynchronous_complete_cumsum(lengths)."""
    x = call.tensor(0)
    return Cost(float(x.numel), x.bytes, x.bytes, x.dtype)
